-- What functions of the configuration see: one environment per chunk, by mode.
--
-- Owns the lists of names and the protection of what they reach. Library tables are copies that read through a proxy:
-- neither new nor existing members can be changed. Rule: nothing here gives out a real global table, a metatable, or a
-- function that takes a function's environment.
local core = require "headgate.core"
local setmetatable, getmetatable, rawset, rawget, pairs, ipairs, type = setmetatable, getmetatable, rawset, rawget, pairs, ipairs, type
local error, pcall, tostring, require, load = error, pcall, tostring, require, load
local select, setfenv, newproxy, jit, package = select, setfenv, newproxy, jit, package
local native = require "headgate.native"
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

-- What LuaJIT has as bytecode of its own can be compiled, and would then run past the hook: `move` goes as far as it is
-- told. The others of that kind are bounded by the size of their table.
local function move(from, first, last, to, into)
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
jit.off(move)

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
    elseif library == "table" then
      copy.move = move
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
  -- Tables all the way, no function: what is not overridden is the real one.
  return setmetatable({}, { __index = setmetatable(overrides, { __index = kong }), __metatable = false })
end

-- `string.buffer` without what gives out memory itself (`ref`, `reserve`, `commit`): a pointer reads and writes anywhere.
local function safe_buffer()
  local real = require "string.buffer"
  local buffers = setmetatable({}, { __mode = "k" })
  local prototype = newproxy(true)
  local methods, mt = {}, getmetatable(prototype)
  local function of(buffer)
    return buffers[buffer] or error("bad argument #1 (buffer expected)", 3)
  end
  local function plain(...)
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      local kind = type(value)
      if kind ~= "string" and kind ~= "number" then
        error("bad argument #" .. i .. " (string expected, got " .. kind .. ")", 3)
      end
    end
    return ...
  end
  local function new(size)
    local buffer = newproxy(prototype)
    buffers[buffer] = real.new(type(size) == "number" and size or nil)
    return buffer
  end
  for _, name in ipairs { "put", "set" } do
    methods[name] = function(buffer, ...)
      local own = of(buffer)
      own[name](own, plain(...))
      return buffer
    end
  end
  for _, name in ipairs { "putf", "skip", "reset", "free", "encode" } do
    methods[name] = function(buffer, ...)
      local own = of(buffer)
      own[name](own, ...)
      return buffer
    end
  end
  for _, name in ipairs { "get", "tostring", "decode" } do
    methods[name] = function(buffer, ...)
      local own = of(buffer)
      return own[name](own, ...)
    end
  end
  mt.__index, mt.__metatable = methods, false
  mt.__len = function(buffer) return #of(buffer) end
  mt.__tostring = function(buffer) return tostring(of(buffer)) end
  mt.__concat = function(a, b) return tostring(a) .. tostring(b) end
  return { new = new, encode = function(value) return real.encode(value) end,
    decode = function(text) return real.decode(plain(text)) end }
end

-- Modules as sandboxed code gets them: of the gateway's library a copy of its own, and none of it compiled, since the
-- hook that counts does not fire in compiled code. Others are the real ones, which plugins may share state with.
local searcher = package.loaders[2]
local function interpreted_require()
  local loaded = {}
  local own
  local environment = setmetatable({ require = function(name) return own(name) end }, { __index = G, __newindex = G })
  local function run(chunk, name, env)
    jit.off(chunk, true)
    if env then
      setfenv(chunk, env)
    end
    local value = chunk(name)
    return value == nil and true or value
  end
  own = function(name)
    if loaded[name] ~= nil then
      return loaded[name]
    elseif name == "string.buffer" then
      loaded[name] = safe_buffer()
    elseif name:find("^headgate%.") then
      return require(name)
    elseif native.is_own(name) then
      loaded[name] = run(searcher(name), name, environment)
    else
      if package.loaded[name] == nil then
        local chunk = searcher(name)
        if type(chunk) == "function" then
          package.loaded[name] = run(chunk, name)
        end
      end
      local module = require(name)
      for _, member in pairs(type(module) == "table" and module or { module }) do
        if type(member) == "function" then
          pcall(jit.off, member, true)
        end
      end
      return module
    end
    return loaded[name]
  end
  return own
end

local function guarded_require(is_allowed)
  local own = interpreted_require()
  return function(name)
    if not is_allowed(name) then
      error("require '" .. tostring(name) .. "' not allowed within sandbox", 2)
    end
    return own(name)
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
