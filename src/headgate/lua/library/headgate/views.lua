-- Read-only views of tables that many share, for functions of the configuration: what one of them writes, no other sees.
--
-- Owns the views, and the functions of the library `table` that would write past one. Rule: nothing that sandboxed code
-- can reach leads to a table that others use too and that can be written to, but for the tables of a request.
local core = require "headgate.core"
local host = require "headgate.host"
local setmetatable, getmetatable, pairs, type, error = setmetatable, getmetatable, pairs, type, error
local tostring, pcall, charge, jit = tostring, pcall, core.charge, jit

local views = {}

local guarded = setmetatable({}, { __mode = "k" }) -- the path of every table that is not to be written to
local made = setmetatable({}, { __mode = "k" }) -- the view of a table

local function refuse(path, key)
  error("Cannot modify " .. path .. "." .. tostring(key) .. ". Protected by the sandbox.", 3)
end

-- Marks a table that has no view, so that no function of the library writes past its metatable.
function views.guard(t, path)
  guarded[t] = path
  return t
end

-- Returns a table that reads `members`: a table, or a function of the table and the name. Args: call, what calling it
-- does; writable and real, names that are written through to a real table.
function views.protected(members, path, call, writable, real)
  local view = setmetatable({}, {
    __index = members,
    __newindex = function(_, name, value)
      if not (writable and writable[name]) then
        refuse(path, name)
      end
      real[name] = value
    end,
    __call = call,
    __metatable = false,
  })
  guarded[view] = path
  return view
end

-- Returns an empty table that prints as nil.
function views.nothing(path)
  local view = setmetatable({}, {
    __newindex = function(_, key)
      refuse(path, key)
    end,
    __tostring = function() return "nil" end,
    __metatable = false,
  })
  guarded[view] = path
  return view
end

-- What belongs to the request, or passes writing on to it, is given out as it is.
local OPEN = {
  ["kong.ctx.plugin"] = true, ["kong.ctx.shared"] = true,
  ["ngx.ctx"] = true, ["ngx.var"] = true, ["ngx.header"] = true, ["ngx.arg"] = true,
}

-- What has another value each time, and is read when it is asked for.
local PASSING = {
  ["kong.ctx.plugin"] = true, ["kong.default_workspace"] = true,
  ["ngx.ctx"] = true, ["ngx.status"] = true, ["ngx.headers_sent"] = true, ["ngx.is_subrequest"] = true,
}

local view_of

local function shown(value, path)
  if type(value) ~= "table" or guarded[value] and not OPEN[path] then
    return value
  elseif OPEN[path] then
    local mt = getmetatable(value)
    if type(mt) == "table" then
      -- It is the real one: nothing is put into it past its metatable, nor another metatable on it.
      guarded[value], mt.__metatable = path, false
    end
    return value
  end
  return view_of(value, path)
end

-- Returns the view of a table and of all that it holds. Args: overrides, what is shown in the place of its own members;
-- writable, names that can be written to.
view_of = function(real, path, overrides, writable)
  local found = made[real]
  if found ~= nil then
    return found
  end
  local members = {}
  for name, value in pairs(real) do
    members[name] = shown(value, path .. "." .. tostring(name))
  end
  for name, value in pairs(overrides or {}) do
    members[name] = value
  end
  -- What is made when it is asked for, or was added since.
  setmetatable(members, { __index = function(_, name)
    return shown(real[name], path .. "." .. tostring(name))
  end })
  local mt = getmetatable(real)
  local call = type(mt) == "table" and mt.__call and function(_, ...) return real(...) end or nil
  found = views.protected(members, path, call, writable, real)
  made[real] = found
  return found
end
views.of = view_of

-- Forgets the views that were made: others have other overrides.
function views.renew()
  made = setmetatable({}, { __mode = "k" })
end

-- The same with listed members only: `"a b.c d.()"`; `=d` can be written to. Members with a value of their own each time
-- are read when they are asked for.
function views.listed(real, names, path)
  local allowed, inner, writable, call = {}, {}, {}, nil
  for name in names:gmatch("%S+") do
    local head, rest = name:match("^([^.:]+)[.](.+)$")
    if head then
      inner[head] = (inner[head] or "") .. " " .. rest
    elseif name == "()" then
      call = function(_, ...) return real(...) end
    elseif name:sub(1, 1) == "=" then
      writable[name:sub(2)] = true
    else
      allowed[name] = true
    end
  end
  local members = {}
  for name in pairs(allowed) do
    if not PASSING[path .. "." .. name] then
      local value = real[name]
      members[name] = value ~= nil and shown(value, path .. "." .. name) or nil
    end
  end
  for head, rest in pairs(inner) do
    local value = real[head]
    if type(value) == "table" then
      members[head] = views.listed(value, rest, path .. "." .. head)
    end
  end
  setmetatable(members, { __index = function(_, name)
    if allowed[name] then
      return shown(real[name], path .. "." .. tostring(name))
    end
  end })
  return views.protected(members, path, call, writable, real)
end

-- The marks of arrays are one for all, and modules give them out.
for name, mark in pairs { array_mt = host.array_mt, empty_array_mt = host.empty_array_mt } do
  setmetatable(views.guard(mark, name), { __newindex = function(_, key) refuse(name, key) end, __metatable = false })
end

-- The library `table` ---------------------------------------------------------------------------------------------------

local raw = table
local LONG = 5000 -- members, from which on a function looks at the clock
local LONG_SORT = 100000 -- from which on a sort counts its steps: some 30 ms

local function own(t)
  if type(t) == "table" and guarded[t] then
    refuse(guarded[t], "[]")
  end
  return t
end

local function is_long(t)
  return type(t) == "table" and #t > LONG
end

local function charged(...)
  charge()
  return ...
end

local function charging(f)
  return function(t, ...)
    if is_long(t) then
      return charged(f(t, ...))
    end
    return f(t, ...)
  end
end

-- Over tables whose length says nothing of their size.
local function always_charging(f)
  return function(...)
    return charged(f(...))
  end
end

local safe = {}
views.table = safe
for _, name in pairs { "getn", "new", "pack", "unpack", "isempty" } do
  safe[name] = raw[name]
end
for _, name in pairs { "clone", "isarray", "nkeys", "maxn", "foreach", "foreachi" } do
  safe[name] = always_charging(raw[name])
end
safe.concat = charging(raw.concat)

function safe.insert(t, ...)
  if is_long(own(t)) then
    charge()
  end
  return raw.insert(t, ...)
end

function safe.remove(t, ...)
  if is_long(own(t)) then
    charge()
  end
  return raw.remove(t, ...)
end

function safe.clear(t)
  return charged(raw.clear(own(t)))
end

local function is_less(a, b)
  return a < b
end
function safe.sort(t, is_before)
  -- With a function the steps of a long sort are counted, and it ends with the budget.
  if is_before == nil and type(own(t)) == "table" and #t > LONG_SORT then
    is_before = is_less
  end
  return raw.sort(own(t), is_before)
end

-- The built-in one is bytecode, which can be compiled and would then run past the hook, as far as it is told.
function safe.move(from, first, last, to, into)
  into = into or from
  if to > first and to <= last and into == from then
    for i = last - first, 0, -1 do
      into[to + i] = from[first + i]
    end
  else
    for i = 0, last - first do
      into[to + i] = from[first + i]
    end
  end
  return into
end

for _, f in pairs(safe) do
  pcall(jit.off, f, true)
end
jit.off(is_less)

return views
