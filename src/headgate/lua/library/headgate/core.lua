-- Coroutines of handlers: every handler runs in one, so that whatever waits can yield to the event loop.
--
-- Owns the tags that travel through yields, the pool of coroutines, the record of whose turn it is, and the
-- `coroutine` library that plugins see: a wait inside of a plugin's own coroutine passes through it to the driver.
-- Rule: nothing here calls into Python while it resumes, and nobody else resumes a handler's coroutine.
local create, raw_resume, raw_yield = coroutine.create, coroutine.resume, coroutine.yield
local status, running = coroutine.status, coroutine.running
local traceback, select, type, tostring, unpack = debug.traceback, select, type, tostring, unpack
local setmetatable, getmetatable, error, pairs, pcall = setmetatable, getmetatable, error, pairs, pcall

local core = {}

local WAIT, EXIT, DONE = {}, {}, {}
local MOST_POOLED = 256

local python -- functions of the host, set by `core.connect`

local pool, pooled = {}, 0
local waiting, next_id = {}, 0

-- Whose turn it is: the plugin's name and the table of its request (false: none was asked for yet).
local current_name, current_request = nil, false


function core.connect(functions)
  python = functions
end

-- Budgets: code that comes with the configuration may take so many instructions, so much time and memory. The hook is
-- the machine's, so it is set only while a bounded coroutine runs; such code is never compiled, or it would not fire.
local sethook, clock = debug.sethook, os.clock
-- Most calls are over before the first tick. From then on ticks are close together, since a single instruction can be a
-- long one: those that the host does for Lua look at the clock themselves (`core.charge`).
local FIRST_TICK, TICK = 400, 40
local budgets = setmetatable({}, { __mode = "k" }) -- by coroutine
local inherited = setmetatable({}, { __mode = "k" }) -- limits by function that a bounded coroutine gave away
local current_budget = nil
core.BUDGET = "\0budget\0"

local function over(budget, what)
  budget.over = what
  error(core.BUDGET .. what, 0)
end

local tick

local function look_at_clock(budget)
  local started = budget.started
  if started == nil then
    budget.started = clock() - budget.spent
  elseif clock() - started > budget.limits.seconds then
    over(budget, "the function took more than " .. budget.limits.seconds .. " s of processor time")
  end
end

tick = function()
  local budget = current_budget
  if budget == nil then
    return
  end
  if budget.over then
    error(core.BUDGET .. budget.over, 0)
  end
  if budget.is_ticking then
    budget.used = budget.used + TICK
  else
    budget.is_ticking = true
    budget.used = budget.used + FIRST_TICK
    sethook(tick, "", TICK)
  end
  if budget.limits.instructions > 0 and budget.used > budget.limits.instructions then
    over(budget, "the function took more than " .. budget.limits.instructions .. " instructions")
  end
  look_at_clock(budget)
end

-- For functions of the host that can take long: looks at the clock of a bounded call, and ends it.
function core.charge()
  local budget = current_budget
  if budget ~= nil then
    look_at_clock(budget)
  end
end

local function unbounded(earlier, budget, is_guarded, ok, first, ...)
  if budget.started then
    budget.spent = clock() - budget.started
    budget.started = nil
  end
  current_budget = earlier
  if earlier == nil then
    sethook()
    if not is_guarded then
      python.end_bounded()
    end
  end
  if not ok and first == "not enough memory" then
    budget.over = "the function took more than " .. budget.limits.memory_bytes .. " bytes of memory"
    first = core.BUDGET .. budget.over
  elseif budget.over then
    -- Also where the function has caught it and ended by itself.
    return false, core.BUDGET .. budget.over
  end
  return ok, first, ...
end

-- Resumes any coroutine, within its budget when it has one. A call that goes on after waiting pays for it and its clock
-- is looked at from the start, so that none lives on slices too short for a tick.
local function resume(co, ...)
  local budget = budgets[co]
  if budget == nil then
    return raw_resume(co, ...)
  end
  local count = FIRST_TICK
  if budget.is_resumed then
    count = TICK
    budget.used = budget.used + TICK
    budget.is_ticking = true
    if budget.spent > budget.limits.seconds then
      budget.over = budget.over or "the function took more than " .. budget.limits.seconds .. " s of processor time"
      count = 1
    end
    budget.started = clock() - budget.spent
  end
  budget.is_resumed = true
  local earlier = current_budget
  if earlier == nil then
    python.begin_bounded(budget.limits.memory_bytes)
  else
    -- Within another bounded call: the hook is the same one, so both tick closely.
    count, budget.is_ticking, earlier.is_ticking = TICK, true, true
  end
  sethook(tick, "", count)
  current_budget = budget
  return unbounded(earlier, budget, false, raw_resume(co, ...))
end

