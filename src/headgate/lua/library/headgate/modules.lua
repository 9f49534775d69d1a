-- Modules as functions of the configuration get them.
--
-- Of the gateway's library each chunk has copies of its own, none of it compiled, since the hook that counts does not fire
-- in compiled code. Others, which a setting must name, are the real ones, which plugins may share state with.
local native = require "headgate.native"
local views = require "headgate.views"
local setmetatable, getmetatable, pairs, ipairs, type, error = setmetatable, getmetatable, pairs, ipairs, type, error
local pcall, tostring, require, setfenv, newproxy, select = pcall, tostring, require, setfenv, newproxy, select
local jit, package = jit, package
local G = _G

local modules = {}

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

-- What is no file of the library and is there for everybody.
local BUILT_IN = {
  ["string.buffer"] = safe_buffer,
  ["table.new"] = function() return require "table.new" end,
}
for _, name in ipairs { "clear", "clone", "isarray", "isempty", "nkeys" } do
  BUILT_IN["table." .. name] = function() return views.table[name] end
end

local searcher = package.loaders[2]
local chunks = {} -- the main functions of the library's modules

local function chunk_of(name)
  local chunk = chunks[name]
  if chunk == nil then
    chunk = searcher(name)
    jit.off(chunk, true)
    chunks[name] = chunk
  end
  return chunk
end

-- Returns a real module, loaded without the compiler if nobody has loaded it before.
local function shared_module(name)
  if package.loaded[name] == nil then
    local chunk = searcher(name)
    if type(chunk) == "function" then
      jit.off(chunk, true)
      local value = chunk(name)
      package.loaded[name] = value == nil and true or value
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

-- Returns `require` for one chunk. Args: is_allowed, a function of the name; libraries, the protected libraries by name;
-- ngx and kong, what the library's modules see under these names.
function modules.require_for(is_allowed, libraries, ngx, kong)
  local loaded, environment = {}, nil

  local function load(name)
    if BUILT_IN[name] then
      return BUILT_IN[name]()
    end
    local chunk = chunk_of(name)
    setfenv(chunk, environment)
    local value = chunk(name)
    if name == "kong.tools.utils" then
      -- It takes the names of modules from its caller.
      value.load_module_if_exists = function(wanted)
        return pcall(environment.guarded, wanted)
      end
    end
    return value == nil and true or value
  end

  -- For the library's own files, which ask for nothing else than themselves and what LuaJIT brings.
  local function own(name)
    if loaded[name] == nil then
      if libraries[name] then
        loaded[name] = libraries[name]
      elseif name:find("^headgate%.") then
        return require(name)
      elseif BUILT_IN[name] or native.is_own(name) then
        loaded[name] = load(name)
      else
        error("module '" .. name .. "' not found", 2)
      end
    end
    return loaded[name]
  end

  local function guarded(name)
    if type(name) ~= "string" or not is_allowed(name) then
      error("require '" .. tostring(name) .. "' not allowed within sandbox", 2)
    end
    if environment == nil then
      environment = setmetatable({ require = own, table = views.table, ngx = ngx, kong = kong }, { __index = G })
      environment._G, environment.guarded = environment, guarded
    end
    if libraries[name] or BUILT_IN[name] or native.is_own(name) then
      return own(name)
    end
    return shared_module(name)
  end
  return guarded
end

return modules
