-- resty.openssl.kdf: keys from passwords and secrets.
local native = require "headgate.openssl"

local M = { PBKDF2 = "PBKDF2", HKDF = "HKDF", SCRYPT = "SCRYPT" }

function M.derive(options)
  local key, err = native.derive(options)
  if not key then
    return nil, "kdf.derive: " .. tostring(err)
  end
  return key
end

return M
