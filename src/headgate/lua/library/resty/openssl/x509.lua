-- resty.openssl.x509: certificates, read.
local native = require "headgate.openssl"
local objects = require "resty.openssl.objects"
local bn = require "resty.openssl.bn"
local pkey = require "resty.openssl.pkey"

local M = {}
local mt = { __index = M }

function M.new(source, form)
  if type(source) ~= "string" then
    return nil, "x509.new: certificates can be read, not made"
  end
  local self, err = objects.wrap(mt, native.certificate_load(source, form))
  if not self then
    return nil, "x509.new: " .. tostring(err)
  end
  return self
end

function M.istype(object) return objects.is(mt, object) end

-- Names ---------------------------------------------------------------------------------------------------------------
local name_methods = {}
local name_mt = { __index = name_methods }

function name_methods:find(wanted, after)
  for i = (after or 0) + 1, #self do
    local one = self[i]
    if one.sn == wanted or one.ln == wanted or one.id == wanted then
      return one, i
    end
  end
  return nil
end
function name_methods:all()
  local found = {}
  for _, one in ipairs(self) do
    found[one.sn] = one
  end
  return found
end
function name_methods:each()
  local i = 0
  return function()
    i = i + 1
    local one = self[i]
    if one then
      return one.sn, one
    end
  end
end
function name_methods:count() return #self end
function name_methods:tostring()
  local parts = {}
  for _, one in ipairs(self) do
    parts[#parts + 1] = one.sn .. "=" .. one.blob
  end
  return table.concat(parts, "/")
end
name_mt.__tostring = name_methods.tostring

function M:get_subject_name() return setmetatable(native.certificate_subject(objects.handle(self)), name_mt) end
function M:get_issuer_name() return setmetatable(native.certificate_issuer(objects.handle(self)), name_mt) end

-- Alternative names ---------------------------------------------------------------------------------------------------
local alternatives_methods = {}
local alternatives_mt = { __index = alternatives_methods }
function alternatives_methods:each()
  local i = 0
  return function()
    i = i + 1
    local one = self[i]
    if one then
      return one.type, one.value
    end
  end
end
function alternatives_methods:count() return #self end
function alternatives_methods:tostring()
  local parts = {}
  for _, one in ipairs(self) do
    parts[#parts + 1] = one.type .. "=" .. one.value
  end
  return table.concat(parts, "/")
end
alternatives_mt.__tostring = alternatives_methods.tostring

function M:get_subject_alt_name()
  local found = native.certificate_alternative_names(objects.handle(self))
  return found and setmetatable(found, alternatives_mt) or nil
end

-- The rest ------------------------------------------------------------------------------------------------------------
function M:get_serial_number() return bn.from_hex(native.certificate_serial(objects.handle(self))) end
function M:get_version() return native.certificate_version(objects.handle(self)) end
function M:get_not_before() return native.certificate_not_before(objects.handle(self)) end
function M:get_not_after() return native.certificate_not_after(objects.handle(self)) end
function M:get_lifetime() return self:get_not_before(), self:get_not_after() end
function M:get_pubkey() return pkey.from_handle(native.certificate_public_key(objects.handle(self))) end
function M:get_signature_digest_name() return native.certificate_signature_digest(objects.handle(self)) end
function M:get_basic_constraints(name)
  local is_authority = native.certificate_is_authority(objects.handle(self))
  if name then
    return name:lower() == "ca" and is_authority or nil
  end
  return { ca = is_authority }
end
function M:digest(name) return native.certificate_digest(objects.handle(self), name) end
function M:pubkey_digest(name) return native.certificate_key_digest(objects.handle(self), name) end
function M:verify(key) return native.certificate_verify(objects.handle(self), objects.handle(key)) end
function M:check_private_key(key)
  if self:get_pubkey():to_PEM("public") == key:to_PEM("public") then
    return true
  end
  return false, "x509:check_private_key: key values mismatch"
end
function M:tostring(form) return native.certificate_text(objects.handle(self), form) end
function M:to_PEM() return self:tostring("PEM") end
mt.__tostring = function(self) return self:tostring("PEM") end

return M
