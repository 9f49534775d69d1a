-- resty.openssl: its modules, loaded when they are asked for.
local M = { _VERSION = "1.5.2" }

function M.load_modules() end
function M.luaossl_compat()
  error("resty.openssl.luaossl_compat is not supported", 2)
end

return setmetatable(M, {
  __index = function(_, name)
    local ok, module = pcall(require, "resty.openssl." .. tostring(name))
    return ok and module or nil
  end,
})
