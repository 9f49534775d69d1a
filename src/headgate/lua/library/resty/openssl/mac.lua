-- resty.openssl.mac: the HMAC of it.
local hmac = require "resty.openssl.hmac"

local M = {}

function M.new(key, kind, _, digest)
  if tostring(kind):upper() ~= "HMAC" then
    return nil, "mac.new: only HMAC is supported"
  end
  return hmac.new(key, digest)
end

M.istype = hmac.istype
return M
