-- pl.types: questions about values.
return {
  is_empty = function(value) return value == nil or value == "" or (type(value) == "table" and next(value) == nil) end,
  is_callable = require("pl.utils").is_callable,
  is_integer = function(value) return type(value) == "number" and math.floor(value) == value end,
  type = type,
}
