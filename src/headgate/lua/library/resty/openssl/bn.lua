-- resty.openssl.bn: numbers as keys and certificates have them; read and written, not calculated with.
local M = {}
local mt = { __index = M }

-- Digits of a decimal text, from those of a hexadecimal one.
local function decimal(hex)
  local digits = { 0 }
  for code in hex:gmatch("%x") do
    local carry = tonumber(code, 16)
    for i = 1, #digits do
      local value = digits[i] * 16 + carry
      digits[i] = value % 10
      carry = (value - digits[i]) / 10
    end
    while carry > 0 do
      digits[#digits + 1] = carry % 10
      carry = (carry - carry % 10) / 10
    end
  end
  local text = {}
  for i = #digits, 1, -1 do
    text[#text + 1] = string.format("%d", digits[i])
  end
  return table.concat(text)
end

function M.from_hex(hex)
  hex = hex:upper():gsub("^0+(%x)", "%1")
  return setmetatable({ hex = #hex % 2 == 1 and "0" .. hex or hex }, mt)
end
function M.from_binary(text)
  return M.from_hex((text:gsub(".", function(one) return ("%02X"):format(one:byte()) end)))
end
function M.new(value)
  return M.from_hex(type(value) == "number" and ("%X"):format(value) or value or "0")
end
function M.istype(object) return type(object) == "table" and getmetatable(object) == mt end

function M:to_hex() return self.hex end
function M:to_dec() return decimal(self.hex) end
function M:to_number() return tonumber(self.hex, 16) end
function M:to_binary(size)
  local text = self.hex:gsub("%x%x", function(two) return string.char(tonumber(two, 16)) end)
  return size and ("\0"):rep(size - #text) .. text or text
end
M.tonumber, M.tostring = M.to_number, M.to_dec
mt.__tostring = M.to_dec
mt.__eq = function(a, b) return a.hex == b.hex end

return M
