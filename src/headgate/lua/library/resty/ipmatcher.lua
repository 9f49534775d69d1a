-- resty.ipmatcher: whether an address is in a list of networks.
local native = require "headgate.native"
local mt = { __index = {} }
function mt.__index:match(address) return native.is_in_networks(address, self.networks) end
return { new = function(networks) return setmetatable({ networks = networks }, mt) end }