-- The same at the start of a handler, where the host itself guards the memory.
local function resume_guarded(co, budget, f)
  local earlier = current_budget
  if earlier == nil then
    sethook(tick, "", FIRST_TICK)
  end
  current_budget = budget
  return unbounded(earlier, budget, true, raw_resume(co, f))
end

-- What is left to say when memory runs out, or the stack, where nothing protects the host itself: whose turn it was is
-- as it was before. Takes no memory.
local EXHAUSTED = core.BUDGET .. "the function took more memory than it may"
local function recovered(budget, name, request, ok, ...)
  if ok then
    return ...
  end
  current_budget, current_name, current_request = budget, name, request
  if budget == nil then
    sethook()
    pcall(python.end_bounded)
  else
    sethook(tick, "", TICK)
  end
  return "error", EXHAUSTED, ""
end

local function new_budget(limits)
  return { limits = limits, used = 0, spent = 0, is_resumed = false, is_ticking = false }
end

-- Marks a function that a bounded coroutine gives away, to a timer for example: it will have a budget of its own.
function core.inherit(f)
  if current_budget ~= nil and type(f) == "function" then
    inherited[f] = current_budget.limits
  end
  return f
end

function core.check_budget()
  local budget = current_budget
  if budget ~= nil and budget.over then
    error(core.BUDGET .. budget.over, 0)
  end
end

function core.is_bounded()
  return current_budget ~= nil
end

-- The coroutines that only the driver may resume: whoever got hold of one could wait for the next handler in it.
local handlers = setmetatable({}, { __mode = "k" })
local function new_handler(f)
  local co = create(f)
  handlers[co] = true
  return co
end

local function loop(f, a, b)
  while true do
    f(a, b)
    f, a, b = raw_yield(DONE)
  end
end

local function text_of(err)
  if type(err) == "string" then
    return err
  end
  local meta = type(err) == "table" and getmetatable(err)
  if type(err) == "table" and not (meta and meta.__tostring) and err.message ~= nil then
    return tostring(err.message)
  end
  return tostring(err)
end
core.text_of = text_of

-- Returns nothing when the handler is over; else "wait", id, what; "exit"; "done", values; "error", text, traceback.
local function settle(co, ok, tag, ...)
  if ok then
    if tag == DONE then
      if pooled < MOST_POOLED then
        pooled = pooled + 1
        pool[pooled] = co
        budgets[co] = nil
      end
      return
    end
    if tag == WAIT then
      next_id = next_id + 1
      waiting[next_id] = { co, current_name, current_request }
      return "wait", next_id, ...
    end
    if tag == EXIT then
      return "exit", true
    end
    if status(co) == "dead" then
      return "done", tag, ...
    end
    return "error", "the handler yielded without anything to wait for", ""
  end
  return "error", text_of(tag), traceback(co)
end

local function settle_and_restore(name, request, co, ...)
  return (function(...)
    current_name, current_request = name, request
    return ...
  end)(settle(co, ...))
end

-- The fast path: a handler that is over leaves nothing to return.
local function finish(name, request, co, ok, tag, ...)
  if ok and tag == DONE then
    if pooled < MOST_POOLED then
      pooled = pooled + 1
      pool[pooled] = co
      budgets[co] = nil
    end
    current_name, current_request = name, request
    return
  end
  return settle_and_restore(name, request, co, ok, tag, ...)
end

-- Returns a function of the request's table, if there is one, that runs `f(self, conf)` as the plugin `name`.
function core.handle(name, f, self, conf)
  return function(request)
    local co
    if pooled > 0 then
      co = pool[pooled]
      pool[pooled] = nil
      pooled = pooled - 1
    else
      co = new_handler(loop)
    end
    local earlier_name, earlier_request = current_name, current_request
    current_name, current_request = name, request or false
    return finish(earlier_name, earlier_request, co, raw_resume(co, f, self, conf))
  end
end

-- The same for functions of the configuration: a coroutine of its own, with a budget.
function core.handle_bounded(name, f, limits)
  local function run(request)
    local co
    if pooled > 0 then
      co = pool[pooled]
      pool[pooled] = nil
      pooled = pooled - 1
    else
      co = new_handler(loop)
    end
    local budget = new_budget(limits)
    budget.is_resumed = true
    budgets[co] = budget
    local earlier_name, earlier_request = current_name, current_request
    current_name, current_request = name, request or false
    return finish(earlier_name, earlier_request, co, resume_guarded(co, budget, f))
  end
  return function(request)
    return recovered(current_budget, current_name, current_request, pcall(run, request))
  end
end

local function call(name, f, ...)
  local co = new_handler(f)
  local limits = inherited[f]
  if limits then
    budgets[co] = new_budget(limits)
  end
  local earlier_name, earlier_request = current_name, current_request
  current_name, current_request = name, false
  return settle_and_restore(earlier_name, earlier_request, co, resume(co, ...))
