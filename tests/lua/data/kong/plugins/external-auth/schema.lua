local typedefs = require "kong.db.schema.typedefs"

return {
  name = "external-auth",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { url = typedefs.url { required = true } },
          { timeout = typedefs.timeout { default = 5000 } },
        },
    } },
  },
}
