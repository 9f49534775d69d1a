-- Lua's pattern matching in Lua itself, for functions with a budget: the built-in one can take for ever in one call,
-- where no hook fires. It takes over where a pattern could backtrack too much; everybody else has the built-in one.
local core = require "headgate.core"
local native = require "headgate.native"
local byte, char, sub, concat = string.byte, string.char, string.sub, table.concat
local raw = { find = string.find, match = string.match, gmatch = string.gmatch, gsub = string.gsub }
local type, tostring, error, setmetatable, unpack, select = type, tostring, error, setmetatable, unpack, select

local MOST_STEPS = 1e7 -- of the built-in matcher, at worst: some 50 ms
local LONG_STEPS = 1e5 -- from which on the clock is looked at after it
local MOST_COMPARED = 2e8 -- bytes that the search for a plain text may compare at worst: some 20 ms
local LONG_BYTES = 65536 -- of a text, from which on the clock is looked at after a function of the library
local MOST_CAPTURES = 32
local OPEN, POSITION = -1, -2

-- The characters that a class (`a`, `.`, `%d`, `[^x]`) matches; told by the built-in matcher, one by one.
local MOST_CLASSES = 500
local members, class_count = {}, 0
local function members_of(class)
  local set = members[class]
  if set == nil then
    if class_count == MOST_CLASSES then
      members, class_count = {}, 0
    end
    class_count = class_count + 1
    set = {}
    for code = 0, 255 do
      set[code] = raw.find(char(code), "^" .. class) ~= nil
    end
    members[class] = set
  end
  return set
end

local function class_end(p, at)
  local code = byte(p, at)
  if code == 37 then
    if at >= #p then
      error("malformed pattern (ends with '%')", 0)
    end
    return at + 2
  elseif code == 91 then
    at = at + 1
    if byte(p, at) == 94 then
      at = at + 1
    end
    repeat
      if at > #p then
        error("malformed pattern (missing ']')", 0)
      end
      local inner = byte(p, at)
      at = at + (inner == 37 and 2 or 1)
    until byte(p, at) == 93
    return at + 1
  end
  return at + 1
end

local run

local function with_capture(m, si, pi, length)
  local level = #m.starts + 1
  if level > MOST_CAPTURES then
    error("too many captures", 0)
  end
  m.starts[level], m.lengths[level] = si, length
  local last = run(m, si, pi)
  if not last then
    m.starts[level], m.lengths[level] = nil, nil
  end
  return last
end

local function closing(m, si, pi)
  local level = #m.starts
  while level > 0 and m.lengths[level] ~= OPEN do
    level = level - 1
  end
  if level == 0 then
    error("invalid pattern capture", 0)
  end
  m.lengths[level] = si - m.starts[level]
  local last = run(m, si, pi + 1)
  if not last then
    m.lengths[level] = OPEN
  end
  return last
end

local function balanced(m, si, pi)
  local first, last = byte(m.p, pi), byte(m.p, pi + 1)
  if not last then
    error("unbalanced pattern", 0)
  end
  if byte(m.s, si) ~= first then
    return nil
  end
  local depth = 1
  for at = si + 1, #m.s do
    local code = byte(m.s, at)
    if code == last then
      depth = depth - 1
      if depth == 0 then
        return at + 1
      end
    elseif code == first then
      depth = depth + 1
    end
  end
end

-- Returns the position behind the match of the pattern from `pi` at `si`; nil when there is none.
run = function(m, si, pi)
  local s, p = m.s, m.p
  while true do
    if pi > #p then
      return si
    end
    local code = byte(p, pi)
    local after = code == 37 and byte(p, pi + 1) or nil
    if code == 40 then
      if byte(p, pi + 1) == 41 then
        return with_capture(m, si, pi + 2, POSITION)
      end
      return with_capture(m, si, pi + 1, OPEN)
    elseif code == 41 then
      return closing(m, si, pi)
    elseif code == 36 and pi == #p then
      return si == #s + 1 and si or nil
    elseif after == 98 then
      si = balanced(m, si, pi + 2)
      if not si then
        return nil
      end
      pi = pi + 4
    elseif after == 102 then
      if byte(p, pi + 2) ~= 91 then
        error("missing '[' after '%f' in pattern", 0)
      end
      local stop = class_end(p, pi + 2)
      local set = members_of(sub(p, pi + 2, stop - 1))
      if set[byte(s, si - 1) or 0] or not set[byte(s, si) or 0] then
        return nil
      end
      pi = stop
    elseif after and after >= 48 and after <= 57 then
      local level = after - 48
      local start, length = m.starts[level], m.lengths[level]
      if not start or length < 0 then
        error("invalid capture index", 0)
      end
      if sub(s, si, si + length - 1) ~= sub(s, start, start + length - 1) then
        return nil
      end
      si, pi = si + length, pi + 2
    else
      local stop = class_end(p, pi)
      local set = members_of(sub(p, pi, stop - 1))
      local quantifier = byte(p, stop)
      if quantifier == 63 then
        if si <= #s and set[byte(s, si)] then
          local last = run(m, si + 1, stop + 1)
          if last then
            return last
          end
        end
        pi = stop + 1
      elseif quantifier == 42 or quantifier == 43 then
        local count = 0
        while si + count <= #s and set[byte(s, si + count)] do
          count = count + 1
        end
        for taken = count, quantifier == 43 and 1 or 0, -1 do
          local last = run(m, si + taken, stop + 1)
          if last then
            return last
          end
        end
        return nil
      elseif quantifier == 45 then
        while true do
          local last = run(m, si, stop + 1)
          if last then
            return last
          elseif si <= #s and set[byte(s, si)] then
            si = si + 1
          else
            return nil
          end
        end
      elseif si <= #s and set[byte(s, si)] then
        si, pi = si + 1, stop
      else
        return nil
      end
    end
  end
