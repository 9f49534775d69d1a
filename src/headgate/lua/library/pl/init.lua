-- pl: its modules, loaded when they are asked for.
return setmetatable({}, { __index = function(_, name) return require("pl." .. name) end })
