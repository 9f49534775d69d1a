-- kong.workspaces: there is one workspace, the default one.
local M = {}
function M.get_workspace_id() return kong.default_workspace end
function M.get_workspace() return { id = kong.default_workspace, name = "default" } end
function M.set_workspace() end
M.get_default = M.get_workspace
return M
