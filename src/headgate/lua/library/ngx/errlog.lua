return { get_errlog_level = function() return ngx.NOTICE end }
