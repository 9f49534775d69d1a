-- kong.tools.uuid: random UUIDs, and whether a text is one.
local native = require "headgate.native"
return { uuid = native.uuid, is_valid_uuid = native.is_uuid }
