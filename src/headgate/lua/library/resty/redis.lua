-- resty.redis: the Redis protocol over ngx.socket.tcp. Every command is a method; pipelines, transactions, subscriptions.
local concat, tostring, type, tonumber, select = table.concat, tostring, type, tonumber, select
local null = ngx.null

local M = { _VERSION = "0.29" }
local methods = {}
local MOST_DEPTH = 32

function M.new()
  local sock, err = ngx.socket.tcp()
  if not sock then
    return nil, err
  end
  return setmetatable({ _sock = sock }, {
    __index = function(self, name)
      local known = methods[name]
      if known then
        return known
      end
      local command = function(one, ...)
        return methods.command(one, name, ...)
      end
      rawset(self, name, command)
      return command
    end,
  })
end

function M.add_commands() end

function methods:set_timeout(timeout)
  self._sock:settimeout(timeout)
end
function methods:set_timeouts(connect, send, read)
  self._sock:settimeouts(connect, send, read)
end
function methods:connect(host, port, options)
  if type(port) == "table" then
    options, port = port, nil
  end
  local ok, err = self._sock:connect(host, port or 6379, options)
  if not ok then
    return nil, err
  end
  if options and options.ssl then
    ok, err = self._sock:sslhandshake(false, options.server_name or host, options.ssl_verify)
    if not ok then
      return nil, "failed to do ssl handshake: " .. tostring(err)
    end
  end
  return ok
end
function methods:set_keepalive(...)
  return self._sock:setkeepalive(...)
end
function methods:get_reused_times()
  return self._sock:getreusedtimes()
end
function methods:close()
  return self._sock:close()
end

local function encoded(...)
  local count = select("#", ...)
  local parts = { "*" .. count .. "\r\n" }
  for i = 1, count do
    local text = tostring((select(i, ...)))
    parts[#parts + 1] = "$" .. #text .. "\r\n" .. text .. "\r\n"
  end
  return concat(parts)
end

local function reply(sock, depth)
  local line, err = sock:receive("*l")
  if not line then
    return nil, err
  end
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == "+" then
    return rest
  elseif kind == "-" then
    return false, rest
  elseif kind == ":" then
    return tonumber(rest)
  elseif kind == "$" then
    local size = tonumber(rest)
    if size < 0 then
      return null
    end
    local text
    text, err = sock:receive(size)
    if not text then
      return nil, err
    end
    sock:receive(2)
    return text
  elseif kind == "*" then
    local count = tonumber(rest)
    if count < 0 then
      return null
    elseif depth > MOST_DEPTH then
      return nil, "reply is nested too deeply"
    end
    local values = {}
    for i = 1, count do
      local value
      value, err = reply(sock, depth + 1)
      if value == nil then
        return nil, err
      end
      values[i] = value == false and { false, err } or value
    end
    return values
  end
  return nil, "unknown prefix: \"" .. tostring(kind) .. "\""
end

function methods:command(name, ...)
  local arguments = { ... }
  local request
  if select("#", ...) == 1 and type(arguments[1]) == "table" then
    request = encoded(name, unpack(arguments[1]))
  else
    request = encoded(name, ...)
  end
  if self._pipeline then
    self._pipeline[#self._pipeline + 1] = request
    return "QUEUED"
  end
  local sent, err = self._sock:send(request)
  if not sent then
    return nil, err
  end
  local value
  value, err = reply(self._sock, 0)
  if value == false then
    return false, err
  end
  return value, err
end

function methods:hmset(name, ...)
  if select("#", ...) == 1 then
    local arguments = {}
    for key, value in pairs((...)) do
      arguments[#arguments + 1] = key
      arguments[#arguments + 1] = value
    end
    return methods.command(self, "hmset", name, unpack(arguments))
  end
  return methods.command(self, "hmset", name, ...)
end

function methods:array_to_hash(values)
  local found = {}
  for i = 1, #values, 2 do
    found[values[i]] = values[i + 1]
  end
  return found
end

function methods:init_pipeline()
  self._pipeline = {}
end
function methods:cancel_pipeline()
  self._pipeline = nil
end
function methods:commit_pipeline()
  local requests = self._pipeline
  if not requests then
    return nil, "no pipeline"
  end
  self._pipeline = nil
  local sent, err = self._sock:send(concat(requests))
  if not sent then
    return nil, err
  end
  local values = {}
  for i = 1, #requests do
    local value
    value, err = reply(self._sock, 0)
    if value == nil then
      return nil, err
    end
    values[i] = value == false and { false, err } or value
  end
  return values
end
function methods:read_reply()
  return reply(self._sock, 0)
end

return M
