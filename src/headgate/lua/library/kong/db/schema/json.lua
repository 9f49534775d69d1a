-- kong.db.schema.json: named JSON Schemas for fields of type `json`.
local native = require "headgate.native"

local M = { DEFAULT_DRAFT = "draft4" }
local known = {}

function M.add_schema(name, schema)
  native.add_json_schema(name, schema)
  known[name] = schema
  return true
end

function M.get_schema(name) return known[name] end

return M
