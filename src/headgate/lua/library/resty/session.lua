-- resty.session: sessions of clients (the interface of version 4), sealed into cookies or kept by a storage.
--
-- Owns the form of the cookie, which is this library's own: base64url of nonce, tag and text, AES-256-GCM with a key made
-- of the secret and the cookie's name. A cookie of another form, or that was changed, is no session. What is too long for
-- one cookie goes on in `<name>2` and so on. With a storage the cookie holds who the session is, the storage its data,
-- sealed too.
local cjson = require "cjson.safe"
local native = require "headgate.native"
local ciphers = require "resty.openssl.cipher"
local type, tostring, pairs, ipairs, setmetatable, error = type, tostring, pairs, ipairs, setmetatable, error
local concat, time = table.concat, ngx.time

local M = { _VERSION = "4.0.5" }
local methods = {}
local mt = { __index = methods }

local PIECE_BYTES, MOST_PIECES = 4000, 9
local NONCE_BYTES, TAG_BYTES = 12, 16
local REFRESH_FROM = 0.75 -- of the time until a session has to be rolled

local defaults = {
  cookie_name = "session", cookie_path = "/", cookie_http_only = true, cookie_same_site = "Lax", audience = "default",
  idling_timeout = 900, rolling_timeout = 3600, absolute_timeout = 86400, stale_ttl = 10, remember = false,
  remember_cookie_name = "remember", remember_rolling_timeout = 604800, remember_absolute_timeout = 2592000,
  storage = "cookie",
}
local own_secret

local function encode(text) return (ngx.encode_base64(text, true):gsub("%+", "-"):gsub("/", "_")) end
local function decode(text) return ngx.decode_base64((text:gsub("-", "+"):gsub("_", "/"))) end

local function key_of(secret, name) return native.hmac("sha256", secret, "session " .. name) end

local function seal(secret, name, text)
  local nonce = native.random(NONCE_BYTES)
  local engine = ciphers.new("aes-256-gcm")
  local sealed = engine:encrypt(key_of(secret, name), nonce, text, false, name)
  return encode(nonce .. engine:get_aead_tag(TAG_BYTES) .. sealed)
end

local function unseal(secrets, name, text)
  local raw = decode(text)
  if not raw or #raw < NONCE_BYTES + TAG_BYTES then
    return nil
  end
  local nonce, tag = raw:sub(1, NONCE_BYTES), raw:sub(NONCE_BYTES + 1, NONCE_BYTES + TAG_BYTES)
  for _, secret in ipairs(secrets) do
    local plain = ciphers.new("aes-256-gcm"):decrypt(key_of(secret, name), nonce,
      raw:sub(NONCE_BYTES + TAG_BYTES + 1), false, name, tag)
    if plain then
      return plain
    end
  end
  return nil
end

-- Cookies ----------------------------------------------------------------------------------------------------------------
local function piece_name(name, position) return position == 1 and name or name .. position end

local function read_cookie(name)
  local pieces = {}
  for position = 1, MOST_PIECES do
    local piece = ngx.var["cookie_" .. piece_name(name, position)]
    if not piece or piece == "" then
      break
    end
    pieces[position] = piece
  end
  return concat(pieces), #pieces
end

local function attributes(self, is_remembered)
  local options = self.options
  local text = "; Path=" .. options.cookie_path
  if options.cookie_domain and options.cookie_domain ~= "localhost" and options.cookie_domain ~= "" then
    text = text .. "; Domain=" .. options.cookie_domain
  end
  if is_remembered then
    text = text .. "; Max-Age=" .. options.remember_rolling_timeout
  end
  if options.cookie_same_site then
    text = text .. "; SameSite=" .. options.cookie_same_site
  end
  local is_secure = options.cookie_secure
  if is_secure == nil then
    is_secure = ngx.var.scheme == "https"
  end
  if is_secure then
    text = text .. "; Secure"
  end
  if options.cookie_http_only then
    text = text .. "; HttpOnly"
  end
  if options.cookie_partitioned then
    text = text .. "; Partitioned"
  end
  return text
end

