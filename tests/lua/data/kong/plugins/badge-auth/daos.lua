local typedefs = require "kong.db.schema.typedefs"

return {
  {
    name = "badges",
    primary_key = { "id" },
    endpoint_key = "code",
    cache_key = { "code" },
    workspaceable = true,
    ttl = true,
    admin_api_name = "badges",
    admin_api_nested_name = "badges",
    fields = {
      { id = typedefs.uuid },
      { created_at = typedefs.auto_timestamp_s },
      { consumer = { type = "foreign", reference = "consumers", required = true, on_delete = "cascade" } },
      { code = { type = "string", required = false, unique = true, auto = true } },
      { level = { type = "integer", between = { 1, 9 }, default = 1 } },
      { uses = { type = "integer", default = 0 } },
      { valid_from = { type = "integer" } },
      { valid_to = { type = "integer" } },
      { tags = typedefs.tags },
      -- The PIN itself is not kept.
      { pin = { type = "string", len_min = 4, transient = true } },
      { pin_digest = { type = "string" } },
      { grade = { type = "string" } },
    },
    transformations = {
      {
        input = { "pin" },
        on_write = function(pin)
          if pin == "1234" then
            return nil, "too common a PIN"
          end
          return { pin_digest = ngx.md5(pin) }
        end,
      },
      {
        input = { "level" },
        on_read = function(level)
          return { grade = level > 5 and "high" or "low" }
        end,
      },
    },
    entity_checks = {
      { mutually_required = { "valid_from", "valid_to" } },
    },
  },
}