end

-- Runs `f(...)` in a coroutine of its own and tells what it returned: for timers, threads, callbacks.
function core.call(name, f, ...)
  return recovered(current_budget, current_name, current_request, pcall(call, name, f, ...))
end

local function go_on(id, ...)
  local entry = waiting[id]
  if entry == nil then
    return "error", "a handler was resumed that does not wait", ""
  end
  waiting[id] = nil
  local earlier_name, earlier_request = current_name, current_request
  current_name, current_request = entry[2], entry[3]
  return settle_and_restore(earlier_name, earlier_request, entry[1], resume(entry[1], ...))
end

-- Goes on with what waits: `ok` and the values for it, or false and a text.
function core.resume(id, ...)
  return recovered(current_budget, current_name, current_request, pcall(go_on, id, ...))
end

function core.drop(id)
  waiting[id] = nil
end

function core.waiting_count()
  local count = 0
  for _ in pairs(waiting) do
    count = count + 1
  end
  return count
end

local function resumed(ok, ...)
  if ok then
    return ...
  end
  error((...), 3)
end

-- Refuses to wait where there is no handler that could: before anything is started that would have to be waited for.
function core.must_wait()
  if not running() then
    error("nothing can be waited for here", 3)
  end
end

-- Waits for an awaitable of the host; returns its values, or raises its text at the caller's caller.
function core.wait(awaitable)
  if not running() then
    error("nothing can be waited for here", 3)
  end
  return resumed(raw_yield(WAIT, awaitable))
end

-- Ends the handler now, whatever pcall stands around it.
function core.exit()
  if running() then
    raw_yield(EXIT)
  end
  error("the request has ended", 0)
end

-- The table that lives as long as the request: `ctx` is ngx.ctx, `plugins` has kong.ctx.plugin by name.
function core.request()
  local request = current_request
  if not request then
    request = python.request_table() or { plugins = {} }
    current_request = request
  end
  return request
end

-- For Python code that runs a function of the plugin's while the plugin waits for its result.
function core.call_now(f, ...)
  return f(...)
end

-- Returns its argument: to Python the result belongs to the machine, not to the coroutine that gave it.
function core.anchored(value)
  return value
end

-- The table of a request; made here, since Lua makes tables faster than the host.
function core.new_request()
  return { plugins = {} }
end

function core.name()
  return current_name
end

local pass
pass = function(co, ok, tag, ...)
  while ok and (tag == WAIT or tag == EXIT) do
    return pass(co, raw_resume(co, raw_yield(tag, ...)))
  end
  return ok, tag, ...
end

function coroutine.resume(co, ...)
  if handlers[co] then
    return false, "cannot resume non-suspended coroutine"
  end
  return pass(co, raw_resume(co, ...))
end

local function unprotected(ok, ...)
  if not ok then
    local err = ...
    error(err, type(err) == "string" and 2 or 0)
  end
  return ...
end

function coroutine.wrap(f)
  local co = create(f)
  return function(...)
    return unprotected(pass(co, raw_resume(co, ...)))
  end
end

-- Light threads (ngx.thread): run at once up to their first wait, then go on as tasks of the loop.
local threads = setmetatable({}, { __mode = "k" })

local function thread_settled(entry, kind, ...)
  if kind == "wait" then
    local id, awaitable = ...
    entry.task = python.spawn(id, awaitable, function(...)
      return thread_settled(entry, ...)
    end)
    return
  end
  entry.task = nil
  entry.kind = kind or "done"
  entry.count = select("#", ...)
  entry.values = { ... }
end

function core.spawn(f, ...)
  local co = new_handler(f)
  local entry = {}
  threads[co] = entry
  local name, request = current_name, core.request()
  current_request = request
  budgets[co] = current_budget
  thread_settled(entry, settle_and_restore(name, request, co, resume(co, ...)))
  return co
end

local function thread_result(entry)
  if entry.kind == "exit" then
    core.exit()
  end
  if entry.kind == "error" then
    return false, entry.values[1]
  end
  return true, unpack(entry.values, 1, entry.count)
end

function core.wait_threads(...)
  while true do
    local tasks = {}
    for i = 1, select("#", ...) do
      local entry = threads[select(i, ...)]
      if entry == nil then
        return nil, "not a thread of this request"
      end
      if entry.killed then
        return nil, "killed"
      end
      if entry.kind then
        return thread_result(entry)
      end
      tasks[#tasks + 1] = entry.task
    end
    core.wait(python.wait_any(unpack(tasks)))
  end
end

function core.kill_thread(co)
  local entry = threads[co]
  if entry == nil or entry.kind or entry.killed then
    return nil, "already waited or killed"
  end
  entry.killed = true
  python.cancel(entry.task)
  return 1
end

return core
