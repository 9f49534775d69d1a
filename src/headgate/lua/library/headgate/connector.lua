-- What functions of migrations get for the connection to the database: there is none that takes SQL.
--
-- Called with a function that returns the first statement of a text that would have to be run; nil when the text only
-- makes tables that are there already.
return function(first_needed)
  local connector = {}

  function connector:query(sql)
    local needed = first_needed(sql)
    if needed then
      error("connector:query is not available: SQL of plugins is not run: " .. needed, 2)
    end
    return true
  end

  function connector:connect_migrations()
    return true
  end

  return setmetatable(connector, {
    __index = function(_, name)
      error("connector:" .. tostring(name) .. " is not available: SQL of plugins is not run", 2)
    end,
  })
end
