-- kong.db.schema.typedefs: shared field definitions. Calling one with a table gives a copy with other attributes.
local checks = require "headgate.checks"
local null = require("headgate.host").null
local ipairs, pairs, setmetatable, error, tostring = ipairs, pairs, setmetatable, error, tostring

local typedef_mt = {}
function typedef_mt.__call(definition, overrides)
  local copy = {}
  for key, value in pairs(definition) do
    copy[key] = value
  end
  for key, value in pairs(overrides or {}) do
    copy[key] = value
  end
  return setmetatable(copy, typedef_mt)
end

local typedefs = {}
local function define(name, definition)
  typedefs[name] = setmetatable(definition, typedef_mt)
end

local function text(check, more)
  local definition = more or {}
  definition.type = "string"
  definition.custom_validator = checks[check]
  return definition
end

local HTTP = { "grpc", "grpcs", "http", "https" }
local ALL = { "grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp", "ws", "wss" }

define("http_method", { type = "string", match = "^%u+$" })
define("protocol", { type = "string", one_of = ALL })
define("protocols", { type = "set", required = true, default = HTTP, elements = { type = "string", one_of = ALL } })
define("protocols_http", { type = "set", required = true, default = HTTP, elements = { type = "string", one_of = HTTP } })
define("host", text("host"))
define("redis_host", text("host"))
define("host_with_optional_port", text("host_with_optional_port"))
define("wildcard_host", text("wildcard_host"))
define("sni", text("sni"))
define("redis_server_name", text("sni"))
define("ip", text("ip"))
define("ip_or_cidr", text("ip_or_cidr"))
define("cidr_v4", text("cidr_v4"))
define("cidr", text("cidr_v4"))
define("port", { type = "integer", between = { 0, 65535 } })
define("path", text("path", { starts_with = "/",
  match_none = { { pattern = "//", err = "must not have empty segments" } } }))
define("url", text("url"))
define("header_name", text("header_name"))
define("cookie_name", text("cookie_name"))
define("timeout", { type = "integer", between = { 0, 2147483646 } })
define("uuid", { type = "string", uuid = true, auto = true })
define("auto_timestamp_s", { type = "integer", timestamp = true, auto = true })
define("auto_timestamp_ms", { type = "number", timestamp = true, auto = true })
define("no_route", { type = "foreign", reference = "routes", eq = null })
define("no_service", { type = "foreign", reference = "services", eq = null })
define("no_consumer", { type = "foreign", reference = "consumers", eq = null })
define("no_consumer_group", { type = "foreign", reference = "consumer_groups", eq = null })
define("name", text("name", { unique = true }))
define("utf8_name", text("utf8_name", { unique = true }))
define("tag", text("tag", { required = true }))
define("tags", { type = "set", elements = typedefs.tag })
define("certificate", text("certificate"))
define("key", text("key"))
define("methods", { type = "set", elements = typedefs.http_method })
define("hosts", { type = "array", elements = typedefs.wildcard_host })
-- A path of a route: a prefix, or an expression behind `~`.
define("router_path", { type = "string", match_any = { patterns = { "^/", "^~" },
  err = "should start with: / (fixed path) or ~/ (regex path)" } })
define("router_paths", { type = "array", elements = typedefs.router_path })
define("paths", { type = "array", elements = typedefs.router_path })
define("headers", { type = "map", keys = typedefs.header_name,
  values = { type = "array", elements = { type = "string" } } })
define("lua_code", { type = "map", keys = { type = "string", len_min = 1 },
  values = { type = "string", len_min = 1, custom_validator = checks.lua_code } })
define("semantic_version", { type = "string", match_any = { patterns = { "^%d+[%.%d]*$" },
    err = "invalid version number: must be in format of X.Y.Z" },
  match_none = { { pattern = "%.%.", err = "must not have empty version segments" } } })
