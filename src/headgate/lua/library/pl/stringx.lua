-- pl.stringx: the functions of penlight's string module that plugins use.
local M = {}
local function literal(text) return (text:gsub("%p", "%%%0")) end
local function class(characters) return characters and "[" .. literal(characters) .. "]" or "%s" end

function M.startswith(text, prefix) return text:sub(1, #prefix) == prefix end
function M.endswith(text, suffix) return suffix == "" or text:sub(-#suffix) == suffix end
function M.strip(text, characters)
  return M.lstrip(M.rstrip(text, characters), characters)
end
function M.lstrip(text, characters) return (text:gsub("^" .. class(characters) .. "+", "")) end
function M.rstrip(text, characters)
  local last = #text
  local one = "^" .. class(characters) .. "$"
  while last > 0 and text:sub(last, last):find(one) do
    last = last - 1
  end
  return text:sub(1, last)
end
function M.split(text, separator, most)
  local parts, position = {}, 1
  if separator == nil then
    for word in text:gmatch("%S+") do
      parts[#parts + 1] = word
    end
    return parts
  end
  while not most or #parts < most - 1 do
    local first, last = text:find(separator, position, true)
    if not first or separator == "" then
      break
    end
    parts[#parts + 1] = text:sub(position, first - 1)
    position = last + 1
  end
  parts[#parts + 1] = text:sub(position)
  return parts
end
function M.join(separator, values) return table.concat(values, separator) end
function M.replace(text, old, new, most) return (text:gsub(literal(old), (new:gsub("%%", "%%%%")), most)) end
function M.count(text, part) return select(2, text:gsub(literal(part), "")) end
function M.partition(text, separator)
  local first, last = text:find(separator, 1, true)
  if not first then
    return text, "", ""
  end
  return text:sub(1, first - 1), separator, text:sub(last + 1)
end
function M.rpartition(text, separator)
  local at, position = nil, 1
  while true do
    local first = text:find(separator, position, true)
    if not first then
      break
    end
    at, position = first, first + 1
  end
  if not at then
    return "", "", text
  end
  return text:sub(1, at - 1), separator, text:sub(at + #separator)
end
function M.lines(text)
  return (text:sub(-1) == "\n" and text or text .. "\n"):gmatch("([^\n]*)\n")
end
function M.splitlines(text)
  local lines = {}
  for line in M.lines(text) do
    lines[#lines + 1] = line
  end
  return lines
end
function M.isalpha(text) return text:find("^%a+$") ~= nil end
function M.isdigit(text) return text:find("^%d+$") ~= nil end
function M.isalnum(text) return text:find("^%w+$") ~= nil end
function M.isspace(text) return text:find("^%s+$") ~= nil end
function M.islower(text) return text:find("^[%l%s]+$") ~= nil end
function M.isupper(text) return text:find("^[%u%s]+$") ~= nil end
function M.at(text, position) return text:sub(position, position) end
function M.lfind(text, part, first, last) return (text:sub(1, last):find(part, first, true)) end
function M.shorten(text, width) return #text <= width and text or text:sub(1, width - 3) .. "..." end
function M.ljust(text, width, fill) return text .. (fill or " "):rep(width - #text) end
function M.rjust(text, width, fill) return (fill or " "):rep(width - #text) .. text end
function M.title(text) return (text:gsub("(%S)(%S*)", function(a, b) return a:upper() .. b:lower() end)) end
function M.import() end
return M
