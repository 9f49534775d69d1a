-- kong.tools.queue: entries handed to a function in batches, in the background, and again when it fails.
--
-- One queue for each name in a worker, bounded in entries and bytes: the oldest go first. It lives as long as it has
-- entries. A handler gets its table and the entries, and returns true, or nothing and a text.
local now, sleep, exiting = ngx.now, ngx.sleep, ngx.worker.exiting
local min, type, tostring, pairs, assert = math.min, type, tostring, pairs, assert
local null = ngx.null

local M = {}
local queues = {}

local DEFAULTS = {
  max_batch_size = 1, max_coalescing_delay = 1, max_entries = 10000, initial_retry_delay = 0.01, max_retry_time = 60,
  max_retry_delay = 60, concurrency_limit = 1,
}
local NEARLY_FULL = 0.8
local MOST_PAUSE = 1 -- that a stop of the worker may go unnoticed, in seconds

local function given(value)
  return value ~= nil and value ~= null
end

local function option(queue, name)
  local value = queue.options[name]
  if given(value) then
    return value
  end
  return DEFAULTS[name]
end

local function say(queue, level, ...)
  kong.log[level]("queue ", queue.name, ": ", ...)
end

local function count(queue)
  return queue.last - queue.first + 1
end

local function drop_first(queue)
  local entry = queue.entries[queue.first]
  queue.entries[queue.first] = nil
  queue.first = queue.first + 1
  if type(entry) == "string" then
    queue.bytes = queue.bytes - #entry
  end
  -- A batch that is under way loses what is dropped here from its count, not from what was handed out.
  if queue.in_batch > 0 then
    queue.in_batch = queue.in_batch - 1
  end
end

local function pause(seconds)
  local until_s = now() + seconds
  while not exiting() do
    local left = until_s - now()
    if left <= 0 then
      return
    end
    sleep(min(left, MOST_PAUSE))
  end
end

-- Waits until there is a whole batch, the time is over, or the worker stops.
local function gather(queue)
  local until_s = now() + option(queue, "max_coalescing_delay")
  while count(queue) < option(queue, "max_batch_size") and not exiting() do
    local left = until_s - now()
    if left <= 0 then
      break
    end
    sleep(min(left, 0.05))
  end
end

local function send(queue)
  local size = min(count(queue), option(queue, "max_batch_size"))
  local batch = {}
  for i = 1, size do
    batch[i] = queue.entries[queue.first + i - 1]
  end
  queue.in_batch = size
  local started, retries = now(), 0
  while true do
    local called, ok, err = pcall(queue.handler, queue.argument, batch)
    if called and ok then
      break
    end
    err = called and err or ok
    if now() - started > option(queue, "max_retry_time") or exiting() then
      say(queue, "err", "could not send entries, giving up after ", retries, " retries. ", size,
        " queue entries were lost: ", tostring(err))
      break
    end
    say(queue, "warn", "handler could not process entries: ", tostring(err or "no error text"))
    pause(min(option(queue, "max_retry_delay"), 2 ^ retries * option(queue, "initial_retry_delay")))
    retries = retries + 1
  end
  while queue.in_batch > 0 do
    drop_first(queue)
  end
  if queue.is_full then
    say(queue, "info", "queue resumed processing")
    queue.is_full = false
  end
end

local function run(_, queue)
  while count(queue) > 0 do
    gather(queue)
    send(queue)
  end
  queues[queue.name] = nil
end

