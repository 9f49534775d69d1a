local typedefs = require "kong.db.schema.typedefs"

return {
  name = "body-rewrite",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { pattern = { type = "string", required = true, is_regex = true } },
          { replacement = { type = "string", required = true, len_min = 0 } },
        },
    } },
  },
}
