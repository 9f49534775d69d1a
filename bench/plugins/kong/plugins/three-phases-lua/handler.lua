-- The three-phase plugin of the measurements, in Lua: the same calls as three_phases.py.
local ThreePhases = {
  VERSION = "1.0.0",
  PRIORITY = 10,
}

function ThreePhases:access(conf)
  local token = kong.request.get_header("authorization")
  kong.service.request.set_header(conf.header, token == nil and "anonymous" or "known")
  kong.ctx.plugin.path = kong.request.get_path()
end

function ThreePhases:header_filter(conf)
  kong.response.set_header(conf.header, kong.ctx.plugin.path)
end

function ThreePhases:log(conf)
  if kong.response.get_status() >= 500 then
    kong.log.warn("upstream failed for ", kong.ctx.plugin.path)
  end
end

return ThreePhases
