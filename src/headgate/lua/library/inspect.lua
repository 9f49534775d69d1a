-- inspect: values as text over several lines; options are not looked at.
local inspect = require "headgate.inspect"
return setmetatable({ inspect = inspect }, { __call = function(_, value) return inspect(value) end })
