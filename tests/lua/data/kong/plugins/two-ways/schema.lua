return {
  name = "two-ways",
  fields = {
    { config = { type = "record", fields = { { file = { type = "string", required = true } } } } },
  },
}
