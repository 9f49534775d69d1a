-- What OpenResty adds to Lua's own libraries, and what is not there for anybody.
local clear, isempty, nkeys, isarray, clone

clear = require "table.clear"
function isempty(t) return next(t) == nil end
function nkeys(t)
  local count = 0
  for _ in pairs(t) do
    count = count + 1
  end
  return count
end
function isarray(t)
  local count = 0
  for key in pairs(t) do
    if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then
      return false
    end
    count = count + 1
  end
  return count == #t
end
function clone(t)
  local copy = {}
  for key, value in pairs(t) do
    copy[key] = value
  end
  return copy
end

table.new = require "table.new"
table.clear, table.isempty, table.nkeys, table.isarray, table.clone = clear, isempty, nkeys, isarray, clone
table.unpack = unpack
table.pack = table.pack or function(...) return { n = select("#", ...), ... } end
package.loaded["table.isempty"], package.loaded["table.nkeys"] = isempty, nkeys
package.loaded["table.isarray"], package.loaded["table.clone"] = isarray, clone

-- Ending or forking the worker is not a plugin's.
os.exit = function() error("os.exit is not available", 2) end

require "headgate.matching"

_KONG = require "kong.meta"