-- Sets a cookie of the answer, in the place of an earlier one of that name.
local function set_cookie(name, text)
  local present = ngx.header["Set-Cookie"]
  local kept = {}
  for _, line in ipairs(type(present) == "table" and present or { present }) do
    if line:sub(1, #name + 1) ~= name .. "=" then
      kept[#kept + 1] = line
    end
  end
  kept[#kept + 1] = name .. "=" .. text
  ngx.header["Set-Cookie"] = kept
end

local function write_cookie(self, text, is_remembered)
  local count = math.ceil(#text / PIECE_BYTES)
  if count > MOST_PIECES then
    return nil, "session data is too big for cookies"
  end
  local options = attributes(self, is_remembered)
  for position = 1, count do
    local piece = text:sub((position - 1) * PIECE_BYTES + 1, position * PIECE_BYTES)
    set_cookie(piece_name(self.name, position), piece .. options)
  end
  for position = count + 1, self.pieces do
    set_cookie(piece_name(self.name, position), options .. "; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0")
  end
  self.pieces = count
  return true
end

-- Making ------------------------------------------------------------------------------------------------------------------
local function given(value) return value ~= nil and value ~= ngx.null end

local function secrets_of(options)
  local secrets = {}
  local first = options.secret or options.ikm
  if not given(first) then
    if not own_secret then
      own_secret = native.random(32)
      ngx.log(ngx.WARN, "sessions without a secret are known to one worker only, until it ends")
    end
    first = own_secret
  end
  secrets[1] = tostring(first)
  for _, one in ipairs(options.secret_fallbacks or options.ikm_fallbacks or {}) do
    secrets[#secrets + 1] = tostring(one)
  end
  return secrets
end

local function storage_of(options)
  local storage = options.storage
  if storage == nil or storage == ngx.null or storage == "cookie" then
    return nil
  elseif type(storage) == "table" then
    return storage
  end
  local found, module = pcall(require, "resty.session." .. tostring(storage))
  if not found then
    found, module = pcall(require, tostring(storage))
  end
  if not found then
    error("unable to load the session storage '" .. tostring(storage) .. "'", 4)
  end
  return module.new and module.new(options[storage] or {}) or module
end

local function new(configuration)
  local options = {}
  for name, value in pairs(defaults) do
    options[name] = value
  end
  for name, value in pairs(configuration or {}) do
    if value ~= ngx.null then
      options[name] = value
    end
  end
  local audience = options.audience
  return setmetatable({
    options = options, name = options.cookie_name, secrets = secrets_of(options), storage = storage_of(options),
    pieces = 0, state = "new", audiences = { [audience] = { data = {}, subject = options.subject } }, audience = audience,
    is_remembered = options.remember == true,
  }, mt)
end

function M.init(configuration)
  for name, value in pairs(configuration or {}) do
    defaults[name] = value
  end
  return true
end
function M.new(configuration) return new(configuration) end

-- Opening -----------------------------------------------------------------------------------------------------------------
local function limits(self)
  local options = self.options
  if self.is_remembered then
    return 0, options.remember_rolling_timeout, options.remember_absolute_timeout
  end
  return options.idling_timeout, options.rolling_timeout, options.absolute_timeout
end

local function over(self, now)
  local idling, rolling, absolute = limits(self)
  if absolute > 0 and now - self.created > absolute then
    return "session absolute timeout exceeded"
  elseif rolling > 0 and now - self.rolled > rolling then
    return "session rolling timeout exceeded"
  elseif idling > 0 and now - self.touched > idling then
    return "session idling timeout exceeded"
  end
end

function methods:open()
  local text, pieces = read_cookie(self.name)
  if pieces == 0 then
    return nil, "missing session cookie"
  end
  self.pieces = pieces
  local plain = unseal(self.secrets, self.name, text)
  local kept = plain and cjson.decode(plain)
  if type(kept) ~= "table" then
    return nil, "invalid session cookie"
  end
  self.id, self.created, self.rolled, self.touched = kept.id, kept.created, kept.rolled, kept.touched
  self.is_remembered = kept.remembered == true
  local fault = over(self, time())
  if fault then
    return nil, fault
  end
  local audiences = kept.audiences
  if self.storage then
    local sealed, err = self.storage:get(self.name, self.id, time())
    if not sealed then
      return nil, err or "session not found"
    end
    plain = unseal(self.secrets, self.name, sealed)
    audiences = plain and cjson.decode(plain)
    if type(audiences) ~= "table" then
      return nil, "invalid session data"
    end
  end
  if not audiences[self.audience] then
    audiences[self.audience] = { data = {} }
    self.audiences = audiences
    return nil, "missing session audience"
  end
  self.audiences, self.state = audiences, "open"
  return true
end

function M.open(configuration)
  local session = new(configuration)
  local ok, err = session:open()
  return session, err, ok == true
end

-- Opens a session and keeps it alive: rolled when its time is nearly over, touched when it was long idle.
function M.start(configuration)
  local session, err, exists = M.open(configuration)
  if not exists then
    return session, err, false, false
  end
  local ok
  ok, err = session:refresh()
  return session, err, true, ok == true
end

-- Saving ------------------------------------------------------------------------------------------------------------------
local function write(self)
  local kept = { id = self.id, created = self.created, rolled = self.rolled, touched = self.touched,
    remembered = self.is_remembered or nil }
  if not self.storage then
    kept.audiences = self.audiences
  end
  return write_cookie(self, seal(self.secrets[1], self.name, cjson.encode(kept)), self.is_remembered)
end

local function store(self, old_id)
  if not self.storage then
    return true
  end
  local _, rolling = limits(self)
  local text = seal(self.secrets[1], self.name, cjson.encode(self.audiences))
  return self.storage:set(self.name, self.id, text, rolling, time(), old_id, self.options.stale_ttl, nil,
    self.is_remembered)
end

function methods:save()
  local now, old_id = time(), self.id
  self.id = encode(native.random(32))
  self.created, self.rolled, self.touched = self.created or now, now, now
  local ok, err = store(self, self.state == "open" and old_id or nil)
  if not ok then
    return nil, err
  end
  self.state = "open"
  return write(self)
end
function methods:touch()
  if self.state ~= "open" then
    return nil, "unable to touch nonexistent session"
  end
  self.touched = time()
  return write(self)
end
function methods:refresh()
  if self.state ~= "open" then
    return nil, "unable to refresh nonexistent session"
  end
  local now = time()
  local idling, rolling = limits(self)
  if rolling > 0 and now - self.rolled > rolling * REFRESH_FROM then
    return self:save()
  elseif idling > 0 and now - self.touched > math.min(60, idling / 2) then
    local ok, err = self:touch()
    return ok and false, err
  end
  return false
end

function methods:destroy()
  if self.storage and self.id then
    self.storage:delete(self.name, self.id, time())
  end
  self.audiences, self.state = { [self.audience] = { data = {} } }, "destroyed"
  local text = attributes(self, false) .. "; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"
  for position = 1, math.max(1, self.pieces) do
    set_cookie(piece_name(self.name, position), text)
  end
  self.id, self.created, self.pieces = nil, nil, 0
  return true
end
-- Leaves the session of this audience; the last one ends it.
function methods:logout()
  self.audiences[self.audience] = nil
  if next(self.audiences) == nil then
    self.audiences[self.audience] = { data = {} }
    return self:destroy()
  end
  local ok, err = self:save()
  self.state = "closed"
  return ok, err
end
function methods:close() self.state = "closed" end

function M.destroy(configuration)
  local session, err, exists = M.open(configuration)
  if not exists then
    return nil, err, false, false
  end
  local ok
  ok, err = session:destroy()
  return ok, err, true, ok == true
end
function M.logout(configuration)
  local session, err, exists = M.open(configuration)
  if not exists then
    return nil, err, false, false
  end
  local ok
  ok, err = session:logout()
  return ok, err, true, ok == true
end

-- Members -----------------------------------------------------------------------------------------------------------------
local function current(self) return self.audiences[self.audience] end

function methods:get_data() return current(self).data end
function methods:set_data(data)
  if type(data) ~= "table" then
    error("invalid session data", 2)
  end
  current(self).data = data
end
function methods:get(key) return current(self).data[key] end
function methods:set(key, value) current(self).data[key] = value end
function methods:get_subject() return current(self).subject end
function methods:set_subject(subject) current(self).subject = subject end
function methods:get_audience() return self.audience end
function methods:set_audience(audience)
  self.audiences[audience] = self.audiences[audience] or current(self)
  if audience ~= self.audience then
    self.audiences[self.audience] = nil
  end
  self.audience = audience
end
function methods:get_remember() return self.is_remembered end
function methods:set_remember(value) self.is_remembered = value == true end
function methods:get_property(name)
  local now = time()
  local idling, rolling, absolute = limits(self)
  if name == "id" or name == "nonce" then
    return self.id
  elseif name == "audience" then
    return self.audience
  elseif name == "subject" then
    return current(self).subject
  elseif not self.created then
    return nil
  end
  local left = {
    ["idling-timeout"] = idling > 0 and idling - (now - self.touched) or nil,
    ["rolling-timeout"] = rolling > 0 and rolling - (now - self.rolled) or nil,
    ["absolute-timeout"] = absolute > 0 and absolute - (now - self.created) or nil,
  }
  if name == "timeout" then
    local least
    for _, one in pairs(left) do
      least = math.min(least or one, one)
    end
    return least
  end
  return left[name]
end

-- Takes the session out of what goes upstream.
function methods:clear_request_cookie()
  local header = ngx.req.get_headers()["cookie"]
  if type(header) == "table" then
    header = concat(header, "; ")
  end
  if not header then
    return
  end
  local own, kept = {}, {}
  for position = 1, MOST_PIECES do
    own[piece_name(self.name, position)] = true
  end
  for pair in header:gmatch("[^;]+") do
    local trimmed = pair:match("^%s*(.-)%s*$")
    if trimmed ~= "" and not own[trimmed:match("^([^=]*)")] then
      kept[#kept + 1] = trimmed
    end
  end
  if #kept == 0 then
    ngx.req.clear_header("Cookie")
  else
    ngx.req.set_header("Cookie", concat(kept, "; "))
  end
end

return M
