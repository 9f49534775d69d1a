local typedefs = require "kong.db.schema.typedefs"

return {
  name = "header-injector",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { request = { type = "map", required = true, default = {}, keys = typedefs.header_name,
              values = { type = "string" } } },
          { response = { type = "map", required = true, default = {}, keys = typedefs.header_name,
              values = { type = "string" } } },
        },
    } },
  },
}
