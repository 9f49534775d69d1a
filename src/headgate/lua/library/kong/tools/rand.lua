-- kong.tools.rand: random texts and bytes.
local native, random = require "headgate.native", require "resty.random"
return { get_rand_bytes = native.random, random_string = function() return random.token(32) end }