end

local function captured(m, level)
  local length = m.lengths[level]
  if length == POSITION then
    return m.starts[level]
  elseif length == OPEN then
    error("unfinished capture", 0)
  end
  return sub(m.s, m.starts[level], m.starts[level] + length - 1)
end

local function captures(m, first, last, is_whole)
  local count = #m.starts
  if count == 0 and is_whole then
    return sub(m.s, first, last - 1)
  end
  local values = {}
  for level = 1, count do
    values[level] = captured(m, level)
  end
  return unpack(values, 1, count)
end

-- Returns the first match from `start` on: its state, first position, position behind it.
local function search(s, p, start)
  local is_anchored = byte(p, 1) == 94
  local body = is_anchored and sub(p, 2) or p
  for at = start, is_anchored and start or #s + 1 do
    local m = { s = s, p = body, starts = {}, lengths = {} }
    local last = run(m, at, 1)
    if last then
      return m, at, last
    end
  end
end

local function start_of(s, init)
  init = init or 1
  if init < 0 then
    init = #s + init + 1
  end
  return init < 1 and 1 or init
end

local slow = {}

function slow.find(s, p, init)
  local start = start_of(s, init)
  if start > #s + 1 then
    return nil
  end
  local m, first, last = search(s, p, start)
  if m then
    return first, last - 1, captures(m, first, last, false)
  end
end

function slow.match(s, p, init)
  local start = start_of(s, init)
  if start > #s + 1 then
    return nil
  end
  local m, first, last = search(s, p, start)
  if m then
    return captures(m, first, last, true)
  end
end

function slow.gmatch(s, p)
  local position = 1
  if byte(p, 1) == 94 then
    p = "%" .. p -- no anchor here, as in Lua 5.1
  end
  return function()
    if position > #s + 1 then
      return nil
    end
    local m, first, last = search(s, p, position)
    if not m then
      position = #s + 2
      return nil
    end
    position = last == first and last + 1 or last
    return captures(m, first, last, true)
  end
end

local function replaced(m, first, last, replacement)
  local whole = sub(m.s, first, last - 1)
  local kind = type(replacement)
  local value
  if kind == "string" or kind == "number" then
    return (raw.gsub(tostring(replacement), "%%(.?)", function(mark)
      if mark == "0" then
        return whole
      elseif raw.find(mark, "^%d$") then
        local level = mark + 0
        if level == 1 and #m.starts == 0 then
          return whole
        elseif not m.starts[level] then
          error("invalid capture index", 0)
        end
        return tostring(captured(m, level))
      end
      return mark
    end))
  elseif kind == "table" then
    value = replacement[(captures(m, first, last, true))]
  else
    value = replacement(captures(m, first, last, true))
  end
  if not value then
    return whole
  elseif type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 0)
  end
  return tostring(value)
end

