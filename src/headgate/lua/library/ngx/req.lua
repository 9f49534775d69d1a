return { add_header = ngx.req.set_header, set_method = ngx.req.set_method }
