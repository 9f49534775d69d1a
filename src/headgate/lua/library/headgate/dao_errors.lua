-- Error objects as methods of a plugin's own DAO make them: `self.errors:schema_violation { … }`.
--
-- Owns codes, names and texts of what such methods return; `tostring` gives the text with the kind of store before it.
local native = require "headgate.native"
local setmetatable, tostring = setmetatable, tostring

local errors = {}

local error_mt = {
  __tostring = function(self)
    return "[" .. tostring(self.strategy) .. "] " .. tostring(self.message)
  end,
}

local function new(code, name, message, fields)
  return setmetatable({
    code = code, name = name, message = message, fields = fields, strategy = kong.configuration.database or "off",
  }, error_mt)
end

local shown = native.lua_style

function errors:invalid_primary_key(primary_key)
  return new(1, "invalid primary key", "invalid primary key: '" .. shown(primary_key) .. "'", primary_key)
end
function errors:schema_violation(faults)
  return new(2, "schema violation", native.violation_message(faults), faults)
end
function errors:primary_key_violation(primary_key)
  return new(3, "primary key violation", "primary key violation on key '" .. shown(primary_key) .. "'", primary_key)
end
function errors:foreign_key_violation_invalid_reference(foreign_key, field, parent)
  local text = "the foreign key '" .. shown(foreign_key) .. "' does not reference an existing '" .. parent .. "' entity."
  return new(4, "foreign key violation", text, { [field] = foreign_key })
end
function errors:foreign_key_violation_restricted(parent, child)
  local text = "an existing '" .. child .. "' entity references this '" .. parent .. "' entity"
  return new(4, "foreign key violation", text, { ["@referenced_by"] = child })
end
function errors:unique_violation(unique_key)
  return new(5, "unique constraint violation", "UNIQUE violation detected on '" .. shown(unique_key) .. "'", unique_key)
end
function errors:not_found(primary_key)
  local text = "could not find the entity with primary key '" .. shown(primary_key) .. "'"
  return new(6, "not found", text, primary_key)
end
function errors:not_found_by_field(filter)
  return new(6, "not found", "could not find the entity with '" .. shown(filter) .. "'", filter)
end
function errors:invalid_offset(offset, err)
  return new(7, "invalid offset", "'" .. tostring(offset) .. "' is not a valid offset: " .. tostring(err))
end
function errors:database_error(err)
  return new(8, "database error", tostring(err or "database error"))
end
function errors:invalid_size(err)
  return new(9, "invalid size", tostring(err))
end
function errors:invalid_unique(name, err)
  return new(10, "invalid unique " .. tostring(name), tostring(err), { [name] = err })
end
function errors:invalid_options(faults)
  return new(11, "invalid options", native.options_message(faults), faults)
end
function errors:operation_unsupported(err)
  return new(12, "operation unsupported", tostring(err))
end
function errors:transformation_error(err)
  return new(15, "transformation error", "transformation failed: " .. tostring(err))
end
function errors:invalid_foreign_key(foreign_key)
  return new(16, "invalid foreign key", "invalid foreign key: '" .. shown(foreign_key) .. "'", foreign_key)
end

return setmetatable(errors, {
  __index = function(_, name)
    error("errors:" .. tostring(name) .. " is not available", 2)
  end,
})
