-- ngx.semaphore: waiting for posts within a worker.
local mt = { __index = {} }
local semaphore = mt.__index
local M = {}

function M.new(count)
  return setmetatable({ posted = count or 0 }, mt)
end
function semaphore:post(count)
  self.posted = self.posted + (count or 1)
  return true
end
function semaphore:wait(timeout)
  local deadline = ngx.now() + timeout
  while self.posted <= 0 do
    if ngx.now() >= deadline then
      return nil, "timeout"
    end
    ngx.sleep(0.002)
  end
  self.posted = self.posted - 1
  return true
end
function semaphore:count()
  return self.posted
end

return M
