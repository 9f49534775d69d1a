-- What functions of the configuration see: one environment per chunk, by mode.
--
-- Owns the lists of names and the protection of what they reach. Library tables are copies that read through a proxy:
-- neither new nor existing members can be changed. Rule: nothing here gives out a real global table, a metatable, or a
-- function that takes a function's environment.
local core = require "headgate.core"
local setmetatable, getmetatable, rawset, rawget, pairs, ipairs, type = setmetatable, getmetatable, rawset, rawget, pairs, ipairs, type
local error, pcall, tostring, require, load = error, pcall, tostring, require, load
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

local function protected(members, path)
  return setmetatable({}, {
    __index = members,
    __newindex = function(_, key)
      error("Cannot modify " .. path .. "." .. tostring(key) .. ". Protected by the sandbox.", 2)
    end,
    __metatable = false,
  })
end

local function nothing(path)
  return setmetatable({}, {
    __newindex = function(_, key)
      error("Cannot modify " .. path .. "." .. tostring(key) .. ". Protected by the sandbox.", 2)
    end,
    __tostring = function() return "nil" end,
    __metatable = false,
  })
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

local function base_names()
  local names = {}
  for name in words(BASIC) do
    names[name] = G[name]
  end
  names.pcall, names.xpcall = bounded_pcall, bounded_xpcall
  for library, members in pairs(LIBRARIES) do
    local copy = {}
    for member in words(members) do
      copy[member] = G[library][member]
    end
    if library == "coroutine" then
      copy.resume = bounded_resume
    end
    names[library] = protected(copy, "_G." .. library)
  end
  return names
end

local function sandboxed_kong()
  local kong = G.kong
  local configuration = kong.configuration.remove_sensitive()
  local overrides = {
    licensing = nothing("kong.licensing"),
    configuration = setmetatable({ remove_sensitive = function() return configuration end }, {
      __index = configuration,
      __newindex = function() error("cannot write to configuration", 2) end,
      __metatable = false,
    }),
    cache = setmetatable({ cluster_events = nothing("kong.cache.cluster_events") },
      { __index = kong.cache, __metatable = false }),
    core_cache = setmetatable({ cluster_events = nothing("kong.cache.cluster_events") },
      { __index = kong.core_cache, __metatable = false }),
  }
  return setmetatable({}, {
    __index = function(_, name)
      local own = overrides[name]
      if own ~= nil then
        return own
      end
      return kong[name]
    end,
    __metatable = false,
  })
end

local function guarded_require(is_allowed)
  return function(name)
    if not is_allowed(name) then
      error("require '" .. tostring(name) .. "' not allowed within sandbox", 2)
    end
    return require(name)
  end
end

-- A table with only the listed members of a real one, read when they are asked for: `"a b.c d[*]"`.
local function listed(real, names, path)
  local allowed, inner = {}, {}
  for name in words(names) do
    local head, rest = name:match("^([^.:]+)[.](.+)$")
    if head then
      inner[head] = (inner[head] or "") .. " " .. rest
    else
      allowed[name] = true
    end
  end
  local proxies = {}
  for head, rest in pairs(inner) do
    proxies[head] = listed(function() return real()[head] end, rest, path .. "." .. head)
  end
  return setmetatable({}, {
    __index = function(_, name)
      if proxies[name] then
        return proxies[name]
      end
      if allowed[name] then
        return real()[name]
      end
    end,
    __newindex = function(_, name, value)
      if allowed["=" .. tostring(name)] then
        real()[name] = value
        return
      end
      error("Cannot modify " .. path .. "." .. tostring(name) .. ". Protected by the sandbox.", 2)
    end,
    __call = allowed["()"] and function(_, ...) return real()(...) end or nil,
    __metatable = false,
  })
end

local function listed_ngx(names)
  local constants = {}
  for name, value in pairs(G.ngx) do
    if type(value) == "number" then
      constants[#constants + 1] = name
    end
  end
  return listed(function() return G.ngx end,
    names .. " " .. table.concat(constants, " "), "ngx")
end

-- Returns a function that gives a new environment for each chunk; nil in the mode off.
function sandbox.environments(mode, requires, extra, lists)
  if mode == "on" then
    return function()
      return setmetatable({}, { __index = G })
    end
  end
  local names = base_names()
  if mode == "sandbox" then
    local allowed = {}
    for _, name in ipairs(requires) do
      allowed[name] = true
    end
    names.kong, names.ngx = sandboxed_kong(), G.ngx
    names.require = guarded_require(function(name) return allowed[name] == true end)
    for _, path in ipairs(extra) do
      local value = lookup(path)
      if value ~= nil then
        link(names, path, value)
      end
    end
  else
    local allowed = {}
    for name in words(lists.modules) do
      allowed[name] = true
    end
    names.kong = listed(function() return G.kong end, lists.kong, "kong")
    names.ngx = listed_ngx(lists.ngx)
    names.require = guarded_require(function(name) return allowed[name] == true end)
  end
  return function()
    local visible = { require = names.require, kong = names.kong, ngx = names.ngx }
    visible._G = visible
    return setmetatable({ _G = visible }, { __index = names, __metatable = false })
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
