local typedefs = require "kong.db.schema.typedefs"

return {
  name = "jwt-claim-header",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { secret = { type = "string", required = true, referenceable = true, encrypted = true } },
          { claim = { type = "string", default = "sub" } },
          { header = typedefs.header_name { default = "X-Claim" } },
        },
    } },
  },
}
