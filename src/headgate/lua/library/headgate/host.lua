-- Small functions that Python needs of the machine, and how a Python function becomes a Lua one.
--
-- Owns the null and the array mark that all libraries share, and the conventions of results: a Python function returns
-- its values; a tuple whose third member is RAISE becomes an error at the caller, EXIT ends the handler.
local buffer = require "string.buffer"
local core = require "headgate.core"
local error, setmetatable, getmetatable, type = error, setmetatable, getmetatable, type
local tostring = tostring

local host = {}

host.null = buffer.decode("\3") -- a light userdata of 0, which Lua code has no other way to make
host.array_mt = {}
host.empty_array_mt = {}

local RAISE, EXIT = "\0raise", "\0exit"
host.RAISE, host.EXIT = RAISE, EXIT

function host.set_null(t, key)
  t[key] = host.null
end

function host.is_null(value)
  return value == host.null
end

function host.is_array(t)
  local mt = getmetatable(t)
  return mt == host.array_mt or mt == host.empty_array_mt
end

function host.mark_array(t)
  setmetatable(t, host.array_mt)
end

-- Header tables of getters: an absent name is tried again in lower case, then with dashes.
local header_mt = {}
function header_mt.__index(t, name)
  if type(name) ~= "string" then
    return nil
  end
  local lower = name:lower()
  local value = rawget(t, lower)
  if value == nil and lower:find("_", 1, true) then
    value = rawget(t, (lower:gsub("_", "-")))
  end
  return value
end
host.header_mt = header_mt

function host.mark_headers(t)
  return setmetatable(t, header_mt)
end

local exit, enter = core.exit, core.enter

local function slow(a, b, c)
  if c == RAISE then
    error(b, 3)
  end
  if c == EXIT then
    exit()
  end
  return a, b, c
end

-- For functions whose results are at most two values and no raise in the common case.
function host.wrap(f)
  return function(...)
    enter()
    local a, b, c, d = f(...)
    if c ~= nil then
      -- No tail call: the error's place is counted from here.
      a, b, c = slow(a, b, c)
      return a, b, c
    elseif d ~= nil then
      return a, b, c, d
    elseif b ~= nil then
      return a, b
    end
    return a
  end
end

-- The same for functions that can take long: within a budget the clock is looked at after each call.
local charge = core.charge
function host.wrap_heavy(f)
  return function(...)
    enter()
    local a, b, c = f(...)
    charge()
    if c ~= nil then
      a, b, c = slow(a, b, c)
      return a, b, c
    elseif b ~= nil then
      return a, b
    end
    return a
  end
end

-- The same for functions of few arguments: no vararg and no nil too many, so that they are cheaper.
function host.wrap0(f)
  return function()
    enter()
    local a, b, c = f()
    if c ~= nil then
      a, b, c = slow(a, b, c)
      return a, b, c
    elseif b ~= nil then
      return a, b
    end
    return a
  end
end

function host.wrap1(f)
  return function(x)
    enter()
    local a, b, c = f(x)
    if c ~= nil then
      a, b, c = slow(a, b, c)
      return a, b, c
    elseif b ~= nil then
      return a, b
    end
    return a
  end
end

function host.wrap2(f)
  return function(x, y)
    enter()
    local a, b, c = f(x, y)
    if c ~= nil then
      a, b, c = slow(a, b, c)
      return a, b, c
    elseif b ~= nil then
      return a, b
    end
    return a
  end
end

function host.wrap3(f)
  return function(x, y, z)
    enter()
    local a, b, c = f(x, y, z)
    if c ~= nil then
      -- No tail call: the error's place is counted from here.
      a, b, c = slow(a, b, c)
      return a, b, c
    elseif b ~= nil then
      return a, b
    end
    return a
  end
end

local function settled(a, b, c, ...)
  if c == RAISE then
    error(b, 3)
  end
  return a, b, c, ...
end

-- For functions whose first result is an awaitable; its values are the results.
function host.wrap_waiting(f)
  return function(...)
    core.must_wait()
    enter()
    local awaitable, err, how = f(...)
    if how ~= nil then
      awaitable, err, how = slow(awaitable, err, how)
      return awaitable, err, how
    end
    if awaitable == nil then
      return nil, err
    end
    return settled(core.wait(awaitable))
  end
end

function host.compile(source, name, environment)
  return loadstring(source, name)
end

host.charge = core.charge

function host.text_of(value)
  return tostring(value)
end

return host
