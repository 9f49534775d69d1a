-- The short way from Lua into the engine: its C functions by LuaJIT's foreign-function interface, for the functions of
-- `kong` that plugins call most.
--
-- Owns the shapes of the C functions (crates/engine-py/src/lua.rs has the other half) and nothing of the rules: each
-- function here answers the common case, and whatever the engine refuses goes to the function that was there before,
-- through Python. So a call with an odd argument, in the wrong phase or outside of a request has the same outcome as ever.
local ffi = require "ffi"
local core = require "headgate.core"
local host = require "headgate.host"
local cast, text_of, type = ffi.cast, ffi.string, type
local exchange = core.exchange
local mark_headers, mark_array = host.mark_headers, host.mark_array

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

-- Functions that return all headers; `most` are given out unless the caller asks for another number. Their form is that of
-- `headers` in lua.rs.
local LARGE_BYTES = 32768
local large = ffi.new("uint8_t[?]", LARGE_BYTES)

local function headers_of(size_bytes)
  local found, at = {}, 0
  while at < size_bytes do
    local name_bytes = large[at] + large[at + 1] * 256
    local value_bytes = large[at + 2] + large[at + 3] * 256
    local name = text_of(large + at + 4, name_bytes)
    local value = text_of(large + at + 4 + name_bytes, value_bytes)
    local earlier = found[name]
    if earlier == nil then
      found[name] = value
    elseif type(earlier) == "table" then
      earlier[#earlier + 1] = value
    else
      found[name] = { earlier, value }
      mark_array(found[name])
    end
    at = at + 4 + name_bytes + value_bytes
  end
  return mark_headers(found)
end

function direct.headers(address, which, mask, other, most)
  local call = pointer("int32_t (*)(double, uint32_t, uint32_t, uint32_t, uint8_t *, size_t)", address)
  return function(limit)
    local handle = exchange()
    if handle and limit == nil then
      local size_bytes = call(handle, mask, which, most, large, LARGE_BYTES)
      if size_bytes >= 0 then
        return headers_of(size_bytes)
      end
    end
    return other(limit)
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
