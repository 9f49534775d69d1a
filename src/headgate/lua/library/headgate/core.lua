-- Coroutines of handlers: every handler runs in one, so that whatever waits can yield to the event loop.
--
-- Owns the tags that travel through yields, the pool of coroutines, the record of whose turn it is, and the
-- `coroutine` library that plugins see: a wait inside of a plugin's own coroutine passes through it to the driver.
-- Rule: nothing here calls into Python while it resumes, and nobody else resumes a handler's coroutine.
local create, raw_resume, raw_yield = coroutine.create, coroutine.resume, coroutine.yield
local status, running = coroutine.status, coroutine.running
local traceback, select, type, tostring, unpack = debug.traceback, select, type, tostring, unpack
local setmetatable, getmetatable, rawget, error, pairs, pcall = setmetatable, getmetatable, rawget, error, pairs, pcall

local core = {}

-- Modules with methods of a plugin for `kong.db.<entity>`, by entity: what `dao` in daos.lua names.
core.daos = {}

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

-- Tables of requests by the engine's handle, and how the engine tells which are over.
local requests = {}
local next_released = nil

function core.follow(function_of_engine)
  next_released = function_of_engine
end

function core.request_of(handle)
  local request = requests[handle]
  if request == nil then
    if next_released ~= nil then
      local released = next_released()
      while released ~= 0 do
        requests[released] = nil
        released = next_released()
      end
    end
    request = { plugins = {}, exchange = handle }
    requests[handle] = request
  end
  return request
end
local request_of = core.request_of

-- The engine's handle of the request that the running code belongs to, if it is known.
function core.exchange()
  return current_request and current_request.exchange
end

-- Budgets: code that comes with the configuration may take so many instructions, so much time and memory. The hook is
-- the machine's, so it is set only while a bounded coroutine runs; such code is never compiled, or it would not fire.
local sethook, clock, collect = debug.sethook, os.clock, collectgarbage
-- Instructions between looks at the clock. A single one can be long, an arithmetic operator on a text of 50 MB for one: looks
-- are closer where memory has grown or time was lost, and what libraries and the host do for Lua looks at the clock itself
-- (`core.charge`).
local FIRST_TICK, TICK, CLOSE_TICK = 100, 40, 10
local LARGE_KB = 4096 -- what a call may have grown by before ticks come closer
local SLOW_S = 0.002 -- that a tick may have taken before they do
local budgets = setmetatable({}, { __mode = "k" }) -- by coroutine
local inherited = setmetatable({}, { __mode = "k" }) -- limits by function that a bounded coroutine gave away
local current_budget = nil
local is_closely = setmetatable({}, { __mode = "k" }) -- runs that were slow or large once, and keep what made them so
core.BUDGET = "\0budget\0"

local function over(budget, what)
  budget.over = what
  error(core.BUDGET .. what, 0)
end

local tick

local function look_at_clock(budget, needed)
  local now, started = clock(), budget.started
  if started == nil then
    started = now - budget.spent
    budget.started = started
  end
  if now - started + needed > budget.limits.seconds then
    over(budget, "the function took more than " .. budget.limits.seconds .. " s of processor time")
  end
  return now
end

local function too_much_memory(budget)
  over(budget, "the function took more than " .. budget.limits.memory_bytes .. " bytes of memory")
end

local function look_at_memory(budget)
  local kb = collect("count")
  if kb > budget.most_kb then
    collect()
    kb = collect("count")
    if kb > budget.most_kb then
      too_much_memory(budget)
    end
  end
  return kb
end

local function come_closer(budget)
  budget.step = CLOSE_TICK
  is_closely[budget.run] = true
end

tick = function()
  local budget = current_budget
  if budget == nil then
    return
  end
  if budget.over then
    error(core.BUDGET .. budget.over, 0)
  end
  local step, last = budget.step, budget.last
  budget.used = budget.used + step
  if budget.limits.instructions > 0 and budget.used > budget.limits.instructions then
    over(budget, "the function took more than " .. budget.limits.instructions .. " instructions")
  end
  local kb, now = look_at_memory(budget), look_at_clock(budget, 0)
  if kb > budget.large_kb or (last and now - last > SLOW_S) then
    come_closer(budget)
  elseif step == FIRST_TICK or (last and now - last < SLOW_S / 100) then
    budget.step = TICK
  end
  budget.last = now
  if budget.step ~= step then
    sethook(tick, "", budget.step)
  end
