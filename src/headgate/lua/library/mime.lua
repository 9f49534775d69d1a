-- mime: Base64 and quoted-printable, whole and as filters for ltn12 (LuaSocket's module).
local M = { _VERSION = "MIME 1.0.3" }

-- The low-level functions take what was left before and a new piece; they return what is done and what is left.
function M.b64(left, piece)
  local text = (left or "") .. (piece or "")
  if piece == nil then
    return ngx.encode_base64(text)
  end
  local whole = #text - #text % 3
  return ngx.encode_base64(text:sub(1, whole)), text:sub(whole + 1)
end
function M.unb64(left, piece)
  local text = ((left or "") .. (piece or "")):gsub("[^%w+/=]", "")
  if piece == nil then
    return ngx.decode_base64(text) or ""
  end
  local whole = #text - #text % 4
  return ngx.decode_base64(text:sub(1, whole)) or "", text:sub(whole + 1)
end
function M.qp(left, piece)
  local text = (left or "") .. (piece or "")
  return (text:gsub("[^\r\n\t !-<>-~]", function(c) return ("=%02X"):format(c:byte()) end)), ""
end
function M.unqp(left, piece)
  local text = ((left or "") .. (piece or "")):gsub("=\r?\n", "")
  return (text:gsub("=(%x%x)", function(pair) return string.char(tonumber(pair, 16)) end)), ""
end

local function cycle(low)
  return function() return require("ltn12").filter.cycle(low, "") end
end
local ENCODERS, DECODERS = { base64 = M.b64, ["quoted-printable"] = M.qp }, { base64 = M.unb64, ["quoted-printable"] = M.unqp }
function M.encode(name) return cycle(ENCODERS[name or "base64"] or error("unknown encoding " .. tostring(name), 2))() end
function M.decode(name) return cycle(DECODERS[name or "base64"] or error("unknown encoding " .. tostring(name), 2))() end

return M
