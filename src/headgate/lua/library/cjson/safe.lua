-- cjson.safe: as cjson, with nil and the text in the place of an error.
local cjson = require "cjson"

local function told(ok, value)
  if ok then
    return value
  end
  return nil, (tostring(value):gsub("^[^\n:]+:%d+: ", ""))
end

local function new()
  local own = cjson.new()
  local encode, decode = own.encode, own.decode
  function own.encode(...)
    return told(pcall(encode, ...))
  end
  function own.decode(...)
    return told(pcall(decode, ...))
  end
  own.new = new
  return own
end

return new()
