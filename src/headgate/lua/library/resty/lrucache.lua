-- resty.lrucache: values of this worker, the least recently used goes first. A list through the entries keeps the order.
local mt = { __index = {} }
local cache = mt.__index
local M = {}

function M.new(size)
  if type(size) ~= "number" or size < 1 then
    error("size too small", 2)
  end
  local head = {}
  head.before, head.after = head, head
  return setmetatable({ size = size, used = 0, entries = {}, head = head }, mt)
end

local function unlink(entry)
  entry.before.after, entry.after.before = entry.after, entry.before
end
local function to_front(head, entry)
  entry.before, entry.after = head, head.after
  head.after.before = entry
  head.after = entry
end

function cache:get(key)
  local entry = self.entries[key]
  if entry == nil then
    return nil
  end
  unlink(entry)
  to_front(self.head, entry)
  if entry.expires and entry.expires < ngx.now() then
    return nil, entry.value, entry.flags
  end
  return entry.value, nil, entry.flags
end

function cache:set(key, value, ttl, flags)
  local entry = self.entries[key]
  if entry then
    unlink(entry)
  else
    if self.used >= self.size then
      local last = self.head.before
      unlink(last)
      self.entries[last.key] = nil
      self.used = self.used - 1
    end
    entry = { key = key }
    self.entries[key] = entry
    self.used = self.used + 1
  end
  entry.value, entry.flags = value, flags or 0
  entry.expires = ttl and ttl > 0 and ngx.now() + ttl or nil
  to_front(self.head, entry)
end

function cache:delete(key)
  local entry = self.entries[key]
  if entry then
    unlink(entry)
    self.entries[key] = nil
    self.used = self.used - 1
  end
end

function cache:count()
  return self.used
end
function cache:capacity()
  return self.size
end
function cache:get_keys(most)
  local keys, entry = {}, self.head.after
  while entry ~= self.head and (not most or most == 0 or #keys < most) do
    keys[#keys + 1] = entry.key
    entry = entry.after
  end
  return keys
end
function cache:flush_all()
  self.entries, self.used = {}, 0
  self.head.before, self.head.after = self.head, self.head
end

return M
