-- multipart: bodies of multipart/form-data taken apart, changed and put together (RFC 7578).
local setmetatable, tostring, type, ipairs = setmetatable, tostring, type, ipairs
local concat, remove = table.concat, table.remove
local mt = { __index = {} }
local body = mt.__index
local M = {}

local function boundary_of(content_type)
  if type(content_type) ~= "string" then
    return nil
  end
  return content_type:match('[Bb][Oo][Uu][Nn][Dd][Aa][Rr][Yy]="([^"]+)"')
    or content_type:match("[Bb][Oo][Uu][Nn][Dd][Aa][Rr][Yy]=([^;%s]+)")
end

local function part_of(text)
  local head, value = text:match("^(.-)\r\n\r\n(.*)$")
  if not head then
    head, value = text:match("^(.-)\n\n(.*)$")
  end
  if not head then
    return nil
  end
  local headers, name = {}, nil
  for line in (head .. "\n"):gmatch("(.-)\r?\n") do
    if line ~= "" then
      headers[#headers + 1] = line
      if line:lower():find("^content%-disposition:") then
        name = line:match('[; ]name="([^"]*)"') or line:match("[; ]name=([^;%s]+)")
      end
    end
  end
  return name and { name = name, headers = headers, value = value } or nil
end

local function parsed(text, boundary)
  local parts = {}
  if not boundary or text == "" then
    return parts
  end
  local mark = "--" .. boundary
  local position = select(2, text:find(mark, 1, true))
  while position do
    local after = position + 1
    if text:sub(after, after + 1) == "--" then
      break
    end
    local first = text:find("\n", after, true)
    local next_mark, next_end = text:find(mark, after, true)
    if not first or not next_mark then
      break
    end
    local part = part_of((text:sub(first + 1, next_mark - 1):gsub("\r?\n$", "")))
    if part then
      parts[#parts + 1] = part
    end
    position = next_end
  end
  return parts
end

-- Returns the first part of a name: { name, headers, value }.
function body:get(name)
  for _, part in ipairs(self.parts) do
    if part.name == name then
      return part
    end
  end
  return nil
end
function body:get_all()
  local found = {}
  for _, part in ipairs(self.parts) do
    found[part.name] = part.value
  end
  return found
end
function body:get_as_array(name)
  local found = {}
  for _, part in ipairs(self.parts) do
    if part.name == name then
      found[#found + 1] = part.value
    end
  end
  return found
end
function body:get_all_as_arrays()
  local found = {}
  for _, part in ipairs(self.parts) do
    found[part.name] = found[part.name] or {}
    table.insert(found[part.name], part.value)
  end
  return found
end
function body:get_all_with_arrays()
  local found = self:get_all_as_arrays()
  for name, values in pairs(found) do
    if #values == 1 then
      found[name] = values[1]
    end
  end
  return found
end

local function clean(text) return (tostring(text):gsub('[\r\n"]', "")) end

function body:set_simple(name, value, filename, content_type)
  local disposition = 'Content-Disposition: form-data; name="' .. clean(name) .. '"'
  if filename then
    disposition = disposition .. '; filename="' .. clean(filename) .. '"'
  end
  local part = { name = name, headers = { disposition }, value = value }
  if content_type then
    part.headers[2] = "Content-Type: " .. clean(content_type)
  end
  for i, one in ipairs(self.parts) do
    if one.name == name then
      self.parts[i] = part
      return
    end
  end
  self.parts[#self.parts + 1] = part
end
function body:delete(name)
  for i = #self.parts, 1, -1 do
    if self.parts[i].name == name then
      remove(self.parts, i)
    end
  end
end
function body:tostring()
  if #self.parts == 0 then
    return ""
  end
  local pieces = {}
  for _, part in ipairs(self.parts) do
    pieces[#pieces + 1] = "--" .. self.boundary .. "\r\n" .. concat(part.headers, "\r\n") .. "\r\n\r\n"
      .. tostring(part.value) .. "\r\n"
  end
  return concat(pieces) .. "--" .. self.boundary .. "--\r\n"
end
mt.__tostring = body.tostring

return setmetatable(M, {
  __call = function(_, text, content_type)
    local boundary = boundary_of(content_type)
    return setmetatable({ boundary = boundary or "boundary", parts = parsed(text or "", boundary) }, mt)
  end,
})
