local StreamGate = { VERSION = "1.0.0", PRIORITY = 500 }

function StreamGate:certificate(config)
  kong.log.notice("certificate in ", kong.nginx.get_subsystem())
end

function StreamGate:preread(config)
  kong.log.notice("preread ", ngx.var.protocol, " for ", ngx.var.ssl_preread_server_name)
  if kong.client.get_ip() == config.deny then
    return kong.response.exit(403, "denied by Lua")
  end
  ngx.sleep(0.01)
  kong.ctx.plugin.has_waited = true
end

function StreamGate:log(config)
  local session = kong.log.serialize().session
  kong.log.notice("log ", session.status, " ", session.received, "/", ngx.var.bytes_received, " ", session.sent, "/",
    ngx.var.bytes_sent, " ", kong.ctx.plugin.has_waited)
end

return StreamGate