end

-- For functions that can take long: looks at the clock of a bounded call, and ends it; before work that will take
-- `needed` seconds, too.
function core.charge(needed)
  local budget = current_budget
  if budget ~= nil then
    if budget.over then
      error(core.BUDGET .. budget.over, 0)
    end
    local now, last = look_at_clock(budget, needed or 0), budget.last
    if last and now - last > SLOW_S and budget.step ~= CLOSE_TICK then
      come_closer(budget)
      sethook(tick, "", CLOSE_TICK)
    end
    budget.last = now
  end
end

-- The seconds that a bounded call has left; nil for one without a limit.
function core.seconds_left()
  local budget = current_budget
  if budget ~= nil then
    local left = budget.limits.seconds - (look_at_clock(budget, 0) - budget.started)
    return left > 0.001 and left or 0.001
  end
end

-- Before Python is called: nothing protects it from memory that runs out while it hands something over, so that a bounded
-- call must have some left. `MARGIN_BYTES` in bridge.py is what it finds.
function core.enter()
  local budget = current_budget
  if budget ~= nil and collect("count") > budget.most_kb then
    look_at_memory(budget)
  end
end
local enter = core.enter

-- Coroutines resumed within each other stand on the C stack of the thread, which must not be used up.
local MOST_DEPTH = 150
local depth = 0
local function risen(before, ...)
  depth = before
  return ...
end
local function nested_resume(co, ...)
  local before = depth
  if before >= MOST_DEPTH then
    return false, "C stack overflow"
  end
  depth = before + 1
  return risen(before, raw_resume(co, ...))
end

local function unbounded(before, earlier, budget, is_guarded, ok, first, ...)
  if budget.started then
    budget.spent = clock() - budget.started
    budget.started = nil
  end
  current_budget, depth = earlier, before
  if earlier == nil then
    sethook()
    if not is_guarded then
      python.end_bounded()
    end
  else
    sethook(tick, "", earlier.step)
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

local function bounded_resume(co, budget, earlier, is_guarded, ...)
  local kb = collect("count")
  local most_kb = kb + budget.limits.memory_bytes / 1024
  if earlier ~= nil and earlier.most_kb < most_kb then
    most_kb = earlier.most_kb
  end
  budget.most_kb, budget.large_kb = most_kb, kb + LARGE_KB
  sethook(tick, "", budget.step)
  current_budget = budget
  return unbounded(depth, earlier, budget, is_guarded, nested_resume(co, ...))
end

-- Resumes any coroutine, within its budget when it has one. A call that goes on after waiting pays for it and its clock
-- is looked at from the start, so that none lives on slices too short for a tick.
local function resume(co, ...)
  local budget = budgets[co]
  if budget == nil then
    return nested_resume(co, ...)
  end
  if budget.is_resumed then
    if budget.step == FIRST_TICK then
      budget.step = TICK
    end
    budget.used = budget.used + budget.step
    if budget.spent > budget.limits.seconds then
      budget.over = budget.over or "the function took more than " .. budget.limits.seconds .. " s of processor time"
      budget.step = 1
    end
    budget.started = clock() - budget.spent
    budget.last = nil
  end
  budget.is_resumed = true
  local earlier = current_budget
  if earlier == nil then
    python.begin_bounded(budget.limits.memory_bytes)
  end
  return bounded_resume(co, budget, earlier, false, ...)
end

-- The same at the start of a handler, where the host itself guards the memory.
local function resume_guarded(co, budget, f)
  return bounded_resume(co, budget, current_budget, true, f)
end

