-- kong.tools.timestamp: the starts of periods.
local M = {}
function M.get_utc() return math.floor(ngx.now() * 1000) end
M.get_utc_ms = M.get_utc
function M.get_timestamps(now)
  local at = os.date("!*t", math.floor((now or M.get_utc()) / 1000))
  local function start(fields)
    local base = { year = at.year, month = 1, day = 1, hour = 0, min = 0, sec = 0, isdst = false }
    for _, name in ipairs(fields) do
      base[name] = at[name]
    end
    local days = require("kong.tools.timestamp").days(base.year, base.month, base.day)
    return (days * 86400 + base.hour * 3600 + base.min * 60 + base.sec) * 1000
  end
  return {
    second = start { "month", "day", "hour", "min", "sec" }, minute = start { "month", "day", "hour", "min" },
    hour = start { "month", "day", "hour" }, day = start { "month", "day" }, month = start { "month" }, year = start {},
  }
end
-- Days since 1970 of a date in the Gregorian calendar.
function M.days(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
end
return M
