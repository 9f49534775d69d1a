-- resty.openssl.pkey: asymmetric keys.
local native = require "headgate.openssl"
local objects = require "resty.openssl.objects"
local bn = require "resty.openssl.bn"
local digest = require "resty.openssl.digest"

local M = {
  PADDINGS = {
    RSA_PKCS1_PADDING = 1, RSA_NO_PADDING = 3, RSA_PKCS1_OAEP_PADDING = 4, RSA_X931_PADDING = 5, RSA_PKCS1_PSS_PADDING = 6,
  },
}
local mt = { __index = M }

local function wrap(key, err)
  local self, fault = objects.wrap(mt, key, err)
  if not self then
    return nil, "pkey.new: " .. (tostring(fault):gsub("^pkey.new: ", ""))
  end
  return self
end

function M.from_handle(key)
  return wrap(key)
end

function M.new(source, options)
  if type(source) == "string" then
    options = options or {}
    return wrap(native.key_load(source, options.format, options.type, options.passphrase))
  elseif source == nil or type(source) == "table" then
    source = source or {}
    return wrap(native.key_generate(source.type, source.bits, source.exp, source.curve))
  end
  return nil, "pkey.new: unexpected type, expect a string or a table"
end

function M.istype(object) return objects.is(mt, object) end
M.is_instance = M.istype

local function data_of(value)
  if digest.istype(value) then
    return value:final(), value.algorithm, true
  end
  return value, nil, false
end

function M:sign(value, md, padding, options)
  local data, algorithm, is_hashed = data_of(value)
  options = options or {}
  local signature, err = native.key_sign(objects.handle(self), data, algorithm or md, padding, is_hashed,
    options.ecdsa_use_raw, options.pss_saltlen)
  if not signature then
    return nil, "pkey:sign: " .. tostring(err)
  end
  return signature
end

function M:verify(signature, value, md, padding, options)
  local data, algorithm, is_hashed = data_of(value)
  options = options or {}
  local ok, err = native.key_verify(objects.handle(self), signature, data, algorithm or md, padding, is_hashed,
    options.ecdsa_use_raw, options.pss_saltlen)
  if err then
    return nil, "pkey:verify: " .. tostring(err)
  end
  return ok
end

-- The same over a text that was hashed by the caller.
function M:sign_raw(text, padding) return native.key_sign(objects.handle(self), text, "sha256", padding, true) end

function M:encrypt(text, padding) return native.key_encrypt(objects.handle(self), text, padding) end
function M:decrypt(text, padding) return native.key_decrypt(objects.handle(self), text, padding) end
function M:derive(peer) return native.key_derive(objects.handle(self), objects.handle(peer)) end
function M:is_private() return native.key_is_private(objects.handle(self)) end
function M:get_key_type() return native.key_kind(objects.handle(self)) end
function M:get_size() return native.key_size(objects.handle(self)) end

function M:get_parameters()
  local found, err = native.key_parameters(objects.handle(self))
  if not found then
    return nil, err
  end
  for name, hex in pairs(found) do
    found[name] = bn.from_hex(hex)
  end
  return found
end

function M:tostring(side, form, is_traditional)
  return native.key_text(objects.handle(self), side, form, is_traditional)
end
function M:to_PEM(side, is_traditional) return self:tostring(side, "PEM", is_traditional) end
mt.__tostring = function(self) return self:tostring("public") end

return M
