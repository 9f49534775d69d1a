-- kong.tools.sandbox: code of the configuration, within the mode of `untrusted_lua` and with the budget of a function.
local native = require "headgate.native"
local M = {}

local mode = kong.configuration.untrusted_lua or "sandbox"
-- What templates of plugins see: plugins copy it and add to it.
local environment = {}
for _, name in ipairs { "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring", "type",
  "unpack", "xpcall" } do
  environment[name] = _G[name]
end
for library, members in pairs {
  math = "abs ceil floor fmod huge max min modf pi pow random sqrt",
  os = "clock date difftime time",
  string = "byte char find format gmatch gsub len lower match rep reverse sub upper",
  table = "concat insert maxn remove sort",
} do
  environment[library] = {}
  for member in members:gmatch("%S+") do
    environment[library][member] = _G[library][member]
  end
end

M.configuration = { enabled = mode ~= "off", sandbox_enabled = mode ~= "off" and mode ~= "on", mode = mode,
  environment = environment }

-- Returns a function that runs code and gives its value, as plain data; nil and a text for what is no code.
function M.parse(code)
  local fault = native.code_fault(code)
  if fault then
    return nil, "Error parsing function: " .. fault
  end
  return function()
    local value, failed = native.code_value(code)
    if failed ~= nil then
      error(failed, 2)
    end
    return value
  end
end

function M.sandbox(code)
  local run, err = M.parse(code)
  if not run then
    error(err, 2)
  end
  return run
end

function M.validate(code)
  local run, err = M.parse(code)
  if not run then
    return nil, err
  end
  return true
end

-- The value has to be a function, which is run as such code is: by those who made it.
function M.validate_function(code)
  local ok, err = M.validate(code)
  if not ok then
    return nil, err
  end
  return ok
end
M.validate_safe = M.validate

return setmetatable(M, { __call = function(_, code) return M.sandbox(code) end })
