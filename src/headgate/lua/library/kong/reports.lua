-- kong.reports: what Kong tells its maker of plugins' use. This gateway tells nobody: the functions do nothing.
local function nothing() end
return {
  retrieve_redis_version = nothing, send = nothing, log = nothing, toggle = nothing, init = nothing,
  init_worker = nothing, add_ping_value = nothing, add_immutable_value = nothing, get_ping_value = nothing,
}
