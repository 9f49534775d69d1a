-- The parts of `kong` that are objects, take callbacks, or are tables by nature; called once with the table of bridged
-- functions and the host's halves.
local core = require "headgate.core"
local host = require "headgate.host"
local getinfo, tostring, select, concat = debug.getinfo, tostring, select, table.concat
local setmetatable, rawget, rawset, type, error, pairs = setmetatable, rawget, rawset, type, error, pairs
local name_of, request_of = core.name, core.request

return function(kong, py)
  -- log ---------------------------------------------------------------------------------------------------------------
  local threshold = py.log_threshold()

  local function joined(...)
    local count = select("#", ...)
    if count == 1 then
      local only = ...
      return type(only) == "string" and only or tostring(only)
    end
    local parts = { ... }
    for i = 1, count do
      parts[i] = tostring(parts[i])
    end
    return concat(parts, "", 1, count)
  end

  local function write(log, level, message)
    local info = getinfo(3, "Sln") or {}
    local source = info.source or "?"
    local file = source:sub(1, 1) == "@" and source:match("[^/@]*$") or info.short_src
    py.log(level, message, log.__namespace or name_of(), file, info.currentline or 0, log.__format, info.name)
  end

  local inspect = require "headgate.inspect"

  local function new_log(namespace, format)
    local log = { __namespace = namespace, __format = format }
    for level_name, level in pairs(py.log_levels) do
      log[level_name] = function(...)
        if level >= threshold then
          write(log, level, joined(...))
        end
      end
    end
    log.trace = function() end
    local notice, warn = py.log_levels.notice, py.log_levels.warn
    local is_inspecting = true
    log.inspect = setmetatable({
      on = function() is_inspecting = true end,
      off = function() is_inspecting = false end,
    }, {
      __call = function(_, ...)
        if is_inspecting and notice >= threshold then
          local parts = {}
          for i = 1, select("#", ...) do
            parts[i] = inspect((select(i, ...)))
          end
          for line in (concat(parts, " ") .. "\n"):gmatch("(.-)\n") do
            write(log, notice, line)
          end
        end
      end,
    })
    log.deprecation = setmetatable({
      write = function(...)
        if warn >= threshold then
          write(log, warn, joined(...))
        end
      end,
    }, {
      __call = function(_, ...)
        if warn < threshold then
          return
        end
        local count = select("#", ...)
        local last = count > 0 and select(count, ...) or nil
        local text
        if type(last) == "table" then
          local parts = { ... }
          for i = 1, count do
            parts[i] = i < count and tostring(parts[i]) or ""
          end
          text = concat(parts, "", 1, count)
          if last.after and last.removal then
            text = text .. " (deprecated after " .. last.after .. ", scheduled for removal in " .. last.removal .. ")"
          elseif last.after then
            text = text .. " (deprecated after " .. last.after .. ")"
          elseif last.removal then
            text = text .. " (scheduled for removal in " .. last.removal .. ")"
          end
          if last.trace then
            text = debug.traceback(text, 2)
          end
        else
          text = joined(...)
        end
        write(log, warn, text)
      end,
    })
    function log.set_format(template)
      if template ~= nil and type(template) ~= "string" then
        error("format must be a string", 2)
      end
      log.__format = template
    end
    function log.new(own_namespace, template)
      if type(own_namespace) ~= "string" then
        error("namespace must be a string", 2)
      elseif own_namespace == "" then
        error("namespace cannot be an empty string", 2)
      elseif template ~= nil and type(template) ~= "string" then
        error("format must be a string if specified", 2)
      elseif template == "" then
        error("format cannot be an empty string if specified", 2)
      end
      return new_log(own_namespace, template)
    end
    return setmetatable(log, {
      __call = function(_, ...)
        if notice >= threshold then
          write(log, notice, joined(...))
        end
      end,
    })
  end

  local log = new_log()
  for name, value in pairs(kong.__log or {}) do
    log[name] = value
  end
  kong.__log = nil
  kong.log = log

  -- contexts ----------------------------------------------------------------------------------------------------------
  local shared = setmetatable({}, {
    __index = function(_, name)
      return py.shared_get(name)
    end,
    __newindex = function(_, name, value)
      py.shared_set(name, value)
    end,
  })

  kong.ctx = setmetatable({}, {
    __index = function(_, name)
      if name == "plugin" then
        local plugins = request_of().plugins
        local plugin = name_of()
        if plugin == nil then
          return nil
        end
        local table = plugins[plugin]
        if table == nil then
          table = {}
          plugins[plugin] = table
        end
        return table
      elseif name == "shared" then
        return shared
      end
    end,
  })

  -- configuration -----------------------------------------------------------------------------------------------------
  kong.configuration = setmetatable({ remove_sensitive = function() return py.configuration_without_secrets() end }, {
    __index = function(_, name)
      return type(name) == "string" and py.configuration(name) or nil
    end,
    __newindex = function()
      error("cannot write to configuration", 2)
    end,
  })

  -- bodies ------------------------------------------------------------------------------------------------------------
  function kong.request.get_raw_body(most_bytes)
    local wait = py.body_wait(most_bytes)
    if wait ~= nil then
      core.wait(wait)
    end
    return py.raw_body(most_bytes)
  end

  function kong.request.get_body(mime, most_arguments, most_bytes)
    if type(mime) ~= "string" then
      mime = nil
    end
    local wait = nil
    if py.is_form(mime) then
      wait = py.body_wait(nil)
    else
      wait = py.body_wait(most_bytes)
    end
    if wait ~= nil then
      core.wait(wait)
    end
    return py.body(mime, most_arguments, most_bytes)
  end

  -- cache -------------------------------------------------------------------------------------------------------------
  local function new_cache(name)
    local cache = {}
    function cache:get(key, options, callback, ...)
      if type(key) ~= "string" then
        error("key must be a string", 2)
      end
      local value, level = py.cache_find(name, key, options)
      if level ~= 0 then
        return value, nil, level
      end
      if type(callback) ~= "function" then
        return nil
      end
      return py.cache_load(name, false, key, options, core.lend(callback), ...)
    end
    function cache:renew(key, options, callback, ...)
      if type(key) ~= "string" then
        error("key must be a string", 2)
      elseif type(callback) ~= "function" then
        error("callback must be a function", 2)
      end
      return py.cache_load(name, true, key, options, core.lend(callback), ...)
    end
    function cache:get_bulk(bulk, options)
      if type(bulk) ~= "table" then
        error("bulk must be a table", 2)
      elseif options ~= nil and type(options) ~= "table" then
        error("opts must be a table", 2)
      end
      -- As mlcache lays it out: four slots for each operation, `n` of them, results in threes.
      local results, count = {}, 0
      for i = 1, bulk.n or #bulk, 4 do
        local value, err, level = self:get(bulk[i], bulk[i + 1] or options, bulk[i + 2], bulk[i + 3])
        results[count + 1], results[count + 2], results[count + 3] = value, err, level
        count = count + 3
      end
      results.n = count
      return results
    end
    function cache:probe(key)
      return py.cache_probe(name, key)
    end
    function cache:safe_set(key, value)
      py.cache_set(name, key, value)
      return true
    end
    function cache:invalidate(key)
      py.cache_forget(name, "invalidate", key)
      return true
    end
    function cache:invalidate_local(key)
      py.cache_forget(name, "invalidate_local", key)
      return true
    end
    function cache:purge()
      py.cache_forget(name, "purge")
      return true
    end
    return cache
  end
  kong.cache = new_cache("cache")
  kong.core_cache = new_cache("core_cache")

  -- db ----------------------------------------------------------------------------------------------------------------
  local WRITES = { insert = true, update = true, upsert = true, delete = true }

  -- In functions of the Admin API reading waits too: there it asks the database.
  local function read(...)
    if core.is_admin ~= nil and core.is_admin() then
      return py.db_read(...)
    end
    return py.db_call(...)
  end

  local function generated_dao(entity)
    return setmetatable({}, {
      __index = function(dao, operation)
        local method
        if type(operation) ~= "string" then
          return nil
        elseif operation == "schema" then
          return (core.schema_of or py.db_schema)(entity)
        elseif WRITES[operation] or operation:find("^update_by_") or operation:find("^upsert_by_")
          or operation:find("^delete_by_") then
          method = function(_, ...)
            return py.db_write(entity, operation, ...)
          end
        elseif operation == "each" or operation:find("^each_for_") then
          method = function(_, ...)
            local entities, err, err_t = read(entity, operation, ...)
            if entities == nil then
              return nil, err, err_t
            end
            local position = 0
            return function()
              position = position + 1
              return entities[position], nil, 1
            end
          end
        elseif operation == "page" or operation == "cache_key" or operation == "select"
          or operation:find("^select_by_") or operation:find("^page_for_") then
          method = function(_, ...)
            return read(entity, operation, ...)
          end
        else
          return nil
        end
        rawset(dao, operation, method)
        return method
      end,
    })
  end

  -- What stands behind `kong.db.<entity>`. Methods of a plugin's own come first; `self.super` has those that they stand
  -- in the place of, which take any `self`.
  local function new_dao(db, entity)
    local generated, module = generated_dao(entity), core.daos[entity]
    if module == nil then
      return generated
    end
    local dao = setmetatable({ super = generated, db = db, errors = require "headgate.dao_errors" }, {
      __index = function(_, name)
        if name == "strategy" then
          error("kong.db." .. entity .. ".strategy is not available: a plugin's own SQL is not run", 2)
        end
        return generated[name]
      end,
    })
    for name, method in pairs(require(module)) do
      rawset(dao, name, method)
    end
    return dao
  end

  kong.db = setmetatable({}, {
    __index = function(db, entity)
      if type(entity) ~= "string" then
        return nil
      end
      if entity == "connector" then
        error("kong.db.connector is not available: the gateway's workers have no connection to the database", 2)
      end
      local dao = new_dao(db, entity)
      rawset(db, entity, dao)
      return dao
    end,
  })

  -- dns, timers, events -----------------------------------------------------------------------------------------------
  kong.dns = { toip = py.toip, resolve = py.resolve }

  kong.timer = {
    at = function(_, delay, callback, ...) return py.timer_start(nil, false, delay, core.inherit(callback), ...) end,
    every = function(_, delay, callback, ...) return py.timer_start(nil, true, delay, core.inherit(callback), ...) end,
    named_at = function(_, name, delay, callback, ...) return py.timer_start(name, false, delay, core.inherit(callback), ...) end,
    named_every = function(_, name, delay, callback, ...) return py.timer_start(name, true, delay, core.inherit(callback), ...) end,
    cancel = function(_, name) return py.timer_cancel(name) end,
    stats = function() return py.timer_stats() end,
  }

  kong.worker_events = {
    register = function(callback, ...) return py.listen(core.inherit(callback), ...) end, post = py.post, post_local = py.post_local,
  }
  kong.cluster_events = {
    subscribe = function(_, channel, callback) return py.subscribe(channel, core.inherit(callback)) or true end,
    broadcast = function(_, channel, data, delay)
      local _, err = py.broadcast(channel, data, delay)
      if err then
        return nil, err
      end
      return true
    end,
  }
  function kong.service.set_target_retry_callback(callback)
    return py.retry_callback(core.inherit(callback))
  end

  -- vault -------------------------------------------------------------------------------------------------------------
  local function update(options)
    if type(options) ~= "table" then
      return options
    end
    core.charge()
    local refs = rawget(options, "$refs")
    if type(refs) == "table" then
      for name, reference in pairs(refs) do
        if type(reference) == "string" then
          options[name] = py.secret(reference) or ""
        elseif type(options[name]) == "table" then
          for key, one in pairs(reference) do
            options[name][key] = py.secret(one) or ""
          end
        end
      end
    end
    for name, value in pairs(options) do
      if name ~= "$refs" and type(value) == "table" then
        update(value)
      end
    end
    return options
  end
  kong.vault.update = update
  kong.vault["try"] = function(callback, options)
    local result, err = callback(update(options))
    if result then
      return result, err
    end
    return callback(update(options))
  end

  -- table -------------------------------------------------------------------------------------------------------------
  kong.table = {
    new = require "table.new",
    clear = require "table.clear",
    merge = function(first, second)
      local merged = {}
      for key, value in pairs(first or {}) do
        merged[key] = value
      end
      for key, value in pairs(second or {}) do
        merged[key] = value
      end
      return merged
    end,
  }

  -- tracing -----------------------------------------------------------------------------------------------------------
  local SPAN_METHODS = { finish = true, set_attribute = true, add_event = true, record_error = true, set_status = true }
  local span_of, python_span
  local span_mt = {
    __index = function(span, name)
      if SPAN_METHODS[name] then
        return function(self, ...)
          return py.span(self.__span, name, ...)
        end
      end
      return py.span_value(rawget(span, "__span"), name)
    end,
  }
  function span_of(found)
    return found ~= nil and setmetatable({ __span = found }, span_mt) or nil
  end
  function python_span(span)
    return type(span) == "table" and rawget(span, "__span") or nil
  end

  local tracing = { name = "noop" }
  local function unself(self, ...)
    -- Called with a colon, on this table or on a view of it.
    if type(self) == "table" and rawget(self, "__span") == nil then
      return ...
    end
    return self, ...
  end
  function tracing.start_span(...)
    local name, options = unself(...)
    if type(options) == "table" and options.parent then
      local copy = {}
      for key, value in pairs(options) do
        copy[key] = value
      end
      copy.parent = python_span(options.parent)
      options = copy
    end
    return span_of(py.tracing("start_span", name, options))
  end
  function tracing.active_span()
    return span_of(py.tracing("active_span"))
  end
  function tracing.get_root_span()
    return span_of(py.tracing("get_root_span"))
  end
  function tracing.set_active_span(...)
    return py.tracing("set_active_span", python_span((unself(...))))
  end
  function tracing.set_should_sample(...)
    return py.tracing("set_should_sample", (unself(...)))
  end
  function tracing.get_sampling_decision(...)
    return py.tracing("get_sampling_decision", unself(...))
  end
  function tracing.get_spans()
    local spans = py.tracing("get_spans")
    for i = 1, #spans do
      spans[i] = span_of(spans[i])
    end
    return spans
  end
  function tracing.process_span(...)
    local arguments = { unself(...) }
    local processor = arguments[1]
    if type(processor) ~= "function" then
      error("processor must be a function", 2)
    end
    for _, span in ipairs(tracing.get_spans()) do
      processor(span, unpack(arguments, 2))
    end
  end
  kong.tracing = tracing

  return setmetatable(kong, {
    __index = function(_, name)
      if name == "default_workspace" then
        return py.default_workspace()
      end
    end,
  })
end
