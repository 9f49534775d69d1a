local typedefs = require "kong.db.schema.typedefs"

return {
  name = "stream-gate",
  fields = {
    { protocols = typedefs.protocols { default = { "tcp", "tls", "tls_passthrough", "udp" } } },
    { config = { type = "record", fields = { { deny = { type = "string", default = "127.0.0.9" } } } } },
  },
}
