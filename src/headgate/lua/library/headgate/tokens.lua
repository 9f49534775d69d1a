-- What the readers of JSON Web Tokens share (`resty.jwt`, `kong.plugins.jwt.jwt_parser`): the parts' encoding, and secrets.
local encode_base64, decode_base64 = ngx.encode_base64, ngx.decode_base64
local bor, bxor = bit.bor, bit.bxor

local tokens = {}

-- The digest of the algorithms with a shared secret.
tokens.HMAC = { HS256 = "sha256", HS384 = "sha384", HS512 = "sha512" }

function tokens.encode(text)
  return (encode_base64(text, true):gsub("%+", "-"):gsub("/", "_"))
end

-- nil for what is no Base64.
function tokens.decode(text)
  return decode_base64((text:gsub("-", "+"):gsub("_", "/")))
end

-- Compares in a time that says nothing about where the two differ.
function tokens.same(a, b)
  if #a ~= #b then
    return false
  end
  local difference = 0
  for i = 1, #a do
    difference = bor(difference, bxor(a:byte(i), b:byte(i)))
  end
  return difference == 0
end

return tokens
