local typedefs = require "kong.db.schema.typedefs"

return {
  name = "shelf",
  fields = {
    { protocols = typedefs.protocols_http },
    { config = { type = "record", fields = {} } },
  },
}
