-- Puts configured headers on requests and responses.
local HeaderInjector = { VERSION = "1.2.0", PRIORITY = 800 }

function HeaderInjector:access(conf)
  for name, value in pairs(conf.request) do
    kong.service.request.set_header(name, value)
  end
  kong.ctx.plugin.started = ngx.now()
end

function HeaderInjector:header_filter(conf)
  for name, value in pairs(conf.response) do
    kong.response.add_header(name, value)
  end
  ngx.header["X-Took"] = string.format("%.3f", ngx.now() - kong.ctx.plugin.started)
end

return HeaderInjector
