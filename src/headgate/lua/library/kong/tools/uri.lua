-- kong.tools.uri: paths in their normal form.
local M = {}
function M.escape(text) return ngx.escape_uri(text, 0) end
function M.normalize(path)
  local segments, is_directory = {}, path:sub(-1) == "/" or path:find("/%.%.?$") ~= nil
  for segment in path:gmatch("[^/]+") do
    if segment == ".." then
      table.remove(segments)
    elseif segment ~= "." then
      segments[#segments + 1] = segment
    end
  end
  return "/" .. table.concat(segments, "/") .. (is_directory and #segments > 0 and "/" or "")
end
return M
