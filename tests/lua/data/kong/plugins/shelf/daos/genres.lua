-- Functions of the plugin's own for kong.db.genres: names are kept in lower case.
local Genres = {}

local function lowered(entity)
  local copy = {}
  for name, value in pairs(entity) do
    copy[name] = value
  end
  if copy.name == "forbidden" then
    return nil
  end
  copy.name = copy.name and copy.name:lower()
  return copy
end

function Genres:insert(entity, options)
  local own = lowered(entity)
  if not own then
    local err_t = self.errors:schema_violation({ name = "there is no such genre" })
    return nil, tostring(err_t), err_t
  end
  return self.super.insert(self, own, options)
end

function Genres:select(primary_key, options)
  return self.super.select(self, lowered(primary_key), options)
end

function Genres:select_by_prefix(prefix)
  local found = {}
  for genre, err in self:each() do
    if err then
      return nil, err
    end
    if genre.name:sub(1, #prefix) == prefix then
      found[#found + 1] = genre
    end
  end
  return found
end

-- What the schema says of an entity, as one text with its key.
function Genres:faults_of(input, is_update)
  local schema = self.schema
  local ok, errors = schema[is_update and "validate_update" or "validate_insert"](schema, input)
  local names = {}
  for name in schema:each_field() do
    names[#names + 1] = name
  end
  return {
    ok = ok, text = schema:errors_to_string(errors), key = schema:extract_pk_values(input), fields = names,
    name = schema.name,
  }
end

return Genres
