-- kong.plugins.jwt.jwt_parser: tokens read and checked, as many plugins of others do beside the plugin `jwt`.
local cjson = require "cjson.safe"
local native = require "headgate.native"
local tokens = require "headgate.tokens"
local pkey = require "resty.openssl.pkey"
local time, type, pairs, error, tostring = ngx.time, type, pairs, error, tostring
local setmetatable = setmetatable

local M = {}
M.__index = M

local HMAC, encode, decode, same = tokens.HMAC, tokens.encode, tokens.decode, tokens.same
-- Digest, padding, options of the signature.
local SIGNED = {
  RS256 = { "sha256" }, RS384 = { "sha384" }, RS512 = { "sha512" },
  PS256 = { "sha256", pkey.PADDINGS.RSA_PKCS1_PSS_PADDING, { pss_saltlen = 32 } },
  PS384 = { "sha384", pkey.PADDINGS.RSA_PKCS1_PSS_PADDING, { pss_saltlen = 48 } },
  PS512 = { "sha512", pkey.PADDINGS.RSA_PKCS1_PSS_PADDING, { pss_saltlen = 64 } },
  ES256 = { "sha256", nil, { ecdsa_use_raw = true } }, ES384 = { "sha384", nil, { ecdsa_use_raw = true } },
  ES512 = { "sha512", nil, { ecdsa_use_raw = true } },
  EdDSA = {},
}
-- Bytes of a raw signature on the curve that belongs to the algorithm.
local RAW_BYTES = { ES256 = 64, ES384 = 96, ES512 = 132 }

-- Returns the token taken apart, for its methods; nil and a text for what is no token.
function M:new(token)
  if type(token) ~= "string" then
    error("Token must be a string, got " .. tostring(token), 2)
  end
  local head, body, signature = token:match("^([^.]*)%.([^.]*)%.?(.*)$")
  local header, claims = cjson.decode(head and decode(head) or ""), cjson.decode(body and decode(body) or "")
  if header == nil or claims == nil then
    return nil, "invalid JSON"
  elseif type(header) ~= "table" or type(header.alg) ~= "string" or not (HMAC[header.alg] or SIGNED[header.alg]) then
    return nil, "invalid alg"
  elseif type(claims) ~= "table" then
    return nil, "invalid claims"
  end
  local raw = decode(signature)
  if not raw then
    return nil, "invalid signature"
  end
  return setmetatable({ token = token, header_64 = head, claims_64 = body, signature_64 = signature, header = header,
    claims = claims, signature = raw }, M)
end

-- Says whether the signature is right for a secret (HS…) or a public key (PEM, DER or JWK). Raises for no usable key.
function M:verify_signature(key)
  local algorithm, message = self.header.alg, self.header_64 .. "." .. self.claims_64
  if HMAC[algorithm] then
    return same(native.hmac(HMAC[algorithm], key, message), self.signature)
  end
  local public = pkey.new(key)
  if not public then
    error("Consumer Public Key is Invalid", 2)
  end
  if RAW_BYTES[algorithm] and #self.signature ~= RAW_BYTES[algorithm] then
    error("Signature must be " .. RAW_BYTES[algorithm] .. " bytes.", 2)
  end
  local digest, padding, options = unpack(SIGNED[algorithm], 1, 3)
  return public:verify(self.signature, message, digest, padding, options) == true
end

function M:base64_decode(text)
  return decode(text)
end
M.base64_encode = function(_, text) return encode(text) end

local REGISTERED = {
  nbf = function(at) return at > time() and "token not valid yet" or nil end,
  exp = function(at) return at <= time() and "token expired" or nil end,
}

-- Checks claims of RFC 7519, section 4.1; returns whether all hold, and the faults by claim.
function M:verify_registered_claims(names)
  local faults
  for _, name in pairs(names or {}) do
    local value, check = self.claims[name], REGISTERED[name]
    local fault = type(value) ~= "number" and "must be a number" or check(value)
    if fault then
      faults = faults or {}
      faults[name] = fault
    end
  end
  return faults == nil, faults
end

function M:check_maximum_expiration(seconds)
  if seconds <= 0 then
    return true
  end
  local expires = self.claims.exp
  if type(expires) ~= "number" or expires - time() > seconds then
    return false, { exp = "exceeds maximum allowed expiration" }
  end
  return true
end

function M:get_claim(name) return self.claims[name] end
function M:get_header(name) return self.header[name] end

-- Returns a token with some claims, signed.
function M.encode(claims, key, algorithm, header)
  if type(claims) ~= "table" then
    error("Argument #1 must be table", 2)
  elseif type(key) ~= "string" then
    error("Argument #2 must be string", 2)
  elseif header ~= nil and type(header) ~= "table" then
    error("Argument #4 must be a table", 2)
  end
  algorithm = algorithm or "HS256"
  local message = encode(cjson.encode(header or { typ = "JWT", alg = algorithm })) .. "." .. encode(cjson.encode(claims))
  if HMAC[algorithm] then
    return message .. "." .. encode(native.hmac(HMAC[algorithm], key, message))
  elseif not SIGNED[algorithm] then
    error("Algorithm not supported", 2)
  end
  local digest, padding, options = unpack(SIGNED[algorithm], 1, 3)
  local private, err = pkey.new(key)
  local signature
  if private then
    signature, err = private:sign(message, digest, padding, options)
  end
  if not signature then
    error(err, 2)
  end
  return message .. "." .. encode(signature)
end

return M
