-- socket: the part of LuaSocket that plugins use, over the sockets of the event loop: nothing here blocks the worker.
local M = { _VERSION = "LuaSocket 3.1.0", dns = {}, BLOCKSIZE = 2048 }

function M.gettime() return ngx.now() end
function M.sleep(seconds) ngx.sleep(math.max(0, seconds)) end

function M.tcp() return ngx.socket.tcp() end
M.tcp4, M.tcp6 = M.tcp, M.tcp
function M.udp() return ngx.socket.udp() end
M.udp4, M.udp6 = M.udp, M.udp
function M.connect(host, port)
  local sock = ngx.socket.tcp()
  local ok, err = sock:connect(host, port)
  if not ok then
    return nil, err
  end
  return sock
end

function M.dns.toip(name)
  return kong.dns.toip(name)
end
function M.dns.gethostname() return kong.node.get_hostname() end

-- Ends a function on the first fault, having called a finalizer.
local function thrown(err) return { fault = err } end
function M.newtry(finalizer)
  return function(ok, ...)
    if not ok then
      if finalizer then
        pcall(finalizer)
      end
      error(thrown((...)), 0)
    end
    return ok, ...
  end
end
M.try = M.newtry()
local function settled(ok, first, ...)
  if ok then
    return first, ...
  elseif type(first) == "table" and first.fault ~= nil then
    return nil, first.fault
  end
  error(first, 0)
end
function M.protect(f)
  return function(...) return settled(pcall(f, ...)) end
end
function M.skip(count, ...) return select(count + 1, ...) end

return M
