-- Lets those in who show a badge, which belongs to a consumer; badges are entities of the plugin.
local kong = kong

local BadgeAuth = { VERSION = "1.0.0", PRIORITY = 1300 }

local function load_badge(code)
  local badge, err = kong.db.badges:select_by_code(code)
  if err then
    return nil, err
  end
  return badge
end

function BadgeAuth:access(conf)
  local code = kong.request.get_header(conf.header)
  if not code then
    return kong.response.exit(401, { message = "no badge" })
  end
  local key = kong.db.badges:cache_key(code)
  local badge, err = kong.cache:get(key, nil, load_badge, code)
  if err then
    kong.log.err(err)
    return kong.response.exit(500, { message = "unexpected" })
  end
  if not badge then
    return kong.response.exit(401, { message = "unknown badge" })
  end
  local consumer = kong.client.load_consumer(badge.consumer.id)
  kong.client.authenticate(consumer, badge)
  kong.service.request.set_header("X-Badge-Level", tostring(badge.level))
  kong.service.request.set_header("X-Badge-Of", consumer.username)
  if conf.counts then
    local _, err_update = kong.db.badges:update({ id = badge.id }, { uses = badge.uses + 1 })
    if err_update then
      kong.log.err(err_update)
    end
  end
end

return BadgeAuth
