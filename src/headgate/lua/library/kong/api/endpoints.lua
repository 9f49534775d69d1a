-- kong.api.endpoints: functions for the paths of `api.lua` that read and write entities, and the pieces they are made of.
--
-- `schema` is `kong.db.<entity>.schema`. Keys in paths are named after the entity: `/notes/:notes`.
local core = require "headgate.core"
local native = require "headgate.native"
local host = require "headgate.host"
local type, tonumber, pairs, ipairs, tostring = type, tonumber, pairs, ipairs, tostring

local endpoints = {}

local NOT_FOUND = { message = "Not found" }
local LEAST_PAGE, USUAL_PAGE, LARGEST_PAGE = 1, 100, 1000

local function status_of(code)
  return core.admin_status(code)
end

-- Answers an error object of `kong.db`; raises what is none.
function endpoints.handle_error(err_t)
  if type(err_t) ~= "table" or err_t.code == nil then
    error(err_t, 0)
  end
  if err_t.code == 6 then
    return kong.response.exit(404, NOT_FOUND)
  elseif err_t.code == 8 then
    kong.log.err(err_t.message)
    return kong.response.exit(500, { message = "An unexpected error occurred" })
  end
  return kong.response.exit(status_of(err_t.code), err_t)
end

local function checked(value, err, err_t)
  if err_t or err then
    endpoints.handle_error(err_t or err)
  end
  return value
end

function endpoints.not_found()
  return kong.response.exit(404, NOT_FOUND)
end

function endpoints.disable()
  return kong.response.exit(404, NOT_FOUND)
end

function endpoints.get_page_size(args)
  local size = args.size
  if size == nil or size == host.null then
    return nil
  end
  size = tonumber(size)
  if size == nil then
    return nil, "size must be a number"
  elseif size % 1 ~= 0 or size < LEAST_PAGE or size > LARGEST_PAGE then
    return nil, "size must be an integer between " .. LEAST_PAGE .. " and " .. LARGEST_PAGE
  end
  return size
end

-- The options of an operation that are among its arguments; those of the entity stay.
function endpoints.extract_options(args, schema, context)
  local options = {}
  if schema and schema.ttl and args.ttl ~= nil and (context == "insert" or context == "update" or context == "upsert") then
    options.ttl = args.ttl == host.null and 0 or tonumber(args.ttl) or args.ttl
    args.ttl = nil
  end
  if schema and args.tags ~= nil and context == "page" then
    options.tags = args.tags
  end
  return next(options) and options or nil
end

-- The primary key of an entity, as functions of `kong.db` take it.
local function key_of_entity(schema, entity)
  local key = {}
  for _, name in ipairs(schema.primary_key) do
    key[name] = entity[name]
  end
  return key
end

local by_key

-- As `by_key`, of an entity with another primary key than `id`: the path has its endpoint key, or the text of its key.
local function by_own_key(db, schema, operation, text, ...)
  local dao = db[schema.name]
  if schema.endpoint_key then
    local entity, err, err_t = dao["select_by_" .. schema.endpoint_key](dao, text)
    if err or operation == "select" and entity then
      return entity, err, err_t
    elseif entity then
      return dao[operation](dao, key_of_entity(schema, entity), ...)
    elseif #schema.primary_key > 1 and not text:find(",", 1, true) then
      if operation == "upsert" then
        return dao["upsert_by_" .. schema.endpoint_key](dao, text, ...)
      end
      return nil
    end
  end
  local key, references, err_t = core.key_parts(schema.name, text)
  if not key then
    return nil, references, err_t
  end
  for field, reference in pairs(references) do
    local parent = core.schema_of(reference)
    local owner, err, owner_err_t = by_key(db, parent, "select", key[field])
    if not owner then
      return nil, err, owner_err_t
    end
    key[field] = key_of_entity(parent, owner)
  end
  return dao[operation](dao, key, ...)
end

-- Calls `operation` with the key that the path has for an entity: its id or its endpoint key.
function by_key(db, schema, operation, key, ...)
  local dao = db[schema.name]
  if #schema.primary_key ~= 1 or schema.primary_key[1] ~= "id" then
    return by_own_key(db, schema, operation, key, ...)
  elseif native.is_uuid(key) then
    return dao[operation](dao, { id = key }, ...)
  elseif schema.endpoint_key then
    return dao[operation .. "_by_" .. schema.endpoint_key](dao, key, ...)
  end
  return nil
end

local function key_of(self, schema)
  return self.params[schema.name]
end

function endpoints.select_entity(self, db, schema)
  return by_key(db, schema, "select", key_of(self, schema))
end
function endpoints.update_entity(self, db, schema)
  local values = self.args.post
  return by_key(db, schema, "update", key_of(self, schema), values, endpoints.extract_options(values, schema, "update"))
end
function endpoints.upsert_entity(self, db, schema)
  local values = self.args.post
  return by_key(db, schema, "upsert", key_of(self, schema), values, endpoints.extract_options(values, schema, "upsert"))
end
function endpoints.delete_entity(self, db, schema)
  return by_key(db, schema, "delete", key_of(self, schema))
end
function endpoints.insert_entity(self, db, schema)
  local values = self.args.post
  return db[schema.name]:insert(values, endpoints.extract_options(values, schema, "insert"))
end

function endpoints.page_collection(self, db, schema, foreign_schema, foreign_field)
  local args = self.args.uri
  local size, err = endpoints.get_page_size(args)
  if err then
    return nil, err, { code = 9, name = "invalid size", message = err }
  end
  local dao, options = db[schema.name], endpoints.extract_options(args, schema, "page")
  if not foreign_schema then
    return dao:page(size or USUAL_PAGE, args.offset, options)
  end
  local owner, _, err_t = endpoints.select_entity(self, db, foreign_schema)
  if err_t then
    return nil, err_t.message, err_t
  elseif not owner then
    return endpoints.not_found()
  end
  return dao["page_for_" .. foreign_field](dao, key_of_entity(foreign_schema, owner), size or USUAL_PAGE, args.offset, options)
