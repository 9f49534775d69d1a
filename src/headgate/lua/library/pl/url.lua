-- pl.url: percent-encoding.
local M = {}
function M.quote(text, with_plus)
  if type(text) ~= "string" then
    return text
  end
  text = text:gsub("\n", "\r\n"):gsub("[^A-Za-z0-9 %-_%./]", function(c) return ("%%%02X"):format(c:byte()) end)
  if with_plus then
    return (text:gsub(" ", "+"):gsub("/", "%%2F"))
  end
  return (text:gsub(" ", "%%20"))
end
function M.unquote(text)
  if type(text) ~= "string" then
    return text
  end
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(pair) return string.char(tonumber(pair, 16)) end)
    :gsub("\r\n", "\n"))
end
return M
