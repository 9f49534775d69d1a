-- resty.string: hexadecimal texts.
local format, gsub, byte = string.format, string.gsub, string.byte
local M = {}

function M.to_hex(text)
  return (gsub(text, ".", function(c) return format("%02x", byte(c)) end))
end
function M.from_hex(text)
  return (gsub(text, "%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end
function M.atoi(text)
  return tonumber(text:match("^%s*([+-]?%d+)")) or 0
end

return M
