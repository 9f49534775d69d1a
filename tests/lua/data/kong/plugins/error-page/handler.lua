-- Puts a page of its own in the place of errors.
local ErrorPage = { VERSION = "1.0.0", PRIORITY = 780 }

function ErrorPage:header_filter()
  if kong.response.get_status() >= 500 then
    kong.response.set_header("Content-Type", "text/html; charset=utf-8")
    kong.response.clear_header("Content-Length")
    kong.ctx.plugin.is_error = true
  end
end

function ErrorPage:body_filter(conf)
  if not kong.ctx.plugin.is_error then
    return
  end
  kong.response.set_raw_body((conf.page:gsub("{{(%w+)}}", {
    status = tostring(kong.response.get_status()), path = ngx.escape_uri(kong.request.get_path(), 0),
  })))
end

return ErrorPage
