-- kong.tools.redis.schema: the fields of a connection to Redis, as plugins have them in common.
local typedefs = require "kong.db.schema.typedefs"

return {
  config_schema = {
    type = "record",
    fields = {
      { host = typedefs.host },
      { port = typedefs.port },
      { timeout = typedefs.timeout { default = 2000 } },
      { username = { type = "string", referenceable = true } },
      { password = { type = "string", referenceable = true, encrypted = true, len_min = 0 } },
      { database = { type = "integer", default = 0 } },
      { ssl = { type = "boolean", default = false } },
      { ssl_verify = { type = "boolean", default = false } },
      { server_name = typedefs.sni },
    },
    entity_checks = { { mutually_required = { "host", "port" } } },
  },
}
