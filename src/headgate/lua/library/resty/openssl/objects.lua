-- What the modules of resty.openssl share: objects whose host side is out of reach for plugins.
local setmetatable, type = setmetatable, type

local M = {}
local handles = setmetatable({}, { __mode = "k" })

-- Returns an object of a class for something of the host's; what it returned for a fault goes through.
function M.wrap(class, handle, err)
  if handle == nil then
    return nil, err
  end
  local object = setmetatable({}, class)
  handles[object] = handle
  return object
end

function M.handle(object)
  return handles[object]
end

function M.set(object, handle)
  handles[object] = handle
end

function M.is(class, object)
  return type(object) == "table" and getmetatable(object) == class
end

return M
