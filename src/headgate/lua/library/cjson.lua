-- cjson: JSON for Lua tables. Arrays that were decoded keep a mark, so that empty ones stay arrays.
local host = require "headgate.host"
local byte, char, sub, find, format, gsub = string.byte, string.char, string.sub, string.find, string.format, string.gsub
local concat, type, pairs, tostring, tonumber, floor = table.concat, type, pairs, tostring, tonumber, math.floor
local setmetatable, getmetatable, error, huge = setmetatable, getmetatable, error, math.huge
local null, array_mt, empty_array_mt = host.null, host.array_mt, host.empty_array_mt

local empty_array = setmetatable({}, { __tostring = function() return "empty_array" end })

local DEFAULTS = { precision = 14, max_depth = 1000, decode_max_depth = 1000, array_mt = false,
  empty_table_as_object = true, escape_slash = true, encode_invalid_numbers = false, decode_invalid_numbers = true,
  sparse_convert = false, sparse_ratio = 2, sparse_safe = 10, skip_unsupported = false }
-- The options of the instance that runs: nothing here calls anything of others, so one call is over before the next.
local config

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t", ["/"] = "\\/", ["\127"] = "\\u007f" }
for code = 0, 31 do
  local c = char(code)
  ESCAPES[c] = ESCAPES[c] or format("\\u%04x", code)
end

local function quoted(text)
  if config.escape_slash then
    if find(text, '[%c"\\/\127]') then
      text = gsub(text, '[%c"\\/\127]', ESCAPES)
    end
  elseif find(text, '[%c"\\\127]') then
    text = gsub(text, '[%c"\\\127]', ESCAPES)
  end
  return '"' .. text .. '"'
end

local function number_text(value)
  if value ~= value or value == huge or value == -huge then
    if config.encode_invalid_numbers == "null" then
      return "null"
    elseif config.encode_invalid_numbers then
      return value ~= value and "NaN" or value > 0 and "Infinity" or "-Infinity"
    end
    error("Cannot serialise number: must not be NaN or Infinity", 0)
  end
  if value == floor(value) and value > -1e15 and value < 1e15 then
    return format("%d", value)
  end
  return format("%." .. config.precision .. "g", value)
end

-- The length of a table as an array; nil for an object, -1 for an array that is too sparse.
local function array_length(t)
  local count, largest = 0, 0
  for key in pairs(t) do
    if type(key) ~= "number" or key < 1 or floor(key) ~= key then
      return nil
    end
    count = count + 1
    if key > largest then
      largest = key
    end
  end
  if config.sparse_ratio > 0 and largest > config.sparse_safe and largest > count * config.sparse_ratio then
    return not config.sparse_convert and -1 or nil
  end
  return largest
end

local encode_value

local function is_skipped(value)
  if not config.skip_unsupported then
    return false
  end
  local kind = type(value)
  return kind == "function" or kind == "thread" or kind == "cdata" or (kind == "userdata" and value ~= null)
end

local function encode_array(t, length, parts, count, depth)
  count = count + 1
  parts[count] = "["
  local is_first = true
  for i = 1, length do
    if not is_skipped(t[i]) then
      if not is_first then
        count = count + 1
        parts[count] = ","
      end
      is_first = false
      count = encode_value(t[i], parts, count, depth)
    end
  end
  count = count + 1
  parts[count] = "]"
  return count
end

