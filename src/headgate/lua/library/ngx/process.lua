return ngx.process
