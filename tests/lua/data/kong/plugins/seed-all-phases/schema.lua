local typedefs = require "kong.db.schema.typedefs"

return {
  name = "seed-all-phases",
  fields = {
    { protocols = typedefs.protocols },
    { config = { type = "record", fields = {} } },
  },
}