local function make_room(queue, entry)
  local most, capacity = option(queue, "max_entries"), queue.options.max_bytes
  if count(queue) >= most * NEARLY_FULL then
    if not queue.is_warned then
      queue.is_warned = true
      say(queue, "warn", "queue at ", NEARLY_FULL * 100, "% capacity")
    end
  else
    queue.is_warned = nil
  end
  if count(queue) >= most then
    if not queue.is_full then
      queue.is_full = true
      say(queue, "err", "queue full, dropping old entries until processing is successful again")
    end
    drop_first(queue)
  end
  if not given(capacity) then
    return true
  elseif type(entry) ~= "string" then
    say(queue, "err", "queuing non-string entry to a queue that has queue.max_bytes set, capacity monitoring will "
      .. "not be correct")
    return true
  elseif #entry > capacity then
    local fault = ("string to be queued is longer (%d bytes) than the queue's max_bytes (%d bytes)"):format(#entry,
      capacity)
    say(queue, "err", fault)
    return nil, fault
  end
  local dropped = 0
  while count(queue) > 0 and queue.bytes + #entry > capacity do
    drop_first(queue)
    dropped = dropped + 1
  end
  if dropped > 0 then
    queue.is_full = true
    say(queue, "err", "byte capacity exceeded, ", dropped, " queue entries were dropped")
  end
  return true
end

-- Puts an entry into the queue of that name, which it makes when there is none. Returns true; nil and a text when the
-- entry cannot be taken. Raises for arguments of the wrong type.
function M.enqueue(options, handler, argument, entry)
  assert(type(options) == "table", "arg #1 (queue_conf) must be a table")
  assert(type(handler) == "function", "arg #2 (handler) must be a function")
  assert(argument == nil or type(argument) == "table", "arg #3 (handler_conf) must be a table")
  assert(type(options.name) == "string", "arg #1 (queue_conf) must include a name")
  if entry == nil then
    return nil, "entry must be a non-nil Lua value"
  end
  if option({ options = options }, "concurrency_limit") == -1 then
    -- No order and no batches: each entry has a run of its own.
    local queue = { name = options.name, options = options, handler = handler, argument = argument, entries = { entry },
      first = 1, last = 1, bytes = 0, in_batch = 0 }
    return ngx.timer.at(0, function() send(queue) end)
  end
  local queue = queues[options.name]
  local is_new = queue == nil
  if is_new then
    queue = { name = options.name, handler = handler, entries = {}, first = 1, last = 0, bytes = 0, in_batch = 0 }
  end
  -- The configuration of now is that of the queue.
  queue.options, queue.argument = options, argument
  local ok, err = make_room(queue, entry)
  if not ok then
    return nil, err
  end
  queue.last = queue.last + 1
  queue.entries[queue.last] = entry
  if type(entry) == "string" then
    queue.bytes = queue.bytes + #entry
  end
  if is_new then
    ok, err = ngx.timer.at(0, run, queue)
    if not ok then
      return nil, err
    end
    queues[queue.name] = queue
  end
  return true
end

function M.can_enqueue(options, entry)
  local queue = queues[options.name]
  if queue == nil then
    return true
  end
  queue.options = options
  local capacity = options.max_bytes
  return count(queue) < option(queue, "max_entries")
    and (not given(capacity) or type(entry) ~= "string" or queue.bytes + #entry <= capacity)
end

function M.is_full(options)
  local queue = queues[options.name]
  return queue ~= nil and count(queue) >= (given(options.max_entries) and options.max_entries or DEFAULTS.max_entries)
end

function M.exists(name) return queues[name] ~= nil end

-- Returns the options of a plugin's queue: those of its configuration, under a name of the plugin's instance.
function M.get_plugin_params(plugin, config, name)
  local options = {}
  for key, value in pairs(given(config.queue) and config.queue or {}) do
    options[key] = value
  end
  -- Fields of plugins from before there were queues, where they were changed.
  local function older(field, default, target)
    if given(config[field]) and config[field] ~= default then
      options[target] = config[field]
    end
  end
  older("queue_size", 1, "max_batch_size")
  older("flush_timeout", 2, "max_coalescing_delay")
  older("batch_span_count", 200, "max_batch_size")
  older("batch_flush_delay", 3, "max_coalescing_delay")
  options.name = plugin .. ":" .. tostring(name or config.__key__ or config.__plugin_id or kong.plugin.get_id())
  options.log_tag = options.log_tag or plugin
  return options
end
M.get_params = function(config) return M.get_plugin_params("queue", config) end

return M
