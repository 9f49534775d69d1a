-- ffi-zlib: gzip streams, from a function that gives pieces to one that takes them.
local native = require "headgate.native"
local M = {}

local function all(input)
  local pieces = {}
  while true do
    local piece = input(16384)
    if piece == nil or piece == "" then
      return table.concat(pieces)
    end
    pieces[#pieces + 1] = piece
  end
end

function M.deflateGzip(input, output)
  output(native.gzip(all(input)))
  return true
end
function M.inflateGzip(input, output)
  local text, err = native.gunzip(all(input))
  if not text then
    return false, "INFLATE: " .. tostring(err)
  end
  output(text)
  return true
end

return M
