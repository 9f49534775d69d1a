local typedefs = require "kong.db.schema.typedefs"

return {
  name = "my-custom-plugin",
  fields = {
    { protocols = typedefs.protocols },
    { config = { type = "record", fields = {} } },
  },
}
