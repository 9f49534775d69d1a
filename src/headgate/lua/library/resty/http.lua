-- resty.http: an HTTP/1.1 client over ngx.socket.tcp. Bodies are read when asked for, whole or in pieces.
local tostring, tonumber, type, pairs, ipairs, concat = tostring, tonumber, type, pairs, ipairs, table.concat
local setmetatable, error, lower, rawget = setmetatable, error, string.lower, rawget

local M = { _VERSION = "0.17.2", HTTP = { [1.0] = " HTTP/1.0\r\n", [1.1] = " HTTP/1.1\r\n" } }
local mt = { __index = M }
local MOST_HEADERS, MOST_BODY_BYTES = 1000, 128 * 1024 * 1024

-- Headers of any spelling find their field.
local headers_mt = {}
function headers_mt.__index(headers, name)
  if type(name) ~= "string" then
    return nil
  end
  local wanted = lower(name):gsub("_", "-")
  for key, value in pairs(headers) do
    if lower(key) == wanted then
      return value
    end
  end
end

function M.new()
  local sock, err = ngx.socket.tcp()
  if not sock then
    return nil, err
  end
  return setmetatable({ sock = sock, keepalive = true }, mt)
end

function M:set_timeout(timeout)
  self.sock:settimeout(timeout)
  return true
end
function M:set_timeouts(connect, send, read)
  self.sock:settimeouts(connect, send, read)
  return true
end
function M.debug() end

function M:parse_uri(uri, query_in_path)
  if query_in_path == nil then
    query_in_path = true
  end
  local scheme, rest = uri:match("^(https?)://(.+)$")
  if not scheme then
    local bare = uri:match("^//(.+)$")
    if not bare then
      return nil, "bad uri: " .. tostring(uri)
    end
    scheme, rest = "http", bare
  end
  local authority, path = rest:match("^([^/?#]*)(.*)$")
  path = path:gsub("#.*$", "")
  local host, port = authority:match("^(%[[^%]]+%]):?(%d*)$")
  if not host then
    host, port = authority:match("^([^:]+):?(%d*)$")
  end
  if not host or host == "" then
    return nil, "bad uri: " .. tostring(uri)
  end
  port = tonumber(port) or (scheme == "https" and 443 or 80)
  local only, query = path:match("^([^?]*)%??(.*)$")
  if only == "" then
    only = "/"
  end
  if query_in_path and query ~= "" then
    only = only .. "?" .. query
  end
  return { scheme, host, port, only, query }
end

function M:connect(options, port, ...)
  if type(options) ~= "table" then
    self.host, self.port, self.scheme = options, port, nil
    local ok, err = self.sock:connect(options, port, ...)
    return ok, err
  end
  local scheme = options.scheme or "http"
  local host, number = options.host, options.port or (scheme == "https" and 443 or 80)
  if options.proxy_opts and options.proxy_opts.http_proxy then
    return nil, "proxies are not supported"
  end
  self.host, self.port, self.scheme = host, number, scheme
  local pool = options.pool or (scheme .. ":" .. tostring(host) .. ":" .. number .. ":" ..
    tostring(options.ssl_server_name) .. ":" .. tostring(options.ssl_verify ~= false))
  local ok, err
  if tostring(host):find("^unix:") then
    ok, err = self.sock:connect(host, { pool = pool })
  else
    ok, err = self.sock:connect((host:gsub("^%[", ""):gsub("%]$", "")), number, { pool = pool })
  end
  if not ok then
    return nil, err
  end
  if scheme == "https" then
    local reused = self.sock:getreusedtimes()
    if not reused or reused == 0 then
      ok, err = self.sock:sslhandshake(nil, options.ssl_server_name or host, options.ssl_verify ~= false)
      if not ok then
        return nil, err
      end
    end
  end
  return 1, nil, nil
end

function M:ssl_handshake(session, server_name, verify)
  return self.sock:sslhandshake(session, server_name, verify)
