-- kong.tools.time: the clock in several units.
local M = {}
function M.get_now_ms() return math.floor(ngx.now() * 1000) end
function M.get_updated_now_ms() return M.get_now_ms() end
function M.get_updated_now() return ngx.now() end
function M.get_start_time_ms() return kong.request.get_start_time() end
function M.time_ns() return ngx.now() * 1e9 end
M.get_updated_monotonic_ms = M.get_now_ms
return M
