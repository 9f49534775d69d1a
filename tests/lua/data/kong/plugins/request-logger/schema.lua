local typedefs = require "kong.db.schema.typedefs"

return {
  name = "request-logger",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { host = typedefs.host { required = true } },
          { port = typedefs.port { required = true } },
          { timeout = typedefs.timeout { default = 10000 } },
          { note = { type = "string", default = "lua" } },
        },
    } },
  },
}