function slow.gsub(s, p, replacement, most)
  local pieces, position, count = {}, 1, 0
  local is_anchored = byte(p, 1) == 94
  while count < (most or math.huge) and position <= #s + 1 do
    local m, first, last = search(s, p, position)
    if not m then
      break
    end
    count = count + 1
    pieces[#pieces + 1] = sub(s, position, first - 1)
    pieces[#pieces + 1] = replaced(m, first, last, replacement)
    if last == first then
      pieces[#pieces + 1] = sub(s, first, first)
      position = first + 1
    else
      position = last
    end
    if is_anchored then
      break
    end
  end
  pieces[#pieces + 1] = sub(s, position)
  return concat(pieces), count
end

-- What of a pattern can take parts of a text: repetitions, %b and back references; how often it chooses (`?`); and whether
-- it starts at one place only.
local function shape_of(p)
  local is_anchored = byte(p, 1) == 94
  local loops, choices, at = 0, 0, is_anchored and 2 or 1
  while at <= #p do
    local code, after = byte(p, at, at + 1)
    if code == 40 or code == 41 then
      at = at + 1
    elseif code == 37 and after == 98 then
      loops, at = loops + 1, at + 4
    elseif code == 37 and after == 102 then
      at = at + 2
    else
      if code == 37 and after and after >= 48 and after <= 57 then
        loops = loops + 1
      end
      at = class_end(p, at)
      local quantifier = byte(p, at)
      if quantifier == 42 or quantifier == 43 or quantifier == 45 then
        loops, at = loops + 1, at + 1
      elseif quantifier == 63 then
        choices, at = choices + 1, at + 1
      end
    end
  end
  return { exponent = loops + (is_anchored and 0 or 1), factor = 2 ^ choices * (#p + 1) }
end

-- How many steps a match may take at worst: one loop over the text for the start and for each item that can take a part
-- of it, twice as many for each choice, and the items themselves.
local MOST_SHAPES = 1000
local PLAIN = { exponent = 1, factor = 1 } -- of what is malformed, which is told by whoever matches
local shapes, shape_count = {}, 0
local function worst_steps(s, p)
  local shape = shapes[p]
  if shape == nil then
    if shape_count == MOST_SHAPES then
      shapes, shape_count = {}, 0
    end
    shape_count = shape_count + 1
    local is_whole, found = pcall(shape_of, p)
    shape = is_whole and found or PLAIN
    shapes[p] = shape
  end
  return (#s + 1) ^ shape.exponent * shape.factor
end

-- A plain text is compared at every place where it could start.
local function is_long_search(s, p)
  return (#s - #p) * #p > MOST_COMPARED
end

-- Plain texts are found by the host, whose search is linear.
local function find_plain(s, p, init)
  local first = native.find_text(s, p, start_of(s, init))
  if first then
    return first, first + #p - 1
  end
end

-- The hook that counts does not fire in compiled traces, and these functions run for budgeted calls only.
for _, careful in pairs { members_of, class_end, with_capture, closing, balanced, captured, captures, search, start_of, replaced, run } do
  jit.off(careful, true)
end
for _, careful in pairs(slow) do
  jit.off(careful, true)
end

local is_bounded, charge = core.is_bounded, core.charge
local function charged(...)
  charge()
  return ...
end

for _, name in ipairs { "match", "gsub" } do
  local fast, careful = raw[name], slow[name]
  string[name] = function(s, p, ...)
    if is_bounded() and type(s) == "string" and type(p) == "string" then
      local steps = worst_steps(s, p)
      if steps > MOST_STEPS then
        return careful(s, p, ...)
      elseif steps > LONG_STEPS then
        return charged(fast(s, p, ...))
      end
    end
    return fast(s, p, ...)
  end
end
function string.gmatch(s, p, ...)
  if is_bounded() and type(s) == "string" and type(p) == "string" then
    local steps = worst_steps(s, p)
    if steps > MOST_STEPS then
      return slow.gmatch(s, p)
    elseif steps > LONG_STEPS then
      local iterate = raw.gmatch(s, p)
      return function()
        return charged(iterate())
      end
    end
  end
  return raw.gmatch(s, p, ...)
end
function string.find(s, p, init, is_plain)
  if is_bounded() and type(s) == "string" and type(p) == "string" then
    if is_plain or not raw.find(p, "[%^%$%*%+%?%.%(%[%%%-]") then
      if is_long_search(s, p) then
        return find_plain(s, p, init)
      elseif #s > LONG_BYTES then
        return charged(raw.find(s, p, init, is_plain))
      end
    else
      local steps = worst_steps(s, p)
      if steps > MOST_STEPS then
        return slow.find(s, p, init)
      elseif steps > LONG_STEPS then
        return charged(raw.find(s, p, init, is_plain))
      end
    end
  end
  return raw.find(s, p, init, is_plain)
end

-- What makes long texts, or goes over them, in one piece.
local function if_long(text, ...)
  if type(text) == "string" and #text > LONG_BYTES then
    charge()
  end
  return text, ...
end
for _, name in ipairs { "rep", "reverse", "upper", "lower", "format" } do
  local fast = string[name]
  string[name] = function(...)
    if is_bounded() then
      return if_long(fast(...))
    end
    return fast(...)
  end
end

return slow
