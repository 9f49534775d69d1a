-- socket.url: URLs taken apart.
local M = {}
function M.parse(text)
  local found = {}
  text = text:gsub("#(.*)$", function(fragment) found.fragment = fragment return "" end)
  text = text:gsub("^([%w][%w%+%-%.]*):", function(scheme) found.scheme = scheme return "" end)
  text = text:gsub("^//([^/?]*)", function(authority) found.authority = authority return "" end)
  text = text:gsub("%?(.*)$", function(query) found.query = query return "" end)
  if text ~= "" then
    found.path = text
  end
  if found.authority then
    local rest = found.authority:gsub("^([^@]*)@", function(info) found.userinfo = info return "" end)
    rest = rest:gsub(":(%d*)$", function(port) found.port = port return "" end)
    found.host = rest ~= "" and rest or nil
    if found.userinfo then
      found.user, found.password = found.userinfo:match("^([^:]*):?(.*)$")
    end
  end
  return found
end
function M.escape(text) return ngx.escape_uri(text) end
function M.unescape(text) return (text:gsub("%%(%x%x)", function(pair) return string.char(tonumber(pair, 16)) end)) end
return M