end
function M:set_keepalive(...)
  if self.keepalive then
    return self.sock:setkeepalive(...)
  end
  self.sock:close()
  return 2, "connection must be closed"
end
function M:get_reused_times()
  return self.sock:getreusedtimes()
end
function M:close()
  return self.sock:close()
end

local function is_safe(text)
  return not tostring(text):find("[\r\n%z]")
end

local function send_request(self, params)
  local method = params.method or "GET"
  local path = params.path or "/"
  local query = params.query
  if type(query) == "table" then
    query = ngx.encode_args(query)
  end
  if query and query ~= "" then
    path = path .. (query:sub(1, 1) == "?" and "" or "?") .. query
  end
  if not is_safe(method) or not is_safe(path) then
    return nil, "request line must not have line breaks in it"
  end
  local headers = setmetatable({}, headers_mt)
  for name, value in pairs(params.headers or {}) do
    headers[name] = value
  end
  local body = params.body
  if type(body) == "table" then
    body = concat(body)
  end
  if not headers["Host"] then
    local is_default = (self.scheme == "https" and self.port == 443) or (self.scheme ~= "https" and self.port == 80)
    headers["Host"] = is_default and self.host or (tostring(self.host) .. ":" .. tostring(self.port))
  end
  if not headers["User-Agent"] then
    headers["User-Agent"] = "headgate-resty-http"
  end
  if type(body) == "string" and not headers["Content-Length"] and not headers["Transfer-Encoding"] then
    headers["Content-Length"] = #body
  elseif type(body) == "function" and not headers["Content-Length"] then
    headers["Transfer-Encoding"] = "chunked"
  elseif body == nil and (method == "POST" or method == "PUT" or method == "PATCH") and not headers["Content-Length"] then
    headers["Content-Length"] = 0
  end
  if params.version == 1.0 and not headers["Connection"] then
    headers["Connection"] = "close"
  end
  local lines = { method .. " " .. path .. (M.HTTP[params.version or 1.1] or M.HTTP[1.1]) }
  for name, value in pairs(headers) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      if not is_safe(name) or not is_safe(one) then
        return nil, "header " .. tostring(name):gsub("[%c]", "?") .. " must not have line breaks in it"
      end
      lines[#lines + 1] = name .. ": " .. tostring(one) .. "\r\n"
    end
  end
  lines[#lines + 1] = "\r\n"
  if type(body) == "string" then
    lines[#lines + 1] = body
  end
  local sent, err = self.sock:send(concat(lines))
  if not sent then
    return nil, err
  end
  if type(body) == "function" then
    while true do
      local piece, fault = body()
      if fault then
        return nil, fault
      elseif piece == nil then
        break
      end
      if headers["Transfer-Encoding"] then
        piece = ("%x\r\n"):format(#piece) .. piece .. "\r\n"
      end
      sent, err = self.sock:send(piece)
      if not sent then
        return nil, err
      end
    end
    if headers["Transfer-Encoding"] then
      sent, err = self.sock:send("0\r\n\r\n")
      if not sent then
        return nil, err
      end
    end
  end
  return true
end

local function receive_headers(sock)
  local headers = setmetatable({}, headers_mt)
  for _ = 1, MOST_HEADERS do
    local line, err = sock:receive("*l")
    if not line then
      return nil, err
    elseif line == "" then
      return headers
    end
    local name, value = line:match("^([^:%s]+):%s*(.-)%s*$")
    if not name then
      return nil, "malformed header"
    end
    local earlier = rawget(headers, name)
    if earlier == nil then
      headers[name] = value
    elseif type(earlier) == "table" then
      earlier[#earlier + 1] = value
    else
      headers[name] = { earlier, value }
    end
  end
  return nil, "too many headers"
end

-- Returns a function that gives the body piece by piece.
local function reader_of(self, method, status, headers)
  local sock = self.sock
  if method == "HEAD" or status == 204 or status == 304 or status < 200 then
    return function() return nil end, false
  end
  local coding = headers["Transfer-Encoding"]
  if type(coding) == "table" then
    coding = concat(coding, ",")
  end
  if coding and lower(coding):find("chunked", 1, true) then
    local is_over = false
    return function()
      if is_over then
        return nil
      end
      local line, err = sock:receive("*l")
      if not line then
        return nil, err
      end
      local size = tonumber(line:match("^%s*(%x+)"), 16)
      if not size then
        return nil, "unable to read chunksize"
      end
      if size == 0 then
        is_over = true
        repeat
          line, err = sock:receive("*l")
        until not line or line == ""
        return nil, err
      end
      local piece
      piece, err = sock:receive(size)
      if not piece then
        return nil, err
      end
      sock:receive(2)
      return piece
    end, true
  end
  local length = tonumber(type(headers["Content-Length"]) == "table" and headers["Content-Length"][1]
    or headers["Content-Length"])
  if length then
    local left = length
    return function(most)
      if left <= 0 then
        return nil
      end
      local size = math.min(left, most or 65536)
      local piece, err = sock:receive(size)
      if not piece then
        return nil, err
      end
      left = left - size
      return piece
    end, length > 0
  end
  self.keepalive = false
  local is_over = false
  return function()
    if is_over then
      return nil
    end
    is_over = true
    return sock:receive("*a")
  end, true
end

local function read_body(response)
  if not response.body_reader then
    return nil, "no body to be read"
  end
  local pieces, size = {}, 0
  while true do
    local piece, err = response.body_reader()
    if err then
      return nil, err, concat(pieces)
    elseif piece == nil then
      return concat(pieces)
    end
    size = size + #piece
    if size > MOST_BODY_BYTES then
      return nil, "body too large"
    end
    pieces[#pieces + 1] = piece
  end
end

local function read_trailers()
  return nil
end

function M:request(params)
  local ok, err = send_request(self, params)
  if not ok then
    return nil, err
  end
  local status, version, reason
  repeat
    local line
    line, err = self.sock:receive("*l")
    if not line then
      return nil, err
    end
    version, status, reason = line:match("^HTTP/(%d%.%d) (%d%d%d) ?(.*)$")
    status = tonumber(status)
    if not status then
      return nil, "couldn't parse HTTP status line: " .. line
    end
    local headers
    headers, err = receive_headers(self.sock)
    if not headers then
      return nil, err
    end
    params.received = headers
  until status >= 200 or status == 101
  local headers = params.received
  params.received = nil
  local connection = headers["Connection"]
  connection = type(connection) == "string" and lower(connection) or ""
  self.keepalive = version == "1.1" and not connection:find("close", 1, true)
    or connection:find("keep-alive", 1, true) ~= nil
  local reader, has_body = reader_of(self, params.method or "GET", status, headers)
  return {
    status = status, reason = reason, headers = headers, has_body = has_body, version = tonumber(version),
    body_reader = reader, read_body = read_body, read_trailers = read_trailers,
  }
end

function M:request_pipeline()
  return nil, "pipelining is not supported"
end

function M:request_uri(uri, params)
  params = setmetatable({}, { __index = params or {} })
  local parsed, err = self:parse_uri(uri, false)
  if not parsed then
    return nil, err
  end
  local scheme, host, port, path, query = unpack(parsed)
  if not rawget(params, "path") and params.path == nil then
    params.path = path
  end
  if params.query == nil and query ~= "" then
    params.query = query
  end
  local ok
  ok, err = self:connect { scheme = scheme, host = host, port = port, pool = params.pool,
    ssl_server_name = params.ssl_server_name, ssl_verify = params.ssl_verify, proxy_opts = params.proxy_opts }
  if not ok then
    return nil, err
  end
  local response
  response, err = self:request(params)
  if not response then
    self:close()
    return nil, err
  end
  local body
  body, err = response:read_body()
  if not body then
    self:close()
    return nil, err
  end
  response.body = body
  if params.keepalive == false then
    self:close()
  else
    self:set_keepalive(params.keepalive_timeout, params.keepalive_pool)
  end
  return response
end

return M
