local typedefs = require "kong.db.schema.typedefs"

return {
  name = "response-cache",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { ttl = { type = "number", default = 30 } },
        },
    } },
  },
}
