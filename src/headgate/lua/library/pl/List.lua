-- pl.List: lists with methods, after Python's.
local class, tablex = require "pl.class", require "pl.tablex"
local insert, remove, concat, sort, type, ipairs, max = table.insert, table.remove, table.concat, table.sort, type, ipairs, math.max
local List = class()
List._name = "List"

function List:_init(source)
  if type(source) == "table" then
    for i, value in ipairs(source) do
      self[i] = value
    end
  elseif type(source) == "function" then
    for value in source do
      insert(self, value)
    end
  end
end

local function position(list, i)
  return i < 0 and #list + i + 1 or i
end

function List:clone() return List(self) end
function List:append(value) insert(self, value) return self end
List.push = List.append
function List:extend(other)
  for _, value in ipairs(other) do
    insert(self, value)
  end
  return self
end
function List:insert(i, value) insert(self, i, value) return self end
function List:put(value) return self:insert(1, value) end
function List:remove(i) remove(self, i) return self end
function List:remove_value(value)
  local i = self:index(value)
  if i then
    remove(self, i)
  end
  return self
end
function List:pop(i) return remove(self, i ~= nil and position(self, i) or #self) end
function List:index(value, first) return tablex.find(self, value, first) end
function List:contains(value) return self:index(value) ~= nil end
function List:count(value)
  local count = 0
  for _, one in ipairs(self) do
    count = one == value and count + 1 or count
  end
  return count
end
function List:len() return #self end
function List:sort(compare)
  if compare == ">" then
    compare = function(a, b) return a > b end
  elseif compare == "<" then
    compare = nil
  end
  sort(self, compare)
  return self
end
function List:sorted(compare) return self:clone():sort(compare) end
function List:reverse()
  local count = #self
  for i = 1, math.floor(count / 2) do
    self[i], self[count - i + 1] = self[count - i + 1], self[i]
  end
  return self
end
function List:slice(first, last)
  local part = List()
  for i = max(1, position(self, first or 1)), position(self, last or -1) do
    part:append(self[i])
  end
  return part
end
function List:clear()
  for i = #self, 1, -1 do
    self[i] = nil
  end
  return self
end
function List:join(separator) return concat(self:map(tostring), separator or "") end
List.concat = concat
function List:foreach(f, ...)
  for _, value in ipairs(self) do
    f(value, ...)
  end
end
function List:map(f, ...)
  local made = List()
  for _, value in ipairs(self) do
    made:append(f(value, ...))
  end
  return made
end
function List:transform(f, ...)
  for i, value in ipairs(self) do
    self[i] = f(value, ...)
  end
  return self
end
function List:filter(f, ...)
  local made = List()
  for _, value in ipairs(self) do
    if f(value, ...) then
      made:append(value)
    end
  end
  return made
end
function List:reduce(f, first)
  local sum, start = first, 1
  if sum == nil then
    sum, start = self[1], 2
  end
  for i = start, #self do
    sum = f(sum, self[i])
  end
  return sum
end
function List:iter()
  local i = 0
  return function()
    i = i + 1
    return self[i]
  end
end
function List.iterate(source)
  return List(source):iter()
end
function List.range(first, last, step) return List(tablex.range(first, last or nil, step)) end
function List.split(text, separator) return List(require("pl.stringx").split(text, separator)) end
List.__concat = function(a, b) return List(a):extend(b) end
List.__eq = function(a, b) return tablex.deepcompare(tablex.copy(a), tablex.copy(b)) end
List.__tostring = function(list) return "{" .. list:join(",") .. "}" end
List.new = function(_, source) return List(source) end

return List
