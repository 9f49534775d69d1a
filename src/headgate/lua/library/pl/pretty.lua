-- pl.pretty: values as text.
local inspect = require "headgate.inspect"
local M = { write = function(value) return inspect(value) end, dump = function(value) print(inspect(value)) end }
return setmetatable(M, { __call = function(_, value) print(inspect(value)) end })
