-- Calls functions of `kong` that have a short way into the engine, by that way and by the one through Python, and
-- writes what came of both, a line of JSON each: { phase, call, short, long, is_short_taken }.
local cjson = require "cjson"

local TwoWays = { VERSION = "1.0.0", PRIORITY = 1000 }

local GETTERS = {
  "request.get_scheme", "request.get_host", "request.get_method", "request.get_raw_path", "request.get_path",
  "request.get_path_with_query", "request.get_raw_query", "request.get_port", "client.get_ip",
  "client.get_forwarded_ip", "client.get_port", "client.get_forwarded_port", "response.get_source",
  "response.get_status", "service.response.get_status",
}
local NAMED = { "request.get_header", "response.get_header", "service.response.get_header" }
local LISTS = { "request.get_headers", "response.get_headers", "service.response.get_headers" }
local NAMES = {
  "x-plain", "X_PLAIN", "x-bytes", "x-long", "x-none", "host", "content-type", "x-\255", "", "bad name", 5, true,
}
local VALUES = {
  { "X-One", "plain" }, { "x_under_score", "value" }, { "Host", "other.example" }, { "X-Control", "a\r\nb\1" },
  { "X-Bytes", "\255\254 \195\169" }, { "X-Empty", "" }, { "X-Long", ("v"):rep(6000) },
  { "Transfer-Encoding", "chunked" }, { "transfer_encoding", "chunked" }, { "bad name", "v" }, { "", "v" },
  { ":authority", "v" }, { "x-\255", "v" }, { 5, "v" }, { "X-Number", 5 }, { "X-Boolean", true },
  { "X-Array", { "a", "b" } }, { "X-Nil", nil },
}

local function function_of(path)
  local found = kong
  for part in path:gmatch("[^.]+") do
    found = found[part]
  end
  return found
end

local function position_of(f, name)
  local position = 1
  while true do
    local found, value = debug.getupvalue(f, position)
    if found == name then
      return position, value
    end
    assert(found, "no short way")
    position = position + 1
  end
end

-- Tables as texts: names in order, lists joined, and whether the metatables are those of headers and of arrays.
local function shown(value)
  if type(value) ~= "table" then
    return tostring(value)
  end
  local parts = { tostring(getmetatable(value)) }
  for name, one in pairs(value) do
    local is_list = type(one) == "table"
    parts[#parts + 1] = name .. "=" .. (is_list and tostring(getmetatable(one)) .. table.concat(one, "|") or one)
  end
  table.sort(parts)
  return table.concat(parts, "\n")
end

local function outcome(f, ...)
  local ok, value, text = pcall(f, ...)
  return { ok, shown(value), tostring(text) }
end

-- Both ways of one function: { short, long, whether the short one did without the other }.
local function both(path, each)
  local short = function_of(path)
  local position, long = position_of(short, "other")
  local is_short_taken = true
  debug.setupvalue(short, position, function(...)
    is_short_taken = false
    return long(...)
  end)
  local first = each(short)
  debug.setupvalue(short, position, long)
  return first, each(long), is_short_taken
end

local function write(file, ...)
  local stream = assert(io.open(file, "a"))
  stream:write(cjson.encode({ ... }), "\n")
  stream:close()
end

local function compare_getters(file, phase)
  for _, path in ipairs(GETTERS) do
    write(file, phase, path, both(path, outcome))
  end
  for _, path in ipairs(LISTS) do
    for _, most in ipairs({ false, 1, 1000, "x" }) do
      write(file, phase, path .. " " .. tostring(most), both(path, function(f)
        return outcome(f, most or nil)
      end))
    end
  end
  for _, path in ipairs(NAMED) do
    for _, name in ipairs(NAMES) do
      write(file, phase, path .. " " .. tostring(name), both(path, function(f)
        return outcome(f, name)
      end))
    end
  end
end

local function compare_setters(file, phase, module, headers)
  for _, given in ipairs(VALUES) do
    local name, value = given[1], given[2]
    for _, path in ipairs({ "set_header", "add_header", "clear_header" }) do
      write(file, phase, module .. path .. " " .. tostring(name), both(module .. path, function(f)
        pcall(function_of(module .. "clear_header"), name)
        pcall(function_of(module .. "set_header"), name, "before")
        local came = outcome(f, name, value)
        came[4] = headers()
        return came
      end))
    end
  end
end

local function headers_of(path)
  return function()
    local seen = {}
    for name, value in pairs(function_of(path)(1000)) do
      seen[#seen + 1] = name .. "=" .. (type(value) == "table" and table.concat(value, "|") or value)
    end
    table.sort(seen)
    return (table.concat(seen, "\n"):gsub("[\128-\255]", "?"))
  end
end

function TwoWays:access(conf)
  compare_getters(conf.file, "access")
  if kong.request.get_method() == "PUT" then
    compare_setters(conf.file, "access", "service.request.", headers_of("request.get_headers"))
    kong.service.request.set_header("X-Long", "short again")
    kong.service.request.clear_header("Transfer-Encoding")
  end
  kong.ctx.plugin.kept = kong.request.get_header("x-keep")
  ngx.timer.at(0, function()
    write(conf.file, "timer", "request.get_path", both("request.get_path", outcome))
  end)
  ngx.thread.spawn(function()
    ngx.sleep(0.2)
    write(conf.file, "late", "request.get_path", both("request.get_path", outcome))
  end)
end

function TwoWays:header_filter(conf)
  compare_getters(conf.file, "header_filter")
  if kong.request.get_method() == "PUT" then
    compare_setters(conf.file, "header_filter", "response.", headers_of("response.get_headers"))
    kong.response.clear_header("X-Long")
  end
  kong.response.set_header("X-Kept", tostring(kong.ctx.plugin.kept))
end

function TwoWays:log(conf)
  compare_getters(conf.file, "log")
end

return TwoWays
