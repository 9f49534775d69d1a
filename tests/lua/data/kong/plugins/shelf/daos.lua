return {
  {
    name = "genres",
    primary_key = { "name" },
    dao = "kong.plugins.shelf.daos.genres",
    admin_api_name = "all-genres",
    fields = {
      { name = { type = "string", required = true, len_max = 20 } },
      { about = { type = "string" } },
      { rank = { type = "integer", unique = true } },
    },
  },
  {
    name = "shelf_marks",
    primary_key = { "consumer", "genre", "number" },
    cache_key = { "consumer", "genre", "number" },
    ttl = true,
    workspaceable = true,
    admin_api_nested_name = "marks",
    fields = {
      { created_at = { type = "integer", timestamp = true, auto = true } },
      { consumer = { type = "foreign", reference = "consumers", required = true, on_delete = "cascade" } },
      { genre = { type = "foreign", reference = "genres", required = true } },
      { number = { type = "integer", required = true } },
      { note = { type = "string", default = "none" } },
      { next_genre = { type = "foreign", reference = "genres", on_delete = "null", generate_admin_api = false } },
    },
  },
}
