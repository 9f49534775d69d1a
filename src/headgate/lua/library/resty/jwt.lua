-- resty.jwt: reading, checking and signing JSON Web Tokens: HS, RS, PS and ES.
local cjson = require "cjson.safe"
local native = require "headgate.native"
local tokens = require "headgate.tokens"
local M = { _VERSION = "0.2.3" }
M.__index = M
local HMAC, encode, decode, same = tokens.HMAC, tokens.encode, tokens.decode, tokens.same
M.jwt_encode, M.jwt_decode = function(_, text) return encode(text) end, function(_, text) return decode(text) end

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
  -- Options from before there were checks may stand among them; exp and nbf are looked at where no check of them is given.
  local given, specifications = { ... }, {}
  local options = { lifetime_grace_period = 0 }
  for _, specification in ipairs(given) do
    for claim, check in pairs(specification) do
      if type(check) == "function" then
        specifications[claim] = specifications[claim] or {}
        table.insert(specifications[claim], check)
      else
        options[claim] = check
      end
    end
  end
  local now, grace = ngx.time(), options.lifetime_grace_period
  local issued, expires, starts = jwt.payload.iss, jwt.payload.exp, jwt.payload.nbf
  if options.valid_issuers then
    local is_known = false
    for _, issuer in ipairs(options.valid_issuers) do
      is_known = is_known or issuer == issued
    end
    if not is_known then
      jwt.reason = "'iss' claim doesn't belong to the list of valid issuers."
      return jwt
    end
  end
  if (options.require_exp_claim and expires == nil) or (options.require_nbf_claim and starts == nil) then
    jwt.reason = "'" .. (expires == nil and options.require_exp_claim and "exp" or "nbf") .. "' claim is required."
    return jwt
  elseif not specifications.exp and type(expires) == "number" and expires + grace < now then
    jwt.reason = "'exp' claim expired at " .. ngx.http_time(expires)
    return jwt
  elseif not specifications.nbf and type(starts) == "number" and starts - grace > now then
    jwt.reason = "'nbf' claim not valid until " .. ngx.http_time(starts)
    return jwt
  end
  for claim, checks in pairs(specifications) do
    for _, check in ipairs(checks) do
      local accepted, fault = pcall(check, jwt.payload[claim], claim, jwt)
      if not accepted then
        jwt.reason = tostring(type(fault) == "table" and fault.reason or fault)
        return jwt
      elseif fault == false then
        jwt.reason = "Claim '" .. claim .. "' returned failure"
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
