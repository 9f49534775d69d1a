local typedefs = require "kong.db.schema.typedefs"

return {
  name = "error-page",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { page = { type = "string", default = "<h1>{{status}}</h1><p>{{path}}</p>\n" } },
        },
    } },
  },
}
