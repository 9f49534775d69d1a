-- kong.meta: the version whose contract plugins can expect.
local major, minor, patch = kong.version:match("^(%d+)%.(%d+)%.(%d+)")
return {
  _NAME = "kong", _VERSION = kong.version,
  _VERSION_TABLE = setmetatable({ major = tonumber(major), minor = tonumber(minor), patch = tonumber(patch) },
    { __tostring = function() return kong.version end }),
  version = kong.version, core_version = kong.version, _SERVER_TOKENS = "kong/" .. kong.version, _DEPENDENCIES = {},
}
