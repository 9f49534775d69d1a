-- ngx.errlog: the level of the log; what a request has logged is not kept back, as without `lua_capture_error_log`.
local LEVELS = { debug = ngx.DEBUG, info = ngx.INFO, notice = ngx.NOTICE, warn = ngx.WARN, err = ngx.ERR, error = ngx.ERR,
  crit = ngx.CRIT, alert = ngx.ALERT, emerg = ngx.EMERG }
local M = {}
local NOT_SET = 'directive "lua_capture_error_log" is not set'
function M.set_filter_level() return nil, NOT_SET end
function M.get_logs() return nil, NOT_SET end
function M.get_sys_filter_level() return LEVELS[kong.configuration.log_level] or ngx.NOTICE end
M.get_errlog_level = M.get_sys_filter_level
function M.raw_log(level, text)
  if type(level) ~= "number" then
    error("bad argument #1 to 'raw_log' (number expected)", 2)
  end
  ngx.log(level, text)
end
return M
