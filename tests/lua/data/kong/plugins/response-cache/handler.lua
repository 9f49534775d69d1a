-- Keeps answers to GET in the node's memory.
local cjson = require "cjson.safe"

local ResponseCache = { VERSION = "1.0.0", PRIORITY = 100 }

function ResponseCache:access(conf)
  if kong.request.get_method() ~= "GET" then
    return
  end
  local key = ngx.md5(kong.request.get_path_with_query())
  local kept = ngx.shared.responses:get(key)
  if kept then
    local answer = cjson.decode(kept)
    return kong.response.exit(answer.status, ngx.decode_base64(answer.body), {
      ["Content-Type"] = answer.content_type, ["X-Cache"] = "hit",
    })
  end
  kong.ctx.plugin.key = key
  kong.response.set_header("X-Cache", "miss")
end

function ResponseCache:body_filter(conf)
  local ctx = kong.ctx.plugin
  if not ctx.key or kong.response.get_status() ~= 200 then
    return
  end
  local body = kong.response.get_raw_body()
  if body then
    ngx.shared.responses:set(ctx.key, cjson.encode({
      status = 200, body = ngx.encode_base64(body), content_type = kong.response.get_header("Content-Type"),
    }), conf.ttl)
  end
end

return ResponseCache
