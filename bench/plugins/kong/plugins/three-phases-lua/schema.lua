local typedefs = require "kong.db.schema.typedefs"

return {
  name = "three-phases-lua",
  fields = {
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = { { header = { type = "string", default = "X-Bench" } } },
    } },
  },
}
