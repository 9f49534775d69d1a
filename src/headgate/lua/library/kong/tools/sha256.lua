-- kong.tools.sha256: digests of texts.
local native, to_hex = require "headgate.native", require("resty.string").to_hex
local M = {}
function M.sha256_bin(text) return native.digest("sha256", text) end
function M.sha256_hex(text) return to_hex(M.sha256_bin(text)) end
function M.sha256_base64(text) return ngx.encode_base64(M.sha256_bin(text)) end
function M.sha256_base64url(text) return (ngx.encode_base64(M.sha256_bin(text), true):gsub("%+", "-"):gsub("/", "_")) end
return M
