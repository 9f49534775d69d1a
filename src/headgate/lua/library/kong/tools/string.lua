-- kong.tools.string: texts cut, joined and made safe.
local stringx = require "pl.stringx"
local M = {}
function M.split(text, separator) return stringx.split(text, separator) end
M.splitn = function(text, separator, most)
  local parts = stringx.split(text, separator, most)
  return parts, #parts
end
function M.strip(text)
  if text == nil then
    return ""
  end
  return stringx.strip(tostring(text))
end
function M.isplitn(text, separator, most)
  local parts, position = stringx.split(text, separator, most), 0
  return function()
    position = position + 1
    return parts[position], parts[position] and position or nil
  end
end
function M.validate_utf8(value)
  if type(value) ~= "string" then
    value = tostring(value)
  end
  local _, _, fault = ngx.re.find(value, [[^(?:[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2})*$]])
  local first = ngx.re.find(value, [[^(?:[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2})*$]])
  return first ~= nil and fault == nil
end
function M.is_blank(text) return text == nil or text:find("^%s*$") ~= nil end
function M.bytes_to_str(bytes, unit, scale)
  local divisors = { b = 1, k = 1024, m = 1024 ^ 2, g = 1024 ^ 3 }
  unit = (unit or "b"):lower()
  if unit == "b" then
    return math.floor(bytes)
  end
  return ("%." .. (scale or 2) .. "f %siB"):format(bytes / divisors[unit], unit:upper())
end
M.replace_dashes = function(text) return (text:gsub("-", "_")) end
M.replace_dashes_lower = function(text) return (text:gsub("-", "_")):lower() end
M.try_decode_base64 = function(text) return ngx.decode_base64(text) or text end
return M
