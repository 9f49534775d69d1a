-- What resty.md5, resty.sha1, … are made of: the pieces are kept until the end.
local native = require "headgate.native"

return function(name)
  local mt = { __index = {} }
  local digest = mt.__index
  function digest:new()
    return setmetatable({ pieces = {} }, mt)
  end
  function digest:update(piece)
    self.pieces[#self.pieces + 1] = tostring(piece)
    return true
  end
  function digest:final()
    return native.digest(name, table.concat(self.pieces))
  end
  function digest:reset()
    self.pieces = {}
    return true
  end
  return digest
end
