-- kong.tools.utils: all functions of the other kong.tools modules under one name.
local M = {}
for _, name in ipairs { "table", "string", "uuid", "rand", "sha256", "gzip", "time", "ip", "http", "cjson", "module",
  "system" } do
  for key, value in pairs(require("kong.tools." .. name)) do
    M[key] = value
  end
end
M.normalize_ipv4 = function(text) return M.normalize_ip(text) end
M.check_hostname = function(text) return #text > 0 and not text:find("[^%w%.%-_]") and text or nil end
return M
