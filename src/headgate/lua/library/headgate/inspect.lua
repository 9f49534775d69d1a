-- Prints any value over several lines, for kong.log.inspect and pl.pretty.
local charge = require("headgate.core").charge
local type, tostring, pairs, format, sort, concat = type, tostring, pairs, string.format, table.sort, table.concat

local function key_text(key)
  if type(key) == "string" and key:match("^[%a_][%w_]*$") then
    return key
  end
  return "[" .. (type(key) == "string" and format("%q", key) or tostring(key)) .. "]"
end

local function inspect(value, indent, seen)
  if type(value) == "string" then
    return format("%q", value)
  elseif type(value) ~= "table" then
    return tostring(value)
  elseif seen[value] then
    return "<table " .. tostring(value):match("0x%x+") .. ">"
  end
  seen[value] = true
  charge()
  local lines, count = {}, #value
  for i = 1, count do
    lines[#lines + 1] = inspect(value[i], indent .. "  ", seen)
  end
  local keys = {}
  for key in pairs(value) do
    if not (type(key) == "number" and key >= 1 and key <= count and key % 1 == 0) then
      keys[#keys + 1] = key
    end
  end
  sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then
      return a < b
    end
    return type(a) < type(b)
  end)
  for _, key in ipairs(keys) do
    lines[#lines + 1] = key_text(key) .. " = " .. inspect(value[key], indent .. "  ", seen)
  end
  seen[value] = nil
  if #lines == 0 then
    return "{}"
  end
  return "{\n" .. indent .. "  " .. concat(lines, ",\n" .. indent .. "  ") .. "\n" .. indent .. "}"
end

return function(value)
  return inspect(value, "", {})
end