define("queue", { type = "record", fields = {
  { max_batch_size = { type = "integer", default = 1, between = { 1, 1000000 } } },
  { max_coalescing_delay = { type = "number", default = 1, between = { 0, 3600 } } },
  { max_entries = { type = "integer", default = 10000, between = { 1, 1000000 } } },
  { max_bytes = { type = "integer" } },
  { max_retry_time = { type = "number", default = 60 } },
  { initial_retry_delay = { type = "number", default = 0.01, between = { 0.001, 1000000 } } },
  { max_retry_delay = { type = "number", default = 60, between = { 0.001, 1000000 } } },
  { concurrency_limit = { type = "integer", default = 1, one_of = { -1, 1 } } },
} })
local address = { type = "record", fields = { { ip = typedefs.ip_or_cidr }, { port = typedefs.port } },
  entity_checks = { { at_least_one_of = { "ip", "port" } } } }
define("sources", { type = "set", elements = address })
define("destinations", { type = "set", elements = address })
define("hosts", { type = "array", elements = text("route_host", {
  match_all = { { pattern = "^[^*]*%*?[^*]*$", err = "invalid wildcard: must have at most one wildcard" } },
  match_any = { patterns = { "^%*%.", "%.%*$", "^[^*]*$" },
    err = "invalid wildcard: must be placed at leftmost or rightmost label" } }) })
define("router_path", text("route_path", {
  match_none = { { pattern = "//", err = "must not have empty segments" } },
  match_any = { patterns = { "^/", "^~/" }, err = "should start with: / (fixed path) or ~/ (regex path)" } }))
define("router_paths", { type = "array", elements = typedefs.router_path })
define("no_sources", typedefs.sources { eq = null })
define("no_destinations", typedefs.destinations { eq = null })
define("no_methods", typedefs.methods { eq = null })
define("no_hosts", typedefs.hosts { eq = null })
define("no_paths", typedefs.router_paths { eq = null })
define("no_headers", typedefs.headers { eq = null })
define("capability", { type = "string" })

define("pem", { type = "record", required = false, fields = {
    { private_key = { type = "string", referenceable = true, encrypted = true } },
    { public_key = { type = "string", referenceable = true } },
  },
  entity_checks = { { at_least_one_of = { "private_key", "public_key" } } },
  custom_validator = checks.pem })

local JWK_TEXTS = { "issuer", "kty", "use", "alg", "x5u", "x5t", "x5t#S256", "x", "y", "crv", "n", "e" }
local JWK_SECRETS = { "k", "d", "p", "q", "dp", "dq", "qi", "r", "t" }
local function jwk_fields()
  local fields = { { kid = { type = "string", required = true } } }
  for _, name in ipairs(JWK_TEXTS) do
    fields[#fields + 1] = { [name] = { type = "string" } }
  end
  for _, name in ipairs(JWK_SECRETS) do
    fields[#fields + 1] = { [name] = { type = "string", referenceable = true, encrypted = true } }
  end
  for _, name in ipairs { "key_ops", "x5c", "oth" } do
    fields[#fields + 1] = { [name] = { type = "array", elements = { type = "string" } } }
  end
  return fields
end
define("jwk", { type = "record", required = false, fields = jwk_fields(), custom_validator = checks.jwk })

local EXTRACTED = { "ot", "w3c", "datadog", "b3", "gcp", "jaeger", "aws", "instana" }
local INJECTED = { "preserve", "ot", "w3c", "datadog", "b3", "b3-single", "gcp", "jaeger", "aws", "instana" }
local DEFAULTS = { "ot", "w3c", "datadog", "b3", "b3-single", "gcp", "jaeger", "aws", "instana" }
define("propagation", { type = "record", fields = {
  { extract = { type = "array", elements = { type = "string", one_of = EXTRACTED } } },
  { clear = { type = "array", elements = typedefs.header_name } },
  { inject = { type = "array", elements = { type = "string", one_of = INJECTED } } },
  { default_format = { type = "string", required = true, one_of = DEFAULTS } },
} })

return setmetatable(typedefs, {
  __index = function(_, name)
    error("schema typedef error: definition " .. tostring(name) .. " does not exist", 2)
  end,
})
