-- kong.pdk.private.rate_limiting: headers of limits, kept from one phase to a later one.
local pairs, tostring, type, error = pairs, tostring, type, error
local KEPT = "__rate_limiting_context__"

local M = {}

local function check(name, function_name)
  if type(name) ~= "string" then
    error("arg #2 `key` for function `" .. function_name .. "` must be a string, got " .. type(name), 3)
  end
end

function M.store_response_header(ctx, name, value)
  check(name, "store_response_header")
  if type(value) ~= "string" and type(value) ~= "number" then
    error("arg #3 `value` for function `store_response_header` must be a string or a number, got " .. type(value), 2)
  end
  ctx[KEPT] = ctx[KEPT] or {}
  ctx[KEPT][name] = value
end

function M.get_stored_response_header(ctx, name)
  check(name, "get_stored_response_header")
  return ctx[KEPT] and ctx[KEPT][name]
end

function M.apply_response_headers(ctx)
  for name, value in pairs(ctx[KEPT] or {}) do
    ngx.header[name] = tostring(value)
  end
end

return M
