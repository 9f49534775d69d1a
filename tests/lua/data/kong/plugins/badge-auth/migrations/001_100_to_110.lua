return {
  postgres = {
    up = "",
    up_f = function(connector)
      assert(connector ~= nil)
    end,
    teardown = function(connector)
      return true
    end,
  },
}
