-- Asks another service whether a request may pass.
local http = require "resty.http"
local cjson = require "cjson.safe"

local ExternalAuth = { VERSION = "1.0.0", PRIORITY = 1000 }

function ExternalAuth:access(conf)
  local client = http.new()
  client:set_timeout(conf.timeout)
  local answer, err = client:request_uri(conf.url, {
    method = "POST",
    headers = { ["Content-Type"] = "application/json" },
    body = cjson.encode({ path = kong.request.get_path(), token = kong.request.get_header("x-token") or cjson.null }),
  })
  if not answer then
    kong.log.err("auth service: ", err)
    return kong.response.exit(502, { message = "auth service unavailable" })
  end
  if answer.status ~= 200 then
    return kong.response.exit(answer.status, answer.body, { ["Content-Type"] = answer.headers["content-type"] })
  end
  local claims = cjson.decode(answer.body)
  kong.service.request.set_header("X-User", claims.user)
end

return ExternalAuth
