-- pl.class: classes with one ancestor.
local setmetatable, getmetatable, rawget, type, pairs = setmetatable, getmetatable, rawget, type, pairs

local function is_a(object, class)
  local one = getmetatable(object)
  if class == nil then
    return one
  end
  while one do
    if one == class then
      return true
    end
    one = rawget(one, "_base")
  end
  return false
end

local function construct(class, object, ...)
  local init = class._init
  if init == nil then
    return nil
  end
  -- `super` is the ancestor's constructor while this one runs; without a call of it, it has run already.
  local base = rawget(class, "_base")
  local earlier = rawget(object, "super")
  if base and rawget(class, "_init") ~= nil then
    rawset(object, "super", function(self, ...) return construct(base, self, ...) end)
  end
  local result = init(object, ...)
  rawset(object, "super", earlier)
  return result
end

local function make(base, members)
  local class = {}
  if base then
    -- What the ancestor has is the class's own from the start; what it gets later is found through it.
    for name, value in pairs(base) do
      if class[name] == nil then
        class[name] = value
      end
    end
    class._init = nil
    class._base = base
  end
  class.__index = class
  class.is_a, class._class = is_a, class
  class.class_of = function(_, object) return type(object) == "table" and is_a(object, class) or false end
  class.cast = function(_, object) return setmetatable(object, class) end
  for name, value in pairs(members or {}) do
    if type(name) == "string" then
      class[name] = value
    end
  end
  return setmetatable(class, {
    __index = base,
    __call = function(_, ...)
      local object = setmetatable({}, class)
      local other = construct(class, object, ...)
      if other ~= nil then
        object = setmetatable(other, class)
      end
      return object
    end,
  })
end

local function from(base, members)
  if type(base) == "table" and getmetatable(base) == nil and members == nil and rawget(base, "__index") == nil then
    -- class { _base = A, method = function … }
    return make(rawget(base, "_base"), base)
  end
  return make(base, members)
end

return setmetatable({}, {
  __call = function(_, base, members) return from(base, members) end,
  -- class.Name(A): also a global of that name, as penlight does it.
  __index = function(_, name)
    return function(base, members)
      local class = from(base, members)
      class._name = name
      rawset(_G, name, class)
      return class
    end
  end,
})
