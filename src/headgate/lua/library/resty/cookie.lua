-- resty.cookie: cookies of the request, and setting one.
local mt = { __index = {} }
local cookie = mt.__index

function cookie:new()
  return setmetatable({}, mt)
end
function cookie:get_all()
  local header = ngx.var.http_cookie
  if not header then
    return nil, "no cookie found in the current request"
  end
  local found = {}
  for name, value in header:gmatch("([^=;%s]+)=([^;]*)") do
    found[name] = value:gsub('^"(.*)"$', "%1")
  end
  return found
end
function cookie:get(name)
  local found, err = self:get_all()
  return found and found[name] or nil, err
end
function cookie:set(options)
  if not options.key or not options.value then
    return nil, 'missing field "key" or "value"'
  end
  local text = options.key .. "=" .. options.value
  for _, name in ipairs { "expires", "max_age", "domain", "path", "samesite", "extension" } do
    if options[name] then
      local label = ({ expires = "Expires=", max_age = "Max-Age=", domain = "Domain=", path = "Path=",
        samesite = "SameSite=", extension = "" })[name]
      text = text .. "; " .. label .. options[name]
    end
  end
  text = text .. (options.secure and "; Secure" or "") .. (options.httponly and "; HttpOnly" or "")
  ngx.resp.add_header("Set-Cookie", text)
  return true
end

return cookie
