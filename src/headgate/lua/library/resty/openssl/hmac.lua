-- resty.openssl.hmac: running digests with a key.
local native = require "headgate.openssl"
local objects = require "resty.openssl.objects"

local M = {}
local mt = { __index = M }

function M.new(key, name)
  local running, err = native.hmac_new(key, name)
  local self, fault = objects.wrap(mt, running, err)
  if not self then
    return nil, "hmac.new: " .. tostring(fault)
  end
  local fresh = native.digest_copy(running)
  self.reset = function(own)
    objects.set(own, native.digest_copy(fresh))
    return true
  end
  return self
end

function M.istype(object) return objects.is(mt, object) end

function M:update(...)
  for i = 1, select("#", ...) do
    native.digest_update(objects.handle(self), (select(i, ...)))
  end
  return true
end

function M:final(last)
  if last then
    self:update(last)
  end
  return native.digest_final(objects.handle(self))
end

return M
