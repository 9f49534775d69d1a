-- pl.path: file names taken apart.
local M = { sep = "/" }
function M.exists(path)
  local file = io.open(path, "rb")
  if file then
    file:close()
    return path
  end
  return false
end
M.isfile = function(path) return M.exists(path) and true or false end
function M.basename(path) return path:match("[^/]*$") end
function M.dirname(path) return path:match("^(.*)/[^/]*$") or "" end
function M.extension(path) return path:match("(%.[^./]*)$") or "" end
function M.splitext(path)
  local extension = M.extension(path)
  return path:sub(1, #path - #extension), extension
end
function M.join(first, ...)
  local joined = first
  for _, part in ipairs { ... } do
    joined = part:sub(1, 1) == "/" and part or (joined == "" and part or joined:gsub("/$", "") .. "/" .. part)
  end
  return joined
end
return M
