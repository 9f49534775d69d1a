-- body_filter.lua
return function(self, config)
  kong.log("body_filter phase")
end