local function encode_table(t, parts, count, depth)
  if depth > config.max_depth then
    error("Cannot serialise, excessive depth (" .. depth .. ")", 0)
  end
  if t == empty_array then
    parts[count + 1] = "[]"
    return count + 1
  end
  local mt = getmetatable(t)
  if mt == array_mt or (mt == empty_array_mt and #t > 0) then
    return encode_array(t, #t, parts, count, depth)
  elseif mt == empty_array_mt and next(t) == nil then
    parts[count + 1] = "[]"
    return count + 1
  end
  local length = array_length(t)
  if length == -1 then
    error("Cannot serialise table: excessively sparse array", 0)
  end
  if length and length > 0 then
    return encode_array(t, length, parts, count, depth)
  elseif length == 0 and not config.empty_table_as_object then
    parts[count + 1] = "[]"
    return count + 1
  end
  count = count + 1
  parts[count] = "{"
  local is_first = true
  for key, value in pairs(t) do
    if not is_skipped(value) then
      if not is_first then
        count = count + 1
        parts[count] = ","
      end
      is_first = false
      if type(key) == "string" then
        count = count + 1
        parts[count] = quoted(key) .. ":"
      elseif type(key) == "number" then
        count = count + 1
        parts[count] = '"' .. number_text(key) .. '":'
      else
        error("Cannot serialise " .. type(key) .. ": table key must be a number or string", 0)
      end
      count = encode_value(value, parts, count, depth)
    end
  end
  count = count + 1
  parts[count] = "}"
  return count
end

encode_value = function(value, parts, count, depth)
  local kind = type(value)
  if kind == "string" then
    parts[count + 1] = quoted(value)
  elseif kind == "number" then
    parts[count + 1] = number_text(value)
  elseif kind == "boolean" then
    parts[count + 1] = value and "true" or "false"
  elseif kind == "table" then
    return encode_table(value, parts, count, depth + 1)
  elseif value == nil or value == null then
    parts[count + 1] = "null"
  else
    error("Cannot serialise " .. kind .. ": type not supported", 0)
  end
  return count + 1
end

local function encode(value)
  local parts = {}
  local ok, count = pcall(encode_value, value, parts, 0, 0)
  if not ok then
    error(count, 3)
  end
  return concat(parts, "", 1, count)
end

-- decoding ------------------------------------------------------------------------------------------------------------
local function fail(what, position)
  error("Expected value but found " .. what .. " at character " .. position, 0)
end

local SPACE = "^[ \n\r\t]*()"
local UNESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function utf8(code)
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 64), 0x80 + code % 64)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

