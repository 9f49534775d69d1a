-- resty.jwt-validators: checks of claims, for resty.jwt. The `opt_` ones pass where there is no claim.
local M = {}
local leeway, clock = 0, ngx.now

function M.set_system_leeway(seconds) leeway = seconds end
function M.get_system_leeway() return leeway end
function M.set_system_clock(f) clock = f end

local function claim_fault(name, text) error({ reason = "'" .. tostring(name) .. "' claim " .. text }, 0) end

local function define(name, make)
  M["opt_" .. name] = function(...)
    local check = make(...)
    return function(value, claim, jwt)
      if value == nil then
        return true
      end
      return check(value, claim, jwt)
    end
  end
  M[name] = function(...)
    local check = make(...)
    return function(value, claim, jwt)
      if value == nil then
        claim_fault(claim, "is required.")
      end
      return check(value, claim, jwt)
    end
  end
end

local function contains(list, wanted)
  for _, one in ipairs(list) do
    if one == wanted then
      return true
    end
  end
  return false
end

define("check", function(checked, f, _, kind)
  return function(value, claim)
    if kind and type(value) ~= kind then
      claim_fault(claim, "is malformed.  Expected to be a " .. kind .. ".")
    end
    return f(value, checked) and true or false
  end
end)
define("equals", function(wanted) return function(value) return value == wanted end end)
define("matches", function(pattern) return function(value) return tostring(value):match(pattern) ~= nil end end)
define("any_of", function(list, f)
  return function(value)
    for _, one in ipairs(list) do
      if (f or rawequal)(value, one) then
        return true
      end
    end
    return false
  end
end)
define("equals_any_of", function(list) return function(value) return contains(list, value) end end)
define("matches_any_of", function(list)
  return function(value)
    for _, pattern in ipairs(list) do
      if tostring(value):match(pattern) then
        return true
      end
    end
    return false
  end
end)
define("contains_any_of", function(list, f)
  return function(values)
    for _, one in ipairs(type(values) == "table" and values or { values }) do
      for _, wanted in ipairs(list) do
        if (f or rawequal)(one, wanted) then
          return true
        end
      end
    end
    return false
  end
end)

local function time_check(is_right, text)
  return function()
    return function(value, claim)
      if type(value) ~= "number" or value < 0 then
        claim_fault(claim, "is malformed.  Expected to be a positive numeric value.")
      elseif not is_right(value) then
        claim_fault(claim, text .. ngx.http_time(value))
      end
      return true
    end
  end
end
define("is_before", time_check(function(value) return clock() - leeway > value end, "needs to be before "))
define("is_not_before", time_check(function(value) return clock() >= value - leeway end, "not valid until "))
define("is_not_expired", time_check(function(value) return clock() < value + leeway end, "expired at "))
define("is_at", time_check(function(value) return math.abs(clock() - value) <= leeway end, "is only valid at "))

function M.required(check)
  return function(value, claim, jwt)
    if value == nil then
      claim_fault(claim, "is required.")
    end
    return check == nil or check(value, claim, jwt)
  end
end
function M.chain(...)
  local checks = { ... }
  return function(value, claim, jwt)
    for _, check in ipairs(checks) do
      if check(value, claim, jwt) == false then
        return false
      end
    end
    return true
  end
end
M.opt_chain = M.chain
function M.require_one_of(names)
  return function(_, _, jwt)
    local payload = type(jwt) == "string" and require("cjson").decode(jwt).payload or jwt.payload
    for _, name in ipairs(names) do
      if payload[name] ~= nil then
        return true
      end
    end
    claim_fault(table.concat(names, ", "), "is missing: one of them is required.")
  end
end

return M
