-- Calls functions of kong.db as a request asks for: `X-Call` is JSON with `entity`, `operation` and `arguments`.
local cjson = require "cjson.safe"

local kong, unpack = kong, unpack

local Shelf = { VERSION = "1.0.0", PRIORITY = 1200 }

function Shelf:access()
  local asked = cjson.decode(kong.request.get_header("X-Call") or "")
  if not asked then
    return
  end
  local dao = kong.db[asked.entity]
  if asked.operation == "each" then
    local names = {}
    for entity, err, page in dao:each(asked.arguments[1]) do
      names[#names + 1] = entity.name or entity.note
    end
    return kong.response.exit(200, { found = names })
  end
  local found, err, err_t, offset = dao[asked.operation](dao, unpack(asked.arguments))
  return kong.response.exit(200, { found = found, err = err, err_t = err_t, offset = offset })
end

return Shelf
