-- version: comparing version numbers.
local function parsed(text)
  local parts = {}
  for part in tostring(text):gmatch("%d+") do
    parts[#parts + 1] = tonumber(part)
  end
  return parts
end
local mt = {}
local function compare(a, b)
  for i = 1, math.max(#a.parts, #b.parts) do
    local x, y = a.parts[i] or 0, b.parts[i] or 0
    if x ~= y then
      return x < y and -1 or 1
    end
  end
  return 0
end
local function version(text) return setmetatable({ parts = parsed(text), text = tostring(text) }, mt) end
mt.__lt = function(a, b) return compare(a, b) < 0 end
mt.__le = function(a, b) return compare(a, b) <= 0 end
mt.__eq = function(a, b) return compare(a, b) == 0 end
mt.__tostring = function(a) return a.text end
return setmetatable({ version = version }, { __call = function(_, text) return version(text) end })
