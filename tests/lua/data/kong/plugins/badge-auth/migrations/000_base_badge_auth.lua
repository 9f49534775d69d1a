return {
  postgres = {
    up = [[
      -- The tables are those of daos.lua.
    ]],
  },
}
