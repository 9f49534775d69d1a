-- pl.utils: the functions of penlight's utilities that plugins use.
local stringx = require "pl.stringx"
local M = { unpack = unpack, pack = table.pack }
function M.split(text, pattern, is_plain, most)
  if pattern == nil or pattern == "" then
    return stringx.split(text)
  elseif is_plain then
    return stringx.split(text, pattern, most)
  end
  local parts, position = {}, 1
  while not most or #parts < most - 1 do
    local first, last = text:find(pattern, position)
    if not first or last < first then
      break
    end
    parts[#parts + 1] = text:sub(position, first - 1)
    position = last + 1
  end
  local rest = text:sub(position)
  if rest ~= "" or #parts > 0 and position <= #text then
    parts[#parts + 1] = rest
  end
  return parts
end
function M.readfile(path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, err
  end
  local text = file:read("*a")
  file:close()
  return text
end
function M.writefile(path, text)
  local file, err = io.open(path, "wb")
  if not file then
    return nil, err
  end
  file:write(text)
  file:close()
  return true
end
function M.assert_arg(position, value, kind)
  if type(value) ~= kind then
    error(("argument %d expected a '%s' got a '%s'"):format(position, kind, type(value)), 3)
  end
  return value
end
function M.choose(condition, a, b)
  if condition then
    return a
  end
  return b
end
function M.escape(text) return (text:gsub("[%-%.%+%[%]%(%)%$%^%%%?%*]", "%%%1")) end
function M.is_callable(value) return type(value) == "function" or (getmetatable(value) or {}).__call ~= nil end
return M
