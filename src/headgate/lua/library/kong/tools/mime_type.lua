-- kong.tools.mime_type: media types taken apart and compared (RFC 9110, section 8.3.1).
local M = {}

-- Returns type, subtype and parameters, all in lower case but the values; nothing for no media type.
function M.parse_mime_type(text)
  local kind, subtype, rest = tostring(text):match("^%s*([%w!#$&^_.+*-]+)/([%w!#$&^_.+*-]+)%s*(.*)$")
  if not kind then
    return nil, nil, nil
  end
  local parameters
  for name, value in rest:gmatch(";%s*([%w!#$&^_.+*-]+)=([^;]*)") do
    parameters = parameters or {}
    value = value:gsub("%s+$", ""):gsub('^"(.*)"$', "%1")
    parameters[name:lower()] = name:lower() == "charset" and value:lower() or value
  end
  return kind:lower(), subtype:lower(), parameters
end

-- Says whether one media type ({ type, subtype }) takes in another: `*` stands for all, `+suffix` for its family.
function M.includes(this, other)
  if this.type == "*" then
    return true
  elseif this.type ~= other.type then
    return false
  elseif this.subtype == "*" or this.subtype == other.subtype then
    return true
  end
  local suffix = this.subtype:match("^%*%+(.+)$")
  return suffix ~= nil and (other.subtype == suffix or other.subtype:match("%+([^+]+)$") == suffix)
end

return M
