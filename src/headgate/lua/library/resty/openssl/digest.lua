-- resty.openssl.digest: running digests.
local native = require "headgate.openssl"
local objects = require "resty.openssl.objects"

local M = {}
local mt = { __index = M }

function M.new(name)
  local running, err = native.digest_new(name)
  local self, fault = objects.wrap(mt, running, err)
  if not self then
    return nil, "digest.new: " .. tostring(fault)
  end
  self.algorithm = name or "sha1"
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

function M:reset()
  objects.set(self, native.digest_new(self.algorithm))
  return true
end

return M
