-- kong.tools.cjson: JSON whose arrays keep their mark.
local cjson = require("cjson.safe")
local M = { array_mt = cjson.array_mt }
local function marked(value)
  if type(value) == "table" then
    for _, inner in pairs(value) do
      marked(inner)
    end
    if #value > 0 then
      setmetatable(value, cjson.array_mt)
    end
  end
  return value
end
function M.decode_with_array_mt(text)
  local value, err = cjson.decode(text)
  return marked(value), err
end
M.encode, M.decode = cjson.encode, cjson.decode
return M
