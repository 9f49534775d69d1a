-- cjson.safe: as cjson, with nil and the text in the place of an error.
local cjson = require "cjson"
local safe = setmetatable({}, { __index = cjson })

local function told(ok, value)
  if ok then
    return value
  end
  return nil, (tostring(value):gsub("^[^\n:]+:%d+: ", ""))
end
function safe.encode(...)
  return told(pcall(cjson.encode, ...))
end
function safe.decode(...)
  return told(pcall(cjson.decode, ...))
end
function safe.new()
  return safe
end

return safe
