-- Lays out the table `ngx`; called once with the host's functions by name.
local core = require "headgate.core"
local bit = require "bit"
local tostring, type, error, select, concat, pairs, ipairs = tostring, type, error, select, table.concat, pairs, ipairs
local setmetatable, rawget, rawset, getinfo = setmetatable, rawget, rawset, debug.getinfo
local seconds_left = core.seconds_left

return function(py, host)
  local ngx = {
    null = host.null,
    OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
    STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8,
    HTTP_GET = 2, HTTP_HEAD = 4, HTTP_POST = 8, HTTP_PUT = 16, HTTP_DELETE = 32, HTTP_MKCOL = 64, HTTP_COPY = 128,
    HTTP_MOVE = 256, HTTP_OPTIONS = 512, HTTP_PROPFIND = 1024, HTTP_PROPPATCH = 2048, HTTP_LOCK = 4096,
    HTTP_UNLOCK = 8192, HTTP_PATCH = 16384, HTTP_TRACE = 32768,
    HTTP_CONTINUE = 100, HTTP_SWITCHING_PROTOCOLS = 101, HTTP_OK = 200, HTTP_CREATED = 201, HTTP_ACCEPTED = 202,
    HTTP_NO_CONTENT = 204, HTTP_PARTIAL_CONTENT = 206, HTTP_SPECIAL_RESPONSE = 300, HTTP_MOVED_PERMANENTLY = 301,
    HTTP_MOVED_TEMPORARILY = 302, HTTP_SEE_OTHER = 303, HTTP_NOT_MODIFIED = 304, HTTP_TEMPORARY_REDIRECT = 307,
    HTTP_PERMANENT_REDIRECT = 308, HTTP_BAD_REQUEST = 400, HTTP_UNAUTHORIZED = 401, HTTP_PAYMENT_REQUIRED = 402,
    HTTP_FORBIDDEN = 403, HTTP_NOT_FOUND = 404, HTTP_NOT_ALLOWED = 405, HTTP_NOT_ACCEPTABLE = 406,
    HTTP_REQUEST_TIMEOUT = 408, HTTP_CONFLICT = 409, HTTP_GONE = 410, HTTP_UPGRADE_REQUIRED = 426,
    HTTP_TOO_MANY_REQUESTS = 429, HTTP_CLOSE = 444, HTTP_ILLEGAL = 451, HTTP_INTERNAL_SERVER_ERROR = 500,
    HTTP_NOT_IMPLEMENTED = 501, HTTP_METHOD_NOT_IMPLEMENTED = 501, HTTP_BAD_GATEWAY = 502,
    HTTP_SERVICE_UNAVAILABLE = 503, HTTP_GATEWAY_TIMEOUT = 504, HTTP_VERSION_NOT_SUPPORTED = 505,
    HTTP_INSUFFICIENT_STORAGE = 507,
  }

  -- log ---------------------------------------------------------------------------------------------------------------
  local LEVELS = { [0] = "emerg", "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug" }

  local function joined(...)
    local parts = { ... }
    for i = 1, select("#", ...) do
      parts[i] = tostring(parts[i])
    end
    return concat(parts)
  end

  function ngx.log(level, ...)
    local name = LEVELS[level]
    if name == nil then
      error("bad log level: " .. tostring(level), 2)
    end
    local place = getinfo(2, "Sl") or {}
    py.ngx_log(name, joined(...), core.name(), place.short_src, place.currentline)
  end
  _G.print = function(...)
    local place = getinfo(2, "Sl") or {}
    py.ngx_log("notice", joined(...), core.name(), place.short_src, place.currentline)
  end

  -- time, encodings ---------------------------------------------------------------------------------------------------
  for _, name in ipairs { "now", "time", "today", "localtime", "utctime", "http_time", "cookie_time", "parse_http_time",
    "escape_uri", "unescape_uri", "encode_base64", "decode_base64", "md5", "encode_args", "decode_args",
    "quote_sql_str", "sleep" } do
    ngx[name] = py[name]
  end
  ngx.update_time = function() end
  ngx.md5_bin = function(text) return py.digest("md5", text) end
  ngx.sha1_bin = function(text) return py.digest("sha1", text) end
  ngx.hmac_sha1 = function(key, text) return py.hmac("sha1", key, text) end
  ngx.crc32_short, ngx.crc32_long = py.crc32, py.crc32

  -- requests ----------------------------------------------------------------------------------------------------------
  ngx.get_phase = py.phase
  -- Names that are no variable of nginx are the plugins' own, as after a `set` in its configuration: text, for the request.
  ngx.var = setmetatable({}, {
    __index = function(_, name)
      local value = py.var_get(name)
      if value == nil then
        local own = core.request().variables
        value = own and own[name]
      end
      return value
    end,
    __newindex = function(_, name, value)
      if py.var_set(name, value) == false then
        local request = core.request()
        request.variables = request.variables or {}
        request.variables[name] = value ~= nil and tostring(value) or nil
      end
    end,
  })
  ngx.header = setmetatable({}, {
    __index = function(_, name) return py.header_get(name) end,
    __newindex = function(_, name, value) py.header_set(name, value) end,
  })

  local function read_body()
    local wait = py.body_wait()
    if wait ~= nil then
      core.wait(wait)
    end
  end

  ngx.req = {
    get_method = py.req_method,
    set_method = py.req_set_method,
    get_headers = py.req_headers,
    set_header = py.req_set_header,
    clear_header = py.req_clear_header,
    get_uri_args = py.req_uri_args,
    set_uri_args = py.req_set_uri_args,
    get_post_args = py.req_post_args,
    read_body = read_body,
    get_body_data = py.req_body,
    get_body_file = function() return nil end, -- bodies are never put into files
    set_body_data = py.req_set_body,
    discard_body = read_body,
    http_version = py.req_version,
    start_time = py.req_start_time,
    raw_header = py.req_raw_header,
    is_internal = function() return false end,
    set_uri = function(path, jump)
      if jump then
        error("ngx.req.set_uri with a jump is not supported: there are no nginx locations", 2)
      end
      py.req_set_uri(path)
    end,
  }

  ngx.resp = { get_headers = py.resp_headers, add_header = py.header_add }

  -- answers -----------------------------------------------------------------------------------------------------------
  local function output()
    local request = core.request()
    local said = request.said
    if said == nil then
      said = {}
      request.said = said
    end
    return request, said
  end

  local function append(said, value)
    if type(value) == "table" then
      core.charge()
      for _, item in ipairs(value) do
        append(said, item)
      end
    else
      said[#said + 1] = value == host.null and "null" or tostring(value)
    end
  end

  function ngx.print(...)
    local request, said = output()
    for i = 1, select("#", ...) do
      append(said, (select(i, ...)))
    end
    py.answer(request.status or 200, concat(said))
    return 1
  end

  function ngx.say(...)
    local request, said = output()
    for i = 1, select("#", ...) do
      append(said, (select(i, ...)))
    end
    said[#said + 1] = "\n"
    py.answer(request.status or 200, concat(said))
    return 1
  end

  ngx.flush = function() return 1 end
  ngx.eof = function() return 1 end
  ngx.send_headers = function() return 1 end

  function ngx.exit(status)
    if type(status) ~= "number" then
      error("bad argument #1 to 'exit' (number expected)", 2)
    end
    local request = core.request()
    local phase = py.phase()
    if request.said == nil and status >= 200 and phase ~= "log" and phase ~= "body_filter" and phase ~= "timer" then
      -- A status that was set before wins over an exit with success.
      local answered = (status == 200 and request.status) or status
      py.answer(answered, nil)
    elseif status == ngx.ERROR and (phase == "access" or phase == "rewrite") then
      py.answer(500, nil)
    elseif status == ngx.HTTP_CLOSE then
      py.answer(499, nil)
    end
    if phase ~= "header_filter" then
      core.exit()
    end
  end

  function ngx.redirect(uri, status)
    status = status or 302
    if status < 301 or status > 308 then
      error("only ngx.HTTP_MOVED_TEMPORARILY, ngx.HTTP_MOVED_PERMANENTLY, ngx.HTTP_PERMANENT_REDIRECT, "
        .. "ngx.HTTP_SEE_OTHER, and ngx.HTTP_TEMPORARY_REDIRECT are allowed", 2)
    end
    py.header_set("Location", uri)
    py.answer(status, "")
    core.exit()
  end

  function ngx.on_abort()
    return nil, "lua_check_client_abort is off"
  end

  local function refused(name, why)
    return function()
      error(name .. " is not supported: " .. why, 2)
    end
  end
  ngx.location = {
    capture = refused("ngx.location.capture", "there are no nginx locations; use resty.http"),
    capture_multi = refused("ngx.location.capture_multi", "there are no nginx locations; use resty.http"),
  }
  ngx.exec = refused("ngx.exec", "there are no nginx locations")
  ngx.req.socket = refused("ngx.req.socket", "the engine owns the client's connection")
  ngx.req.init_body = refused("ngx.req.init_body", "use ngx.req.set_body_data")
  ngx.req.append_body, ngx.req.finish_body = ngx.req.init_body, ngx.req.init_body
  ngx.req.set_body_file = refused("ngx.req.set_body_file", "use ngx.req.set_body_data")

  -- body_filter's arguments
  ngx.arg = setmetatable({}, {
    __index = function(_, position)
      local chunk, is_last = py.chunk()
      if position == 1 then
        return chunk
      elseif position == 2 then
        return is_last
      end
    end,
    __newindex = function(_, position, value)
      local chunk, is_last = py.chunk()
      if position == 1 then
        py.set_chunk(type(value) == "table" and concat(value) or value, is_last)
      elseif position == 2 then
        py.set_chunk(chunk, value)
      end
    end,
  })

  -- regular expressions -----------------------------------------------------------------------------------------------
  local function context_start(context)
    return context and context.pos or 1
  end

  ngx.re = {
    match = function(subject, pattern, options, context, table)
      local captures, behind = py.re_match(subject, pattern, options, context_start(context), seconds_left())
      if captures == nil then
        return nil, behind
      end
      if context then
        context.pos = behind
      end
      if type(table) == "table" then
        -- Not by the host: a table that refuses would raise there, where nothing catches it.
        for name, capture in pairs(captures) do
          table[name] = capture
        end
        return table
      end
      return captures
    end,
    find = function(subject, pattern, options, context, nth)
      local first, last, err, behind = py.re_find(subject, pattern, options, context_start(context), seconds_left(), nth)
      if context and behind then
        context.pos = behind
      end
      if first == nil then
        return nil, nil, err or (type(last) == "string" and last or nil)
      end
      return first, last
    end,
    gmatch = function(subject, pattern, options)
      local position = 1
      return function()
        if position == nil then
          return nil
        end
        local captures, behind = py.re_match(subject, pattern, options, position, seconds_left())
        if captures == nil then
          position = nil
          return nil, behind
        end
        position = captures[0] == "" and behind + 1 or behind
        return captures
      end
    end,
    sub = function(subject, pattern, replacement, options)
      return py.re_sub(subject, pattern, replacement, options, false, seconds_left())
    end,
    gsub = function(subject, pattern, replacement, options)
      return py.re_sub(subject, pattern, replacement, options, true, seconds_left())
    end,
    split = function(subject, pattern, options, most)
      return py.re_split(subject, pattern, options, most, seconds_left())
    end,
  }

  -- shared dictionaries -----------------------------------------------------------------------------------------------
  local dict_mt = { __index = {} }
  local dict = dict_mt.__index
  function dict:get(key) return py.shared_get(self.name, key) end
  function dict:get_stale(key)
    local value, flags = py.shared_get(self.name, key)
    return value, flags, false
  end
  function dict:set(key, value, ttl, flags) return py.shared_set(self.name, key, value, ttl, flags) end
  dict.safe_set = dict.set
  function dict:add(key, value, ttl, flags) return py.shared_add(self.name, key, value, ttl, flags) end
  dict.safe_add = dict.add
  function dict:replace(key, value, ttl, flags) return py.shared_replace(self.name, key, value, ttl, flags) end
  function dict:incr(key, amount, init, init_ttl) return py.shared_incr(self.name, key, amount, init, init_ttl) end
  function dict:delete(key) return py.shared_delete(self.name, key) end
  function dict:ttl(key) return py.shared_ttl(self.name, key) end
  function dict:expire(key, ttl) return py.shared_expire(self.name, key, ttl) end
  function dict:flush_all() return py.shared_flush(self.name) end
  function dict:flush_expired() return 0 end
  function dict:capacity() return py.shared_capacity() end
  function dict:free_space() return py.shared_free() end
  function dict:lpush(key, value) return py.shared_push(self.name, key, value, true) end
  function dict:rpush(key, value) return py.shared_push(self.name, key, value, false) end
  function dict:lpop(key) return py.shared_pop(self.name, key, true) end
  function dict:rpop(key) return py.shared_pop(self.name, key, false) end
  function dict:llen(key) return py.shared_length(self.name, key) end
  function dict:get_keys(most) return py.shared_keys(self.name, most) end
  ngx.shared = setmetatable({}, {
    __index = function(shared, name)
      local one = setmetatable({ name = name }, dict_mt)
      rawset(shared, name, one)
      return one
    end,
  })

  -- timers, threads ---------------------------------------------------------------------------------------------------
  ngx.timer = {
    at = function(delay, callback, ...)
      local id, err = py.timer_start(nil, false, delay, core.inherit(callback), ...)
      if id == nil then
        return nil, err
      end
      return true
    end,
    every = function(delay, callback, ...)
      local id, err = py.timer_start(nil, true, delay, core.inherit(callback), ...)
      if id == nil then
        return nil, err
      end
      return true
    end,
    running_count = function() return py.timer_stats().sys.running end,
    pending_count = function() return py.timer_stats().sys.waiting end,
  }
  ngx.thread = { spawn = core.spawn, wait = core.wait_threads, kill = core.kill_thread }

  -- sockets -----------------------------------------------------------------------------------------------------------
  local socket_mt = { __index = {} }
  local tcp = socket_mt.__index
  local function forget_when_lost(number)
    local guard = newproxy(true)
    getmetatable(guard).__gc = function() py.socket_forget(number) end
    return guard
  end

  function tcp:connect(address, port, options)
    if type(port) == "table" then
      options, port = port, nil
    end
    return py.socket_connect(self.number, address, port or 0, options and options.pool)
  end
  function tcp:sslhandshake(session, server_name, verify)
    local ok, err = py.socket_handshake(self.number, server_name, verify)
    if not ok then
      return nil, err
    end
    return session == false and true or {}
  end
  function tcp:send(data) return py.socket_send(self.number, data) end
  function tcp:receive(pattern, prefix)
    local data, err, partial = py.socket_receive(self.number, pattern)
    if prefix and prefix ~= "" then
      if data then
        data = prefix .. data
      elseif partial then
        partial = prefix .. partial
      end
    end
    return data, err, partial
  end
  function tcp:receiveany(most) return py.socket_receive_any(self.number, most) end
  function tcp:receiveuntil(mark, options)
    local is_over = false
    return function()
      if is_over then
        is_over = false
        return nil, nil, nil
      end
      is_over = true
      return py.socket_receive_until(self.number, mark, options and options.inclusive)
    end
  end
  function tcp:settimeout(ms) py.socket_timeouts(self.number, ms, ms, ms) end
  function tcp:settimeouts(connect, send, read) py.socket_timeouts(self.number, connect, send, read) end
  function tcp:setoption() return true end
  function tcp:setkeepalive(idle, size) return py.socket_keep(self.number, idle, size) end
  function tcp:getreusedtimes() return py.socket_reused(self.number) end
  function tcp:close() return py.socket_close(self.number) end

  local datagram_mt = { __index = {} }
  local udp = datagram_mt.__index
  function udp:setpeername(host, port) return py.socket_set_peer(self.number, host, port or 0) end
  function udp:send(data) return py.socket_send_datagram(self.number, data) end
  function udp:receive(most) return py.socket_receive_datagram(self.number, most) end
  function udp:settimeout(ms) py.socket_timeouts(self.number, ms, ms, ms) end
  function udp:close() return py.socket_close(self.number) end

  local function opened(mt)
    local number = py.socket_open()
    return setmetatable({ number = number, guard = forget_when_lost(number) }, mt)
  end
  ngx.socket = {
    tcp = function() return opened(socket_mt) end,
    stream = function() return opened(socket_mt) end,
    udp = function() return opened(datagram_mt) end,
    connect = function(...)
      local sock = opened(socket_mt)
      local ok, err = sock:connect(...)
      if not ok then
        return nil, err
      end
      return sock
    end,
  }

  -- the process -------------------------------------------------------------------------------------------------------
  ngx.worker = {
    id = py.worker_id, pid = py.worker_pid, count = py.worker_count, pids = function() return { py.worker_pid() } end,
    exiting = py.worker_exiting,
  }
  ngx.config = {
    subsystem = "http", debug = false, nginx_version = 1027001, ngx_lua_version = 10027,
    prefix = py.prefix, nginx_configure = function() return "" end,
  }
  ngx.process = { type = function() return "worker" end, get_master_pid = py.master_pid }
  ngx.ssl = {}

  -- What Kong itself puts into a request's table, read when it is asked for. A consumer or a credential that is put there
  -- is who the client is.
  local known = {
    route = function() return kong.router.get_route() end,
    service = function() return kong.router.get_service() end,
    authenticated_consumer = function() return kong.client.get_consumer() end,
    authenticated_credential = function() return kong.client.get_credential() end,
    authenticated_consumer_groups = function() return kong.client.get_consumer_groups() end,
    router_matches = function()
      local captures = kong.request.get_uri_captures()
      local merged = {}
      for position, text in pairs(captures.unnamed) do
        merged[position] = text
      end
      for name, text in pairs(captures.named) do
        merged[name] = text
      end
      return { uri_captures = merged }
    end,
    request_id = function() return kong.request.get_id() end,
    workspace = function() return kong.default_workspace end,
    KONG_PROCESSING_START = function() return kong.request.get_start_time() end,
    KONG_REWRITE_START = function() return kong.request.get_start_time() end,
    KONG_ACCESS_START = function() return kong.request.get_start_time() end,
    KONG_PROXY_LATENCY = function() return (py.latencies()) end,
    KONG_WAITING_TIME = function() return (select(2, py.latencies())) end,
    KONG_RESPONSE_LATENCY = function() return (py.latencies()) end,
  }
  local KEPT = { router_matches = true }
  local IDENTITY = { authenticated_consumer = true, authenticated_credential = true }
  local ctx_mt = {
    __index = function(ctx, name)
      local read = known[name]
      if read == nil then
        return nil
      end
      -- Where the request has none of it yet, or no more, there is nothing.
      local is_there, value = pcall(read)
      if not is_there then
        return nil
      end
      if KEPT[name] then
        rawset(ctx, name, value)
      end
      return value
    end,
    __newindex = function(ctx, name, value)
      rawset(ctx, name, value)
      if IDENTITY[name] and type(value) == "table" then
        if name == "authenticated_consumer" then
          pcall(kong.client.authenticate, value, ctx.authenticated_credential)
        else
          pcall(kong.client.authenticate, ctx.authenticated_consumer, value)
        end
      end
    end,
  }

  return setmetatable(ngx, {
    __index = function(_, name)
      if name == "ctx" then
        local request = core.request()
        local ctx = request.ctx
        if ctx == nil then
          ctx = setmetatable({}, ctx_mt)
          request.ctx = ctx
        end
        return ctx
      elseif name == "status" then
        local phase = py.phase()
        if phase == "timer" or phase == "init_worker" then
          return 0
        end
        return core.request().status or py.status()
      elseif name == "headers_sent" then
        local phase = py.phase()
        return phase == "body_filter" or phase == "log"
      elseif name == "is_subrequest" then
        return false
      end
    end,
    __newindex = function(self, name, value)
      if name == "status" then
        py.set_status(value)
        local phase = py.phase()
        if phase ~= "header_filter" then
          core.request().status = value
        end
      elseif name == "ctx" then
        if type(value) == "table" and getmetatable(value) == nil then
          setmetatable(value, ctx_mt)
        end
        core.request().ctx = value
      else
        rawset(self, name, value)
      end
    end,
  })
end
