-- Functions of `kong.db.<entity>.schema`.
--
-- Called with the table of a schema and the host's check; what is there beside them is data of the table itself.
local native = require "headgate.native"
local next, ipairs, setmetatable = next, ipairs, setmetatable

local function each_field(schema)
  local position = 0
  return function()
    position = position + 1
    local entry = schema.fields[position]
    if entry ~= nil then
      return next(entry)
    end
  end
end

local function extract_pk_values(schema, entity)
  local key = {}
  for _, name in ipairs(schema.primary_key) do
    key[name] = entity[name]
  end
  return key
end

local function errors_to_string(_, errors)
  if errors == nil or next(errors) == nil then
    return nil
  end
  return native.violation_message(errors)
end

return function(schema, validate)
  local function validate_new(_, input)
    return validate(input, false)
  end
  local functions = {
    each_field = each_field, extract_pk_values = extract_pk_values, errors_to_string = errors_to_string,
    validate = validate_new, validate_insert = validate_new, validate_upsert = validate_new,
    validate_update = function(_, input)
      return validate(input, true)
    end,
  }
  setmetatable(schema, { __index = functions })
end