end

local function shown(entity, post_process)
  if post_process then
    return post_process(entity) or entity
  end
  return entity
end

local function next_page(self, offset)
  return self.req.parsed_url.path .. "?offset=" .. ngx.escape_uri(offset)
end

function endpoints.get_collection_endpoint(schema, foreign_schema, foreign_field)
  return function(self, db, _, post_process)
    local rows, err, err_t, offset = endpoints.page_collection(self, db, schema, foreign_schema, foreign_field)
    checked(rows, err, err_t)
    local data = setmetatable({}, host.array_mt)
    for i = 1, #rows do
      data[i] = shown(rows[i], post_process)
    end
    return kong.response.exit(200, { data = data, offset = offset, next = offset and next_page(self, offset) or host.null })
  end
end

function endpoints.post_collection_endpoint(schema, foreign_schema, foreign_field)
  return function(self, db, _, post_process)
    if foreign_schema then
      local owner = checked(endpoints.select_entity(self, db, foreign_schema))
      if not owner then
        return endpoints.not_found()
      end
      self.args.post[foreign_field] = key_of_entity(foreign_schema, owner)
    end
    return kong.response.exit(201, shown(checked(endpoints.insert_entity(self, db, schema)), post_process))
  end
end

-- The entity that the path is about: its own, or the parent that it refers to.
local function found(self, db, schema, foreign_schema, foreign_field)
  local entity = checked(endpoints.select_entity(self, db, schema))
  if not entity or not foreign_schema then
    return entity
  end
  local reference = entity[foreign_field]
  if type(reference) ~= "table" then
    return nil
  end
  return checked(db[foreign_schema.name]:select(key_of_entity(foreign_schema, reference)))
end

function endpoints.get_entity_endpoint(schema, foreign_schema, foreign_field)
  return function(self, db, _, post_process)
    local entity = found(self, db, schema, foreign_schema, foreign_field)
    if not entity then
      return endpoints.not_found()
    end
    return kong.response.exit(200, shown(entity, post_process))
  end
end

local function writing_endpoint(operation)
  return function(schema, foreign_schema, foreign_field)
    return function(self, db, _, post_process)
      if not foreign_schema then
        local entity = checked(endpoints[operation .. "_entity"](self, db, schema))
        if not entity then
          return endpoints.not_found()
        end
        return kong.response.exit(200, shown(entity, post_process))
      end
      local parent = found(self, db, schema, foreign_schema, foreign_field)
      if not parent then
        return endpoints.not_found()
      end
      local dao = db[foreign_schema.name]
      local entity = checked(dao[operation](dao, key_of_entity(foreign_schema, parent), self.args.post))
      return kong.response.exit(200, shown(entity, post_process))
    end
  end
end
endpoints.put_entity_endpoint = writing_endpoint("upsert")
endpoints.patch_entity_endpoint = writing_endpoint("update")

function endpoints.delete_entity_endpoint(schema, foreign_schema, foreign_field)
  return function(self, db)
    if foreign_schema then
      local parent = found(self, db, schema, foreign_schema, foreign_field)
      return kong.response.exit(parent and 405 or 404, { message = parent and "Method not allowed" or "Not found" })
    end
    checked(endpoints.delete_entity(self, db, schema))
    return kong.response.exit(204)
  end
end

local ORIGINALS = {
  collection = { GET = "get_collection_endpoint", POST = "post_collection_endpoint" },
  entity = { GET = "get_entity_endpoint", PUT = "put_entity_endpoint", PATCH = "patch_entity_endpoint",
    DELETE = "delete_entity_endpoint" },
}

-- Endpoints that are made here take a function of the entity where those of plugins take `parent`.
local made = setmetatable({}, { __mode = "k" })
for name, make in pairs(endpoints) do
  if name:find("_endpoint$") then
    endpoints[name] = function(...)
      local run = make(...)
      made[run] = true
      return run
    end
  end
end

function endpoints.is_made_here(run)
  return made[run] == true
end

-- Says whether a reference means an entity.
local function is_of(reference, schema, owner)
  if type(reference) ~= "table" then
    return false
  end
  for _, name in ipairs(schema.primary_key) do
    local own, wanted = reference[name], owner[name]
    if type(own) == "table" and type(wanted) == "table" then
      own, wanted = own.id, wanted.id
    end
    if own ~= wanted then
      return false
    end
  end
  return true
end

-- The automatic endpoint that a path of a plugin stands in the place of, as its functions get it: `parent`.
function endpoints.original(description, self, db, helpers)
  local name = ORIGINALS[description.kind][self.req.method]
  if name == nil then
    return nil
  end
  return function(post_process)
    local of_parent = description.parent ~= nil
    local run
    if of_parent and description.kind == "collection" then
      run = endpoints[name](description.schema, description.parent, description.field)
    else
      run = endpoints[name](description.schema)
    end
    if of_parent and description.kind == "entity" then
      local owner = checked(endpoints.select_entity(self, db, description.parent))
      local entity = owner and checked(endpoints.select_entity(self, db, description.schema))
      if self.req.method == "PUT" and owner then
        self.args.post[description.field] = key_of_entity(description.parent, owner)
      elseif not entity or not is_of(entity[description.field], description.parent, owner) then
        return endpoints.not_found()
      end
    end
    return run(self, db, helpers, post_process)
  end
end

return endpoints
