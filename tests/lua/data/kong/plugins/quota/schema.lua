local typedefs = require "kong.db.schema.typedefs"

return {
  name = "quota",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { limit = { type = "integer", required = true, gt = 0 } },
          { window = { type = "integer", default = 60 } },
          { prefix = { type = "string", default = "quota" } },
          { policy = { type = "string", default = "local", one_of = { "local", "redis" } } },
          { redis = { type = "record", fields = {
              { host = typedefs.host { default = "127.0.0.1" } },
              { port = typedefs.port { default = 6379 } },
          } } },
        },
    } },
  },
}
