local typedefs = require "kong.db.schema.typedefs"

return {
  name = "seed-multi-protocol",
  fields = {
    { protocols = typedefs.protocols },
    { config = { type = "record", fields = {} } },
  },
}
