return { add_header = ngx.resp.add_header, get_headers = ngx.resp.get_headers }
