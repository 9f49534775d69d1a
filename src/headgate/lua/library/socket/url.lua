-- socket.url: URLs taken apart, put together and resolved (RFC 3986).
local M = { _VERSION = "URL 1.0.3" }

function M.parse(text, default)
  local found = {}
  for key, value in pairs(default or {}) do
    found[key] = value
  end
  if text == nil or text == "" then
    return nil, "invalid url"
  end
  text = text:gsub("#(.*)$", function(fragment) found.fragment = fragment return "" end)
  text = text:gsub("^([%w][%w%+%-%.]*):", function(scheme) found.scheme = scheme return "" end)
  text = text:gsub("^//([^/?]*)", function(authority) found.authority = authority return "" end)
  text = text:gsub("%?(.*)$", function(query) found.query = query return "" end)
  text = text:gsub(";(.*)$", function(params) found.params = params return "" end)
  if text ~= "" then
    found.path = text
  end
  if found.authority then
    local rest = found.authority:gsub("^([^@]*)@", function(info) found.userinfo = info return "" end)
    rest = rest:gsub(":(%d*)$", function(port) found.port = port ~= "" and port or nil return "" end)
    found.host = rest ~= "" and (rest:match("^%[(.+)%]$") or rest) or nil
    if found.userinfo then
      found.user, found.password = found.userinfo:match("^([^:]*):?(.*)$")
    end
  end
  return found
end

function M.build(parsed)
  local url = parsed.path or ""
  if parsed.params then
    url = url .. ";" .. parsed.params
  end
  if parsed.query then
    url = url .. "?" .. parsed.query
  end
  local authority = parsed.authority
  if parsed.host then
    authority = parsed.host:find(":", 1, true) and "[" .. parsed.host .. "]" or parsed.host
    if parsed.port then
      authority = authority .. ":" .. tostring(parsed.port)
    end
    local info = parsed.userinfo
    if parsed.user then
      info = parsed.user .. (parsed.password and ":" .. parsed.password or "")
    end
    if info then
      authority = info .. "@" .. authority
    end
  end
  if authority then
    url = "//" .. authority .. url
  end
  if parsed.scheme then
    url = parsed.scheme .. ":" .. url
  end
  if parsed.fragment then
    url = url .. "#" .. parsed.fragment
  end
  return url
end

-- Section 5.2.4: `.` and `..` are taken out.
local function without_dots(path)
  local parts, is_directory = {}, path:find("/%.?%.?$") ~= nil
  for part in path:gmatch("[^/]+") do
    if part == ".." then
      table.remove(parts)
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  local joined = (path:sub(1, 1) == "/" and "/" or "") .. table.concat(parts, "/")
  return (is_directory and #parts > 0) and joined .. "/" or joined
end

-- Returns a reference resolved against a base: section 5.2.2.
function M.absolute(base, reference)
  local from = type(base) == "table" and base or M.parse(base)
  local to = M.parse(reference)
  if not to then
    return M.build(from)
  elseif to.scheme then
    return reference
  end
  to.scheme = from.scheme
  if not to.authority then
    to.authority, to.host, to.port, to.userinfo = from.authority, from.host, from.port, from.userinfo
    to.user, to.password = from.user, from.password
    if not to.path then
      to.path = from.path
      to.query = to.query or from.query
    elseif to.path:sub(1, 1) ~= "/" then
      to.path = without_dots(((from.path or "/"):match("^(.*/)") or "/") .. to.path)
    else
      to.path = without_dots(to.path)
    end
  end
  return M.build(to)
end

function M.parse_path(path)
  local parts = { is_absolute = path:sub(1, 1) == "/" and 1 or nil, is_directory = path:sub(-1) == "/" and 1 or nil }
  for part in path:gmatch("[^/]+") do
    parts[#parts + 1] = M.unescape(part)
  end
  return parts
end
function M.build_path(parts, is_unsafe)
  local escaped = {}
  for i = 1, #parts do
    escaped[i] = is_unsafe and parts[i] or M.escape(parts[i])
  end
  local path = table.concat(escaped, "/")
  return (parts.is_absolute and "/" or "") .. path .. ((parts.is_directory and #parts > 0) and "/" or "")
end

function M.escape(text)
  return (text:gsub("[^%w_]", function(c) return ("%%%02x"):format(c:byte()) end))
end
function M.unescape(text) return (text:gsub("%%(%x%x)", function(pair) return string.char(tonumber(pair, 16)) end)) end

return M
