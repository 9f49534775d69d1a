-- resty.random: random bytes.
local native = require "headgate.native"
return {
  bytes = function(length) return native.random(length) end,
  number = function(low, high) return native.random_number(low, high) end,
  token = function(length)
    return (native.random(length):gsub(".", function(c)
      local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
      local position = c:byte() % #alphabet + 1
      return alphabet:sub(position, position)
    end))
  end,
}
