-- pl.tablex: the functions of penlight's table module that plugins use.
local M = {}

function M.size(t)
  local count = 0
  for _ in pairs(t) do
    count = count + 1
  end
  return count
end
function M.copy(t)
  local copy = {}
  for key, value in pairs(t) do
    copy[key] = value
  end
  return copy
end
function M.deepcopy(t, seen)
  if type(t) ~= "table" then
    return t
  end
  seen = seen or {}
  if seen[t] then
    return seen[t]
  end
  local copy = {}
  seen[t] = copy
  for key, value in pairs(t) do
    copy[M.deepcopy(key, seen)] = M.deepcopy(value, seen)
  end
  return setmetatable(copy, getmetatable(t))
end
function M.deepcompare(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not M.deepcompare(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end
function M.keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  return keys
end
function M.values(t)
  local values = {}
  for _, value in pairs(t) do
    values[#values + 1] = value
  end
  return values
end
function M.map(f, t, ...)
  local mapped = {}
  for key, value in pairs(t) do
    mapped[key] = f(value, ...)
  end
  return mapped
end
function M.imap(f, t, ...)
  local mapped = {}
  for i = 1, #t do
    mapped[i] = f(t[i], ...) or false
  end
  return mapped
end
function M.filter(t, predicate, ...)
  local kept = {}
  for i = 1, #t do
    if predicate(t[i], ...) then
      kept[#kept + 1] = t[i]
    end
  end
  return kept
end
function M.reduce(f, t, memo)
  local start = 1
  if memo == nil then
    memo, start = t[1], 2
  end
  for i = start, #t do
    memo = f(memo, t[i])
  end
  return memo
end
function M.foreach(t, f, ...)
  for key, value in pairs(t) do
    f(value, key, ...)
  end
end
function M.foreachi(t, f, ...)
  for i = 1, #t do
    f(t[i], i, ...)
  end
end
function M.find(t, wanted, start)
  for i = start or 1, #t do
    if t[i] == wanted then
      return i
    end
  end
end
function M.find_if(t, predicate, ...)
  for key, value in pairs(t) do
    local found = predicate(value, ...)
    if found then
      return key, found
    end
  end
end
function M.search(t, wanted)
  for key, value in pairs(t) do
    if value == wanted then
      return key
    end
  end
end
function M.merge(a, b, is_union)
  local merged = {}
  for key, value in pairs(a) do
    if is_union or b[key] ~= nil then
      merged[key] = value
    end
  end
  for key, value in pairs(b) do
    if is_union or a[key] ~= nil then
      merged[key] = value
    end
  end
  return merged
end
function M.union(a, b) return M.merge(a, b, true) end
function M.intersection(a, b) return M.merge(a, b, false) end
function M.difference(a, b)
  local left = {}
  for key, value in pairs(a) do
    if b[key] == nil then
      left[key] = value
    end
  end
  return left
end
function M.update(a, b)
  for key, value in pairs(b) do
    a[key] = value
  end
  return a
end
function M.insertvalues(t, position, values)
  if values == nil then
    position, values = #t + 1, position
  end
  for i = 1, #values do
    table.insert(t, position + i - 1, values[i])
  end
  return t
end
function M.makeset(t)
  local set = {}
  for i = 1, #t do
    set[t[i]] = true
  end
  return set
end
function M.index_map(t)
  local positions = {}
  for i = 1, #t do
    positions[t[i]] = i
  end
  return positions
end
M.invert = M.index_map
function M.range(first, last, step)
  local values = {}
  for value = first, last, step or 1 do
    values[#values + 1] = value
  end
  return values
end
function M.sub(t, first, last)
  local part = {}
  for i = first, last and (last < 0 and #t + last + 1 or last) or #t do
    part[#part + 1] = t[i]
  end
  return part
end
function M.zip(a, b)
  local pairs_ = {}
  for i = 1, math.min(#a, #b) do
    pairs_[i] = { a[i], b[i] }
  end
  return pairs_
end
function M.sort(t, compare)
  local keys = M.keys(t)
  table.sort(keys, compare)
  local position = 0
  return function()
    position = position + 1
    return keys[position], t[keys[position]]
  end
end
function M.readonly(t)
  return setmetatable({}, { __index = t, __newindex = function() error("Attempt to modify read-only table", 2) end })
end
M.compare = function(a, b, compare)
  if #a ~= #b then
    return false
  end
  for i = 1, #a do
    if not compare(a[i], b[i]) then
      return false
    end
  end
  return true
end
return M
