-- resty.ipmatcher: whether an address is in a list of networks.
local native = require "headgate.native"
local M = {}
local mt = { __index = {} }

local function text_of(bytes)
  if #bytes == 4 then
    return ("%d.%d.%d.%d"):format(bytes:byte(1, 4))
  elseif #bytes == 16 then
    return (("%02x%02x:"):rep(8):sub(1, -2)):format(bytes:byte(1, 16))
  end
end

function M.new(networks)
  if type(networks) ~= "table" then
    error("ips can only be a table", 2)
  end
  for _, network in ipairs(networks) do
    if native.is_in_networks("127.0.0.1", { network }) == nil then
      return nil, "invalid ip address: " .. tostring(network)
    end
  end
  return setmetatable({ networks = networks }, mt)
end

-- Returns a matcher whose `match` gives the value of the network, the narrowest one first.
function M.new_with_value(values)
  local networks = {}
  for network in pairs(values) do
    networks[#networks + 1] = network
  end
  local self, err = M.new(networks)
  if not self then
    return nil, err
  end
  local function width(network) return tonumber(network:match("/(%d+)$")) or 128 end
  table.sort(networks, function(a, b) return width(a) > width(b) end)
  self.values = values
  return self
end

function mt.__index:match(address)
  if native.ip_kind(address) == nil then
    return false, "invalid ip address, not ipv4 and ipv6"
  end
  if self.values then
    for _, network in ipairs(self.networks) do
      if native.is_in_networks(address, { network }) then
        return self.values[network]
      end
    end
    return false
  end
  return native.is_in_networks(address, self.networks) == true
end

function mt.__index:match_bin(bytes)
  local address = type(bytes) == "string" and text_of(bytes)
  if not address then
    return false, "invalid ip address, not ipv4 and ipv6"
  end
  return self:match(address)
end

M.parse_ipv4 = function(text) return native.ip_kind(text) == "ipv4" end
M.parse_ipv6 = function(text) return native.ip_kind(text) == "ipv6" end
return M
