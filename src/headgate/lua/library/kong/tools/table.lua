-- kong.tools.table: tables copied, joined and looked through.
local tablex = require "pl.tablex"
local cjson = require "cjson"
local M = {}
function M.table_contains(t, wanted)
  if t then
    for _, value in pairs(t) do
      if value == wanted then
        return true
      end
    end
  end
  return false
end
function M.is_array(t, mode)
  if type(t) ~= "table" then
    return false
  end
  if mode == "fast" or mode == "lapis" then
    return t[1] ~= nil
  end
  return table.isarray(t)
end
M.is_lapis_array = function(t) return M.is_array(t) end
function M.deep_copy(t) return tablex.deepcopy(t) end
M.cycle_aware_deep_copy = M.deep_copy
M.shallow_copy = tablex.copy
function M.table_merge(a, b) return tablex.union(a or {}, b or {}) end
function M.deep_merge(a, b)
  local merged = tablex.deepcopy(a)
  for key, value in pairs(b) do
    if type(value) == "table" and type(merged[key]) == "table" then
      merged[key] = M.deep_merge(merged[key], value)
    else
      merged[key] = tablex.deepcopy(value)
    end
  end
  return merged
end
M.cycle_aware_deep_merge = M.deep_merge
function M.concat(...)
  local joined = {}
  for _, t in ipairs { ... } do
    for _, value in ipairs(t) do
      joined[#joined + 1] = value
    end
  end
  return joined
end
function M.pack(...) return { n = select("#", ...), ... } end
function M.unpack(t, i, j) return unpack(t, i or 1, j or t.n or #t) end
function M.table_path(t, path)
  for _, name in ipairs(path) do
    if type(t) ~= "table" then
      return nil
    end
    t = t[name]
  end
  return t
end
function M.remove_nil(t) return t end
function M.add_error(errors, key, value)
  errors = errors or {}
  if errors[key] and type(errors[key]) ~= "table" then
    errors[key] = { errors[key] }
  end
  if errors[key] then
    table.insert(errors[key], value)
  else
    errors[key] = value
  end
  return errors
end
M.EMPTY = tablex.readonly {}
M.null2nil = function(value) if value ~= ngx.null then return value end end
M.as_array = function(t) return setmetatable(t, cjson.array_mt) end
return M