local function decode_string(text, position)
  local start = position + 1
  local stop = find(text, '["\\%c]', start)
  if stop and byte(text, stop) == 34 then
    return sub(text, start, stop - 1), stop + 1
  end
  local parts, count = {}, 0
  while true do
    stop = find(text, '["\\%c]', start)
    if not stop then
      error("Expected value but found unexpected end of string at character " .. #text + 1, 0)
    end
    count = count + 1
    parts[count] = sub(text, start, stop - 1)
    local code = byte(text, stop)
    if code == 34 then
      return concat(parts, "", 1, count), stop + 1
    elseif code ~= 92 then
      if code == 127 then
        count = count + 1
        parts[count] = "\127"
        start = stop + 1
      else
        error("Expected value but found invalid token at character " .. position, 0)
      end
    else
      local letter = sub(text, stop + 1, stop + 1)
      if letter == "u" then
        local hex = sub(text, stop + 2, stop + 5)
        if not find(hex, "^%x%x%x%x$") then
          error("Expected value but found invalid unicode escape code at character " .. stop, 0)
        end
        local unit = tonumber(hex, 16)
        start = stop + 6
        if unit >= 0xD800 and unit < 0xDC00 then
          local low = text:match("^\\u(%x%x%x%x)", start)
          low = low and tonumber(low, 16)
          if not low or low < 0xDC00 or low > 0xDFFF then
            error("Expected value but found invalid unicode escape code at character " .. stop, 0)
          end
          unit = 0x10000 + (unit - 0xD800) * 0x400 + (low - 0xDC00)
          start = start + 6
        elseif unit >= 0xDC00 and unit <= 0xDFFF then
          error("Expected value but found invalid unicode escape code at character " .. stop, 0)
        end
        count = count + 1
        parts[count] = utf8(unit)
      else
        local plain = UNESCAPES[letter]
        if not plain then
          error("Expected value but found invalid escape code at character " .. stop, 0)
        end
        count = count + 1
        parts[count] = plain
        start = stop + 2
      end
    end
  end
end

local INVALID_NUMBERS = { nan = 0 / 0, infinity = huge, inf = huge, ["-infinity"] = -huge, ["-inf"] = -huge }
local decode_value

local function decode_array(text, position, depth)
  local t = config.array_mt and setmetatable({}, array_mt) or {}
  position = text:match(SPACE, position)
  if byte(text, position) == 93 then
    return t, position + 1
  end
  local count = 0
  while true do
    count = count + 1
    t[count], position = decode_value(text, position, depth)
    position = text:match(SPACE, position)
    local code = byte(text, position)
    if code == 44 then
      position = position + 1
    elseif code == 93 then
      return t, position + 1
    else
      error("Expected comma or array end but found " .. (code and "invalid token" or "T_END") .. " at character "
        .. position, 0)
    end
  end
end

local function decode_object(text, position, depth)
  local t = {}
  position = text:match(SPACE, position)
  if byte(text, position) == 125 then
    return t, position + 1
  end
  while true do
    position = text:match(SPACE, position)
    if byte(text, position) ~= 34 then
      error("Expected object key string but found " .. (byte(text, position) and "invalid token" or "T_END")
        .. " at character " .. position, 0)
    end
    local key
    key, position = decode_string(text, position)
    position = text:match(SPACE, position)
    if byte(text, position) ~= 58 then
      error("Expected colon but found " .. (byte(text, position) and "invalid token" or "T_END") .. " at character "
        .. position, 0)
    end
    t[key], position = decode_value(text, position + 1, depth)
    position = text:match(SPACE, position)
    local code = byte(text, position)
    if code == 44 then
      position = position + 1
    elseif code == 125 then
      return t, position + 1
    else
      error("Expected comma or object end but found " .. (code and "invalid token" or "T_END") .. " at character "
        .. position, 0)
    end
  end
end

decode_value = function(text, position, depth)
  position = text:match(SPACE, position)
  local code = byte(text, position)
  if code == 34 then
    return decode_string(text, position)
  elseif code == 123 or code == 91 then
    if depth >= config.decode_max_depth then
      error("Found too many nested data structures (" .. depth + 1 .. ")", 0)
    end
    return (code == 123 and decode_object or decode_array)(text, position + 1, depth + 1)
  elseif code == 116 and sub(text, position, position + 3) == "true" then
    return true, position + 4
  elseif code == 102 and sub(text, position, position + 4) == "false" then
    return false, position + 5
  elseif code == 110 and sub(text, position, position + 3) == "null" then
    return null, position + 4
  end
  -- As one class, so that a long text is gone over by the built-in matcher.
  local last = find(text, "[^%d.eE+-]", position) or #text + 1
  local number = sub(text, position, last - 1):match("^-?%d+%.?%d*[eE]?[+-]?%d*")
  local value = number and tonumber(number)
  if config.decode_invalid_numbers then
    local word = text:match("^[+-]?%a+", position)
    local found = word and INVALID_NUMBERS[word:lower()]
    if found then
      return found, position + #word
    end
    local hex = text:match("^-?0[xX]%x+", position)
    if hex then
      return tonumber(hex), position + #hex
    end
  end
  if value == nil then
    fail(code and "invalid token" or "T_END", position)
  end
  return value, position + #number
end

local function decode(text)
  if type(text) == "number" then
    text = tostring(text)
  end
  if type(text) ~= "string" then
    error("bad argument #1 to 'decode' (string expected, got " .. (text == nil and "no value" or type(text)) .. ")", 3)
  end
  local ok, value, position = pcall(decode_value, text, 1, 0)
  if not ok then
    error(value, 3)
  end
  position = text:match(SPACE, position)
  if position <= #text then
    error("Expected the end but found invalid token at character " .. position, 3)
  end
  return value
end

local OPTIONS = {
  encode_number_precision = "precision", encode_max_depth = "max_depth", decode_max_depth = "decode_max_depth",
  decode_array_with_array_mt = "array_mt", encode_empty_table_as_object = "empty_table_as_object",
  encode_escape_forward_slash = "escape_slash", encode_invalid_numbers = "encode_invalid_numbers",
  decode_invalid_numbers = "decode_invalid_numbers", encode_skip_unsupported_value_types = "skip_unsupported",
}

-- Each instance has options of its own.
local function new()
  local own = {}
  for name, value in pairs(DEFAULTS) do
    own[name] = value
  end
  local instance = {
    _NAME = "cjson", _VERSION = "2.1.0.14", null = null, array_mt = array_mt, empty_array_mt = empty_array_mt,
    empty_array = empty_array, new = new,
  }
  for name, member in pairs(OPTIONS) do
    instance[name] = function(value)
      if value ~= nil then
        if value == "on" or value == "off" then
          value = value == "on"
        end
        own[member] = value
      end
      return own[member]
    end
  end
  -- What is built is never kept: the memory is the collector's.
  instance.encode_keep_buffer = function() return false end
  function instance.encode_sparse_array(convert, ratio, safe)
    if convert ~= nil then
      own.sparse_convert = convert
    end
    own.sparse_ratio, own.sparse_safe = ratio or own.sparse_ratio, safe or own.sparse_safe
    return own.sparse_convert, own.sparse_ratio, own.sparse_safe
  end
  -- No tail calls: an error's place is counted from here.
  function instance.encode(value)
    config = own
    local text = encode(value)
    return text
  end
  function instance.decode(text)
    config = own
    local value = decode(text)
    return value
  end
  return instance
end

return new()
