-- resty.hmac: keyed digests, all at once or in pieces.
local native = require "headgate.native"
local to_hex = require("resty.string").to_hex
local mt = { __index = { ALGOS = { MD5 = "md5", SHA1 = "sha1", SHA256 = "sha256", SHA512 = "sha512" } } }
local hmac = mt.__index

function hmac:new(key, algorithm)
  return setmetatable({ key = key, name = algorithm or "md5", pieces = {} }, mt)
end
function hmac:update(text)
  self.pieces[#self.pieces + 1] = tostring(text)
  return true
end
function hmac:final(text, is_hex)
  if text then
    self:update(text)
  end
  local digest = native.hmac(self.name, self.key, table.concat(self.pieces))
  return is_hex and to_hex(digest) or digest
end
function hmac:reset()
  self.pieces = {}
  return true
end

return hmac
