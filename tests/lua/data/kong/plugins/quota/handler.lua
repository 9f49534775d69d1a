-- Counts requests, in the memory of the node or in Redis, and answers 429 beyond a limit.
local redis = require "resty.redis"

local Quota = { VERSION = "2.0.0", PRIORITY = 900 }

local function count_locally(conf, key)
  return ngx.shared.quota:incr(key, 1, 0, conf.window)
end

local function count_in_redis(conf, key)
  local client = redis:new()
  client:set_timeouts(1000, 1000, 1000)
  local ok, err = client:connect(conf.redis.host, conf.redis.port)
  if not ok then
    return nil, err
  end
  client:init_pipeline()
  client:incr(key)
  client:expire(key, conf.window)
  local results, fault = client:commit_pipeline()
  if not results then
    return nil, fault
  end
  client:set_keepalive(10000, 10)
  return results[1]
end

function Quota:access(conf)
  local key = conf.prefix .. ":" .. kong.client.get_forwarded_ip()
  local count, err = (conf.policy == "redis" and count_in_redis or count_locally)(conf, key)
  if not count then
    kong.log.err("cannot count: ", err)
    return kong.response.error(503, "counters are away")
  end
  kong.response.set_header("X-Quota-Remaining", math.max(0, conf.limit - count))
  if count > conf.limit then
    return kong.response.exit(429, { message = "quota exceeded" })
  end
end

return Quota
