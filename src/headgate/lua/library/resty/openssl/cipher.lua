-- resty.openssl.cipher: symmetric ciphers.
local native = require "headgate.openssl"
local objects = require "resty.openssl.objects"

local M = {}
local mt = { __index = M }

function M.new(name)
  local key_size, vector_size = native.cipher_sizes(name)
  if not key_size then
    return nil, "cipher.new: " .. tostring(vector_size)
  end
  return setmetatable({ algorithm = name, key_size = key_size, iv_size = vector_size }, mt)
end

function M.istype(object) return objects.is(mt, object) end

local function is_chacha(self)
  return tostring(self.algorithm):lower() == "chacha20-poly1305"
end

function M:init(key, iv, options)
  options = options or {}
  if is_chacha(self) then
    return false, "cipher:init: use encrypt or decrypt with " .. self.algorithm
  end
  local running, err = native.cipher_begin(self.algorithm, options.is_encrypt == true, key, iv, options.no_padding,
    self.aad, self.tag)
  if not running then
    return false, "cipher:init: " .. tostring(err)
  end
  objects.set(self, running)
  return true
end

-- What is authenticated, and the tag of what is to be decrypted: before `init`.
function M:update_aead_aad(text)
  self.aad = (self.aad or "") .. text
  return true
end
function M:set_aead_tag(tag)
  self.tag = tag
  return true
end
function M:get_aead_tag(size)
  if self.made_tag then
    return self.made_tag
  end
  return native.cipher_tag(objects.handle(self), size)
end

function M:update(...)
  local parts = {}
  for i = 1, select("#", ...) do
    local part, err = native.cipher_update(objects.handle(self), (select(i, ...)))
    if not part then
      return nil, "cipher:update: " .. tostring(err)
    end
    parts[i] = part
  end
  return table.concat(parts)
end

function M:final(last)
  local head = ""
  if last then
    local err
    head, err = self:update(last)
    if not head then
      return nil, err
    end
  end
  local rest, err = native.cipher_final(objects.handle(self))
  if not rest then
    return nil, "cipher:final: " .. tostring(err)
  end
  return head .. rest
end

function M:encrypt(key, iv, text, no_padding, aad)
  if is_chacha(self) then
    local sealed, tag = native.cipher_chacha(true, key, iv, text, aad)
    self.made_tag = sealed and tag or nil
    return sealed, not sealed and tag or nil
  end
  self.aad, self.tag, self.made_tag = aad, nil, nil
  local ok, err = self:init(key, iv, { is_encrypt = true, no_padding = no_padding })
  self.aad = nil
  if not ok then
    return nil, err
  end
  return self:final(text)
end

function M:decrypt(key, iv, text, no_padding, aad, tag)
  if is_chacha(self) then
    return native.cipher_chacha(false, key, iv, text, aad, tag)
  end
  self.aad, self.tag = aad, tag
  local ok, err = self:init(key, iv, { is_encrypt = false, no_padding = no_padding })
  self.aad, self.tag = nil, nil
  if not ok then
    return nil, err
  end
  return self:final(text)
end

return M
