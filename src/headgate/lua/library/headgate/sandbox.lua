-- What functions of the configuration see: one environment per chunk, by mode.
--
-- Owns the lists of names. What they reach is read through views (`headgate.views`): neither new nor existing members can
-- be changed. Rule: nothing here gives out a real global table, a metatable, or a function that takes a function's
-- environment.
local core = require "headgate.core"
local modules = require "headgate.modules"
local views = require "headgate.views"
local setmetatable, rawset, rawget, pairs, ipairs, type = setmetatable, rawset, rawget, pairs, ipairs, type
local error, pcall, tonumber, load, jit = error, pcall, tonumber, load, jit
local G = _G

local sandbox = {}

local BASIC = "_VERSION assert error ipairs next pairs print select tonumber tostring type unpack"
local LIBRARIES = {
  bit = "arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex",
  coroutine = "create resume running status wrap yield",
  io = "type",
  jit = "os arch version version_num",
  math = "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min modf pi pow rad "
    .. "random sin sinh sqrt tan tanh",
  os = "clock date difftime time",
  string = "byte char find format gmatch gsub len lower match rep reverse sub upper",
  table = "clear clone concat foreach foreachi getn insert isarray isempty maxn move new nkeys pack remove sort unpack",
}

local function words(text)
  return text:gmatch("%S+")
end

-- After a caught error the budget is looked at again, so that no pcall outlives it.
local function checked(...)
  core.check_budget()
  return ...
end
local function bounded_pcall(f, ...)
  return checked(pcall(f, ...))
end
-- The handler runs after the fault is caught: inside of it, no hook would fire.
local function handled(handler, ok, ...)
  core.check_budget()
  if ok then
    return true, ...
  end
  return false, handler(...)
end
local function bounded_xpcall(f, handler, ...)
  return handled(handler, pcall(f, ...))
end
local function bounded_resume(...)
  return checked(coroutine.resume(...))
end

local function lookup(path)
  local value = G
  for part in path:gmatch("[^.]+") do
    if type(value) ~= "table" then
      return nil
    end
    value = value[part]
  end
  return value
end

