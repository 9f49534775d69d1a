-- What functions of migrations get for the connection to the database: there is none that takes SQL.
return setmetatable({}, {
  __index = function(_, name)
    error("connector:" .. tostring(name) .. " is not available: SQL of plugins is not run", 2)
  end,
})
