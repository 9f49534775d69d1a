-- Sends a line of JSON for each request to a TCP server, after the request is over.
local cjson = require "cjson"

local RequestLogger = { VERSION = "1.1.0", PRIORITY = 7 }

local function send(premature, conf, line)
  if premature then
    return
  end
  local sock = ngx.socket.tcp()
  sock:settimeout(conf.timeout)
  local ok, err = sock:connect(conf.host, conf.port)
  if not ok then
    kong.log.err("failed to connect: ", err)
    return
  end
  ok, err = sock:send(line .. "\n")
  if not ok then
    kong.log.err("failed to send: ", err)
  end
  ok, err = sock:setkeepalive(10000)
  if not ok then
    sock:close()
  end
end

function RequestLogger:log(conf)
  kong.log.set_serialize_value("custom.note", conf.note)
  local ok, err = ngx.timer.at(0, send, conf, cjson.encode(kong.log.serialize()))
  if not ok then
    kong.log.err("failed to create timer: ", err)
  end
end

return RequestLogger
