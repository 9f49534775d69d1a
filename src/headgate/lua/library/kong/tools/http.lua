-- kong.tools.http: arguments encoded, names checked, directives and schemes read.
local M = {}
function M.encode_args(arguments) return ngx.encode_args(arguments or {}) end
function M.decode_args(text) return ngx.decode_args(text) end

function M.validate_header_name(name)
  if name == nil or name == "" then
    return nil, "no header name provided"
  elseif ngx.re.find(name, [[^[a-zA-Z0-9-_]+$]], "jo") then
    return name
  end
  return nil, "bad header name '" .. name .. "', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
end
function M.validate_cookie_name(name)
  if name == nil or name == "" then
    return nil, "no cookie name provided"
  elseif ngx.re.find(name, [[^[a-zA-Z0-9-_]+$]], "jo") then
    return name
  end
  return nil, "bad cookie name '" .. name .. "', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
end

-- Returns whether the client came by TLS; a proxy before the gateway is believed when it may be.
function M.check_https(is_trusted, allows_terminated)
  if ngx.var.scheme:lower() == "https" then
    return true
  elseif not allows_terminated or not is_trusted then
    return false
  end
  local scheme = ngx.req.get_headers()["x-forwarded-proto"]
  if type(scheme) == "table" then
    return nil, "Only one X-Forwarded-Proto header allowed"
  end
  return tostring(scheme):lower() == "https"
end

-- Returns a header field's value from a table of headers; of several the first.
function M.get_header(name, headers)
  local value = (headers or ngx.req.get_headers())[name]
  return type(value) == "table" and value[1] or value
end

-- Returns the directives of a field such as Cache-Control: numbers, texts, and true for those without a value.
function M.parse_directive_header(text)
  local found = {}
  if type(text) == "table" then
    text = table.concat(text, ", ")
  end
  for directive in (text or ""):gmatch("[^,]+") do
    local name, value = directive:match("^%s*([^=]+)=(.+)$")
    name = (name or directive:match("^%s*(.-)%s*$")):lower()
    if name ~= "" then
      found[name] = tonumber(value) or value or true
    end
  end
  return found
end

-- Returns for how many seconds an answer is fresh (RFC 9111, section 4.2.1): by directives, else by `Expires`.
function M.calculate_resource_ttl(directives)
  local age = directives["s-maxage"] or directives["max-age"]
  if not age then
    local expires = ngx.var.sent_http_expires
    local at = expires and ngx.parse_http_time(type(expires) == "table" and expires[#expires] or expires)
    age = at and at - ngx.time()
  end
  return age and math.max(age, 0) or 0
end

return M
