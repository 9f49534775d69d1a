-- The short way from Lua into the engine: its C functions by LuaJIT's foreign-function interface, for the functions of
-- `kong` that plugins call most.
--
-- Owns the shapes of the C functions (crates/engine-py/src/lua.rs has the other half) and nothing of the rules: each
-- function here answers the common case, and whatever the engine refuses goes to the function that was there before,
-- through Python. So a call with an odd argument, in the wrong phase or outside of a request has the same outcome as ever.
local ffi = require "ffi"
local core = require "headgate.core"
local cast, text_of, type = ffi.cast, ffi.string, type
local exchange = core.exchange

local ABSENT = -1
local CAPACITY_BYTES = 4096
local buffer = ffi.new("uint8_t[?]", CAPACITY_BYTES)

local direct = {}

local function pointer(kind, address)
  return cast(kind, cast("uintptr_t", address))
end

-- Functions without arguments that return a text.
function direct.text(address, which, mask, other)
  local call = pointer("int32_t (*)(double, uint32_t, uint32_t, uint8_t *, size_t)", address)
  return function()
    local handle = exchange()
    if handle then
      local size_bytes = call(handle, mask, which, buffer, CAPACITY_BYTES)
      if size_bytes >= 0 then
        return text_of(buffer, size_bytes)
      end
    end
    return other()
  end
end

-- Functions of a name that return a text or nil.
function direct.named_text(address, which, mask, other)
  local call =
    pointer("int32_t (*)(double, uint32_t, uint32_t, const uint8_t *, size_t, uint8_t *, size_t)", address)
  return function(name)
    local handle = exchange()
    if handle and type(name) == "string" then
      local size_bytes = call(handle, mask, which, name, #name, buffer, CAPACITY_BYTES)
      if size_bytes >= 0 then
        return text_of(buffer, size_bytes)
      elseif size_bytes == ABSENT then
        return nil
      end
    end
    return other(name)
  end
end

-- Functions without arguments that return a whole number or nil.
function direct.number(address, which, mask, other)
  local call = pointer("int32_t (*)(double, uint32_t, uint32_t)", address)
  return function()
    local handle = exchange()
    if handle then
      local number = call(handle, mask, which)
      if number >= 0 then
        return number
      elseif number == ABSENT then
        return nil
      end
    end
    return other()
  end
end

-- Functions of a name and a text.
function direct.set(address, which, mask, other)
  local call =
    pointer("int32_t (*)(double, uint32_t, uint32_t, const uint8_t *, size_t, const uint8_t *, size_t)", address)
  return function(name, value)
    local handle = exchange()
    if handle and type(name) == "string" and type(value) == "string" then
      if call(handle, mask, which, name, #name, value, #value) == 0 then
        return
      end
    end
    return other(name, value)
  end
end

-- Functions of a name.
function direct.clear(address, which, mask, other)
  local call = pointer("int32_t (*)(double, uint32_t, uint32_t, const uint8_t *, size_t)", address)
  return function(name)
    local handle = exchange()
    if handle and type(name) == "string" and call(handle, mask, which, name, #name) == 0 then
      return
    end
    return other(name)
  end
end

-- Tells core.lua which requests are over.
function direct.next_released(address)
  core.follow(pointer("double (*)()", address))
end

return direct
