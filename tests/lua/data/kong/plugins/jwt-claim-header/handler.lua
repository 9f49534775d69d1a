-- Checks a bearer token and hands one of its claims to the upstream.
local jwt = require "resty.jwt"
local stringx = require "pl.stringx"

local JwtClaimHeader = { VERSION = "0.3.1", PRIORITY = 1005 }

local function bearer()
  local header = kong.request.get_header("authorization")
  if header and stringx.startswith(header:lower(), "bearer ") then
    return stringx.strip(header:sub(8))
  end
end

function JwtClaimHeader:access(conf)
  local token = bearer()
  if not token then
    return kong.response.exit(401, { message = "Unauthorized" }, { ["WWW-Authenticate"] = "Bearer" })
  end
  local object = jwt:verify(conf.secret, token)
  if not object.verified then
    kong.log.notice("token refused: ", object.reason)
    return kong.response.exit(403, { message = object.reason })
  end
  kong.service.request.set_header(conf.header, tostring(object.payload[conf.claim]))
  kong.service.request.clear_header("authorization")
end

return JwtClaimHeader