local function link(target, path, value)
  local parts = {}
  for part in path:gmatch("[^.]+") do
    parts[#parts + 1] = part
  end
  for i = 1, #parts - 1 do
    local inner = rawget(target, parts[i])
    if type(inner) ~= "table" then
      inner = {}
      rawset(target, parts[i], inner)
    end
    target = inner
  end
  if type(value) == "table" then
    value = setmetatable({}, { __index = value, __metatable = false })
  end
  rawset(target, parts[#parts], value)
end

local function bounded_tonumber(text, ...)
  if type(text) == "string" and #text > 65536 then
    core.charge()
  end
  return tonumber(text, ...)
end

local function base_names()
  local names = {}
  for name in words(BASIC) do
    names[name] = G[name]
  end
  names.pcall, names.xpcall, names.tonumber = bounded_pcall, bounded_xpcall, bounded_tonumber
  for library, members in pairs(LIBRARIES) do
    local copy = {}
    for member in words(members) do
      copy[member] = G[library][member]
    end
    if library == "coroutine" then
      copy.resume = bounded_resume
    elseif library == "table" then
      copy = {}
      for member in words(members) do
        copy[member] = views.table[member]
      end
    end
    names[library] = views.protected(copy, "_G." .. library)
  end
  return names
end

local function copied(value)
  if type(value) ~= "table" then
    return value
  end
  local copy = {}
  for key, inner in pairs(value) do
    copy[key] = copied(inner)
  end
  return copy
end

-- The settings with secrets masked; tables in them are copies each time, so that lists are lists.
local function sandboxed_configuration()
  local remove_sensitive = G.kong.configuration.remove_sensitive
  local configuration = remove_sensitive()
  local members = setmetatable({ remove_sensitive = remove_sensitive }, {
    __index = function(_, name) return copied(configuration[name]) end,
  })
  local view = setmetatable({}, {
    __index = members,
    __newindex = function() error("cannot write to configuration", 2) end,
    __metatable = false,
  })
  return views.guard(view, "kong.configuration")
end

-- What would change the log of everybody.
local function not_within_sandbox(name)
  return function()
    error(name .. " not allowed within sandbox; kong.log.new gives a log of its own", 2)
  end
end

local function whole_kong()
  local kong = G.kong
  views.renew()
  views.of(kong.log, "kong.log", {
    set_format = not_within_sandbox("kong.log.set_format"),
    inspect = views.of(kong.log.inspect, "kong.log.inspect", {
      on = not_within_sandbox("kong.log.inspect.on"), off = not_within_sandbox("kong.log.inspect.off"),
    }),
  })
  views.of(kong.table, "kong.table", { clear = views.table.clear })
  views.of(kong.cache, "kong.cache", { cluster_events = views.nothing("kong.cache.cluster_events") })
  views.of(kong.core_cache, "kong.core_cache", { cluster_events = views.nothing("kong.cache.cluster_events") })
  return views.of(kong, "kong", {
    licensing = views.nothing("kong.licensing"),
    configuration = sandboxed_configuration(),
  })
end

local function listed_ngx(names)
  local constants = {}
  for name, value in pairs(G.ngx) do
    if type(value) == "number" then
      constants[#constants + 1] = name
    end
  end
  return views.listed(G.ngx, names .. " " .. table.concat(constants, " "), "ngx")
end

-- Returns a function that gives a new environment for each chunk; nil in the mode off.
function sandbox.environments(mode, requires, extra, lists)
  if mode == "on" then
    return function()
      return setmetatable({}, { __index = G })
    end
  end
  local names, allowed = base_names(), {}
  local libraries = {}
  for library in pairs(LIBRARIES) do
    libraries[library] = names[library]
  end
  local kong = whole_kong()
  local ngx = views.of(G.ngx, "ngx", nil, { status = true, ctx = true })
  if mode == "sandbox" then
    for _, name in ipairs(requires) do
      allowed[name] = true
    end
    names.kong, names.ngx = kong, ngx
    for _, path in ipairs(extra) do
      local value = lookup(path)
      if value ~= nil then
        link(names, path, value)
      end
    end
  else
    for name in words(lists.modules) do
      allowed[name] = true
    end
    names.kong = views.listed(kong, lists.kong, "kong")
    names.ngx = listed_ngx(lists.ngx)
  end
  local function is_allowed(name)
    return allowed[name] == true
  end
  return function()
    local own_require = modules.require_for(is_allowed, libraries, ngx, kong)
    -- New members of `kong` are the chunk's own.
    local own_kong = mode == "sandbox" and setmetatable({}, { __index = names.kong, __metatable = false }) or names.kong
    local visible = { require = own_require, kong = own_kong, ngx = names.ngx }
    visible._G = visible
    return setmetatable({ require = own_require, kong = own_kong, _G = visible }, { __index = names, __metatable = false })
  end
end

-- Returns a function that runs one element of a list as the reference says: what it returns first is kept.
function sandbox.element(source, environment, is_compiled)
  local chunk, err = load(source, source, "t", environment)
  if chunk == nil then
    return nil, err
  end
  if not is_compiled then
    jit.off(chunk, true)
  end
  local kept, is_first = nil, true
  return function()
    if kept then
      kept()
    elseif is_first then
      is_first = false
      local returned = chunk()
      if type(returned) == "function" then
        kept = returned
        returned()
      end
    else
      chunk()
    end
  end
end

-- Returns a function that runs elements in order.
function sandbox.list(elements)
  local count = #elements
  if count == 1 then
    return elements[1]
  end
  return function()
    for i = 1, count do
      elements[i]()
    end
  end
end

-- Returns a chunk whose value is wanted each time (custom fields of log plugins).
function sandbox.expression(source, environment, is_compiled)
  local chunk, err = load(source, source, "t", environment)
  if chunk == nil then
    return nil, err
  elseif not is_compiled then
    jit.off(chunk, true)
  end
  return chunk
end

return sandbox
