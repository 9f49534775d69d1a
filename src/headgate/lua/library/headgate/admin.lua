-- Functions of `api.lua`: what they get, what `kong` is for them, and how an error becomes an answer.
--
-- Called once with `kong` and the host's functions; returns what runs one function. Outside of a request of the Admin
-- API everything is as before.
local core = require "headgate.core"
local host = require "headgate.host"
local type, pairs, error, tostring, pcall, setmetatable = type, pairs, error, tostring, pcall, setmetatable

return function(kong, py)
  core.is_admin, core.schema_of, core.admin_status = py.is_admin, py.schema, py.status_of
  core.key_parts = py.key_parts

  local function exit(status, body, headers)
    if type(status) ~= "number" then
      error("code must be a number", 3)
    end
    py.answer(status, body, headers)
    core.exit()
  end

  -- What is here is taken within a request of the Admin API, and the real function elsewhere.
  local function either(module, functions)
    for name, own in pairs(functions) do
      local real = module[name]
      module[name] = function(...)
        if py.is_admin() then
          return own(...)
        end
        return real(...)
      end
    end
  end

  local function header_name(name)
    return (tostring(name):lower():gsub("_", "-"))
  end
  either(kong.response, {
    exit = exit,
    error = function(status, message)
      exit(status, { message = message or "An unexpected error occurred" })
    end,
    set_header = function(name, value) py.set_header(name, value) end,
    clear_header = function(name) py.set_header(name, nil) end,
    set_headers = function(headers)
      for name, value in pairs(headers) do
        py.set_header(name, value)
      end
    end,
  })
  either(kong.request, {
    get_method = function() return py.request().method end,
    get_path = function() return py.request().path end,
    get_raw_path = function() return py.request().path end,
    get_header = function(name) return py.request().headers[header_name(name)] end,
    get_headers = function() return host.mark_headers(py.request().headers) end,
    get_query = function() return py.request().query end,
    get_query_arg = function(name) return py.request().query[name] end,
    get_body = function() return py.request().body end,
  })

  local endpoints

  local function new_self()
    local asked = py.request()
    local params = {}
    for _, values in ipairs { asked.query, asked.body, asked.params } do
      for name, value in pairs(values) do
        params[name] = value
      end
    end
    local uri = {}
    for _, values in ipairs { asked.query, asked.params } do
      for name, value in pairs(values) do
        uri[name] = value
      end
    end
    return {
      params = params,
      args = { uri = uri, post = asked.body },
      req = { method = asked.method, headers = host.mark_headers(asked.headers), parsed_url = { path = asked.path } },
    }
  end

  local helpers = setmetatable({
    yield_error = function(err) error(err, 0) end,
  }, {
    __index = function(_, name)
      error("helpers." .. tostring(name) .. " is not available; answer with kong.response.exit", 2)
    end,
  })

  -- A function that returned a table in place of answering: `{ status = 200, json = … }`.
  local function answered(returned)
    if type(returned) == "table" and (returned.json ~= nil or returned.status ~= nil) then
      exit(returned.status or 200, returned.json, returned.headers)
    elseif type(returned) == "number" then
      exit(returned)
    end
  end

  local function failed(self, on_error, err)
    if type(err) == "table" and err.code ~= nil then
      endpoints.handle_error(err)
    elseif on_error then
      self.errors = { err }
      answered(on_error(self))
    end
    error(err, 0)
  end

  return function(run, special, original)
    endpoints = endpoints or require "kong.api.endpoints"
    local self = new_self()
    local parent
    if original and not endpoints.is_made_here(run) then
      parent = endpoints.original(original, self, kong.db, helpers)
    end
    local ok, returned = pcall(function()
      if special.before then
        answered(special.before(self, kong.db, helpers))
      end
      return run(self, kong.db, helpers, parent)
    end)
    if not ok then
      failed(self, special.on_error, returned)
    end
    answered(returned)
  end
end
