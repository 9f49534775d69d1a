-- resty.jwt: reading, checking and signing JSON Web Tokens: HS, RS, PS and ES.
local cjson = require "cjson.safe"
local native = require "headgate.native"
local M = { _VERSION = "0.2.3" }
M.__index = M
local HMAC = { HS256 = "sha256", HS384 = "sha384", HS512 = "sha512" }

local function encode(text)
  return (ngx.encode_base64(text, true):gsub("%+", "-"):gsub("/", "_"))
end
local function decode(text)
  local padded = text:gsub("-", "+"):gsub("_", "/")
  return ngx.decode_base64(padded)
end
M.jwt_encode, M.jwt_decode = function(_, text) return encode(text) end, function(_, text) return decode(text) end

local function same(a, b)
  if #a ~= #b then
    return false
  end
  local difference = 0
  for i = 1, #a do
    difference = bit.bor(difference, bit.bxor(a:byte(i), b:byte(i)))
  end
  return difference == 0
end

function M:load_jwt(token)
  local head, body, signature = tostring(token):match("^([%w_-]+)%.([%w_-]+)%.([%w_-]*)$")
  if not head then
    return { valid = false, verified = false, reason = "invalid jwt string" }
  end
  local header, payload = cjson.decode(decode(head) or ""), cjson.decode(decode(body) or "")
  if type(header) ~= "table" then
    return { valid = false, verified = false, reason = "invalid header: " .. head }
  elseif type(payload) ~= "table" then
    return { valid = false, verified = false, reason = "invalid payload: " .. body }
  end
  return { raw_header = head, raw_payload = body, header = header, payload = payload, signature = signature,
    valid = true, verified = false }
end

local function is_signed(key, jwt)
  local algorithm = jwt.header.alg
  local message = jwt.raw_header .. "." .. jwt.raw_payload
  local signature = decode(jwt.signature)
  if type(key) == "function" then
    key = key(jwt.header.kid)
  end
  if type(key) ~= "string" or not signature then
    return false, "signature mismatch: " .. tostring(jwt.signature)
  end
  if HMAC[algorithm] then
    -- A public key as the secret of an HMAC is the oldest trick there is.
    if key:find("-----BEGIN", 1, true) then
      return false, "the key does not fit " .. algorithm
    end
    return same(native.hmac(HMAC[algorithm], key, message), signature), "signature mismatch: " .. jwt.signature
  elseif type(algorithm) == "string" and algorithm:find("^[RPE]S%d%d%d$") then
    local ok, err = native.verify(algorithm, key, message, signature)
    return ok, err or "signature mismatch: " .. jwt.signature
  end
  return false, "whitelist unsupported alg: " .. tostring(algorithm)
end

function M:verify_jwt_obj(key, jwt, ...)
  if not jwt.valid then
    return jwt
  end
  local ok, reason = is_signed(key, jwt)
  if not ok then
    jwt.verified, jwt.reason = false, reason
    return jwt
  end
  local now = ngx.time()
  if type(jwt.payload.exp) == "number" and jwt.payload.exp < now then
    jwt.reason = "'exp' claim expired at " .. ngx.http_time(jwt.payload.exp)
    return jwt
  elseif type(jwt.payload.nbf) == "number" and jwt.payload.nbf > now then
    jwt.reason = "'nbf' claim not valid until " .. ngx.http_time(jwt.payload.nbf)
    return jwt
  end
  for _, specification in ipairs { ... } do
    for claim, check in pairs(specification) do
      local accepted, fault = pcall(check, jwt.payload[claim], claim, jwt)
      if not accepted or fault == false then
        jwt.reason = not accepted and tostring(fault) or "Claim '" .. claim .. "' returned failure"
        return jwt
      end
    end
  end
  jwt.verified, jwt.reason = true, "everything is awesome~ :p"
  return jwt
end

function M:verify(key, token, ...)
  return M:verify_jwt_obj(key, M:load_jwt(token), ...)
end

function M:sign(key, jwt)
  local header = jwt.header or { typ = "JWT", alg = "HS256" }
  local message = encode(cjson.encode(header)) .. "." .. encode(cjson.encode(jwt.payload))
  local algorithm = header.alg
  if HMAC[algorithm] then
    return message .. "." .. encode(native.hmac(HMAC[algorithm], key, message))
  end
  local signature, err = native.sign(tostring(algorithm), key, message)
  if not signature then
    error(err, 2)
  end
  return message .. "." .. encode(signature)
end

return M
