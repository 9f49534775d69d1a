-- kong.tools.module: modules that need not be there.
local M = {}
-- Returns true and the module; false and a text when there is none. Raises what the module itself raises.
function M.load_module_if_exists(name)
  local ok, loaded = pcall(require, name)
  if ok then
    return true, loaded
  elseif type(loaded) == "string" and loaded:find("module '" .. name .. "' not found", 1, true) then
    return false, loaded
  end
  error("error loading module '" .. name .. "':\n" .. tostring(loaded), 2)
end
return M
