-- kong.tools.yield: letting others run in a long loop.
local M = {}
local calls = 0
local WAITING = { rewrite = true, access = true, content = true, timer = true, preread = true, init_worker = true }
-- Lets others run; in a loop only now and then. Does nothing where nothing can wait.
function M.yield(in_loop, phase)
  if in_loop then
    calls = calls + 1
    if calls % 1000 ~= 0 then
      return
    end
  end
  if WAITING[phase or ngx.get_phase()] and coroutine.running() then
    ngx.sleep(0)
  end
end
return M
