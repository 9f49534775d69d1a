-- resty.openssl.rand: random bytes.
local native = require "headgate.openssl"

return { bytes = function(length) return native.random(length or 0) end, seed = function() return true end }