-- What is left to say when memory runs out, or the stack, where nothing protects the host itself: whose turn it was is
-- as it was before. Takes no memory.
local EXHAUSTED = core.BUDGET .. "the function took more memory than it may"
local function recovered(budget, name, request, ok, ...)
  if ok then
    return ...
  end
  local inner = current_budget
  current_budget, current_name, current_request = budget, name, request
  if budget == nil then
    sethook()
    pcall(python.end_bounded)
  else
    sethook(tick, "", budget.step)
  end
  if inner ~= nil and inner ~= budget and inner.over then
    return "error", core.BUDGET .. inner.over, ""
  end
  return "error", EXHAUSTED, ""
end

-- Args: run, what stands for all calls of the same function: it is remembered whether one was slow.
local function new_budget(limits, run)
  return { limits = limits, run = run, used = 0, spent = 0, is_resumed = false,
    step = is_closely[run] and CLOSE_TICK or FIRST_TICK }
end

-- Returns what a bounded coroutine gives away in place of a function, to a timer for example: it will have a budget of its
-- own. The function itself is not marked, since it may be one that others give away too.
function core.inherit(f)
  if current_budget == nil or type(f) ~= "function" then
    return f
  end
  local function given(...)
    return f(...)
  end
  inherited[given] = current_budget.limits
  return given
end

-- The same for a function whose result the call waits for: it has part in the budget of the call, however deep such
-- functions wait for each other.
local MOST_LENT = 100
local lent = setmetatable({}, { __mode = "k" }) -- budgets by function
function core.lend(f)
  local budget = current_budget
  if budget == nil or type(f) ~= "function" then
    return f
  end
  budget.lent = (budget.lent or 0) + 1
  if budget.lent > MOST_LENT then
    over(budget, "the function waited for more than " .. MOST_LENT .. " functions")
  end
  local function given(...)
    return f(...)
  end
  lent[given] = budget
  return given
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
    f, a, b = nil, nil, nil -- what waits in the pool keeps nothing alive
    f, a, b = raw_yield(DONE)
  end
end

local function text_of(err)
  if type(err) == "string" then
    return err
  end
  local meta = type(err) == "table" and getmetatable(err)
  local message = type(err) == "table" and not (meta and meta.__tostring) and rawget(err, "message")
  return tostring(message or err)
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

-- Returns a function that runs `f(self, conf)` as the plugin `name`. It takes the engine's handle of the request, or
-- else the request's table, where there is one.
function core.handle(name, f, self, conf)
  return function(handle, request)
    local co
    if pooled > 0 then
      co = pool[pooled]
      pool[pooled] = nil
      pooled = pooled - 1
    else
      co = new_handler(loop)
    end
    local earlier_name, earlier_request = current_name, current_request
    current_name, current_request = name, handle and request_of(handle) or request or false
    return finish(earlier_name, earlier_request, co, raw_resume(co, f, self, conf))
  end
end

-- The same for functions of the configuration: a coroutine of its own, with a budget.
function core.handle_bounded(name, f, limits)
  local function run(handle, request)
    local co
    if pooled > 0 then
      co = pool[pooled]
      pool[pooled] = nil
      pooled = pooled - 1
    else
      co = new_handler(loop)
    end
    local budget = new_budget(limits, f)
    budget.is_resumed = true
    budgets[co] = budget
    local earlier_name, earlier_request = current_name, current_request
    current_name, current_request = name, handle and request_of(handle) or request or false
    return finish(earlier_name, earlier_request, co, resume_guarded(co, budget, f))
  end
  return function(handle, request)
    return recovered(current_budget, current_name, current_request, pcall(run, handle, request))
  end
end

local function call(name, f, ...)
  local co = new_handler(f)
  local limits = inherited[f]
  if limits then
    budgets[co] = new_budget(limits, f)
  elseif lent[f] then
    budgets[co] = lent[f]
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
    enter()
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
    return pass(co, nested_resume(co, raw_yield(tag, ...)))
  end
  return ok, tag, ...
end

function coroutine.resume(co, ...)
  if handlers[co] then
    return false, "cannot resume non-suspended coroutine"
  end
  return pass(co, nested_resume(co, ...))
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
    return unprotected(pass(co, nested_resume(co, ...)))
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
