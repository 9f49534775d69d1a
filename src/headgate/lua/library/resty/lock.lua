-- resty.lock: a lock of the node, in a shared dictionary.
local mt = { __index = {} }
local lock = mt.__index

function lock:new(dict_name, options)
  options = options or {}
  local dict = ngx.shared[dict_name]
  if dict == nil then
    return nil, "dictionary not found"
  end
  return setmetatable({
    dict = dict, exptime = options.exptime or 30, timeout = options.timeout or 5, step = options.step or 0.001,
    ratio = options.ratio or 2, max_step = options.max_step or 0.5,
  }, mt)
end

function lock:lock(key)
  if self.key then
    return nil, "locked"
  end
  local waited, step = 0, self.step
  while true do
    local ok, err = self.dict:add(key, true, self.exptime)
    if ok then
      self.key = key
      return waited
    elseif err ~= "exists" then
      return nil, err
    elseif waited >= self.timeout then
      return nil, "timeout"
    end
    local pause = math.min(step, self.max_step, self.timeout - waited)
    ngx.sleep(pause)
    waited, step = waited + pause, step * self.ratio
  end
end

function lock:unlock()
  if not self.key then
    return nil, "unlocked"
  end
  self.dict:delete(self.key)
  self.key = nil
  return 1
end

function lock:expire(seconds)
  if not self.key then
    return nil, "unlocked"
  end
  return self.dict:expire(self.key, seconds or self.exptime)
end

return lock
