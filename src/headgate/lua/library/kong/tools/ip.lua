-- kong.tools.ip: addresses and host names.
local native = require "headgate.native"
local M = {}
function M.hostname_type(name)
  return native.ip_kind(name) or "name"
end
function M.is_valid_ip(text) return native.ip_kind(text) ~= nil end
function M.is_valid_ip_or_cidr(text) return native.is_in_networks("127.0.0.1", { text }) ~= nil end
function M.normalize_ip(text)
  local host, port = text:match("^%[?([^%]]-)%]?:?(%d*)$")
  return { host = host, port = tonumber(port), type = M.hostname_type(host or text) }
end
return M
