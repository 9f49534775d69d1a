-- access.lua
return function(self, config)
  kong.log("access phase")
end
