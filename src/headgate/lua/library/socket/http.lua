-- socket.http: LuaSocket's requests, both forms, over resty.http: they wait without blocking the worker.
local http, ltn12 = require "resty.http", require "ltn12"
local M = { TIMEOUT = 60, USERAGENT = "LuaSocket 3.1.0", _VERSION = "LuaSocket 3.1.0" }

local MOST_REDIRECTS = 5
local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true }

local function body_of(from)
  if from == nil then
    return nil
  end
  local chunks = {}
  local ok, err = ltn12.pump.all(from, (ltn12.sink.table(chunks)))
  if not ok then
    return nil, err
  end
  return table.concat(chunks)
end

local function request(options, redirects)
  local body, err = options.body, nil
  if body == nil then
    body, err = body_of(options.source)
    if err then
      return nil, err
    end
  end
  local headers = { ["User-Agent"] = M.USERAGENT }
  for name, value in pairs(options.headers or {}) do
    headers[name] = tostring(value)
  end
  local uri = options.url
  if uri == nil then
    uri = (options.scheme or "http") .. "://" .. tostring(options.host) .. (options.port and ":" .. options.port or "")
      .. (options.path or options.uri or "/")
  end
  if options.user then
    headers.Authorization = "Basic " .. ngx.encode_base64(options.user .. ":" .. (options.password or ""))
  end
  local client = http.new()
  client:set_timeout((options.timeout or M.TIMEOUT) * 1000)
  local res
  res, err = client:request_uri(uri, { method = options.method or "GET", headers = headers, body = body,
    ssl_verify = options.verify ~= nil and options.verify ~= "none", keepalive = false })
  if not res then
    return nil, err
  end
  local location = res.headers["Location"]
  if location and options.redirect ~= false and REDIRECTS[res.status] and redirects < MOST_REDIRECTS
    and (options.method == nil or options.method == "GET" or options.method == "HEAD") then
    local next_options = {}
    for name, value in pairs(options) do
      next_options[name] = value
    end
    next_options.url = require("socket.url").absolute(uri, location)
    return request(next_options, redirects + 1)
  end
  return res
end

local function lower_headers(res)
  local headers = {}
  for name, value in pairs(res.headers) do
    headers[name:lower()] = type(value) == "table" and table.concat(value, ", ") or value
  end
  return headers
end

-- Returns body (or 1 where a sink takes it), status, headers and status line; nil and a text when it failed.
function M.request(options, body)
  local is_simple = type(options) == "string"
  if is_simple then
    options = { url = options, body = body, method = body and "POST" or "GET",
      headers = body and { ["Content-Type"] = "application/x-www-form-urlencoded" } or nil }
  end
  local res, err = request(options, 0)
  if not res then
    return nil, err
  end
  local line = "HTTP/1.1 " .. res.status .. " " .. (res.reason or "")
  if is_simple then
    return res.body, res.status, lower_headers(res), line
  end
  if options.sink then
    local ok
    ok, err = ltn12.pump.all(ltn12.source.string(res.body), options.sink)
    if not ok then
      return nil, err
    end
  end
  return 1, res.status, lower_headers(res), line
end

return M
