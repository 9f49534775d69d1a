-- kong.tools.gzip: compression.
local native = require "headgate.native"
return { deflate_gzip = native.gzip, inflate_gzip = native.gunzip }
