-- Replaces a word in bodies, chunk by chunk put together.
local BodyRewrite = { VERSION = "1.0.0", PRIORITY = 790 }

function BodyRewrite:header_filter()
  kong.response.clear_header("Content-Length")
end

function BodyRewrite:body_filter(conf)
  local ctx = ngx.ctx
  local chunk, is_last = ngx.arg[1], ngx.arg[2]
  ctx.rewrite_buffer = (ctx.rewrite_buffer or "") .. (chunk or "")
  if is_last then
    ngx.arg[1] = (ngx.re.gsub(ctx.rewrite_buffer, conf.pattern, conf.replacement, "jo"))
  else
    ngx.arg[1] = nil
  end
end

return BodyRewrite
