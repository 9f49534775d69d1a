-- resty.jit-uuid: random UUIDs.
local native = require "headgate.native"
local M = { _VERSION = "0.0.7", seed = function() end, generate_v4 = native.uuid, is_valid = native.is_uuid }
return setmetatable(M, { __call = native.uuid })
