-- resty.aes: AES with keys made of passwords (OpenSSL's EVP_BytesToKey) or given.
local native = require "headgate.native"
local ciphers = require "resty.openssl.cipher"
local M = { _VERSION = "0.14", hash = {} }
local mt = { __index = {} }

for _, name in ipairs { "md5", "sha1", "sha224", "sha256", "sha384", "sha512" } do
  M.hash[name] = name
end

function M.cipher(size, mode)
  size, mode = tonumber(size) or 128, (mode or "cbc"):lower()
  if (size ~= 128 and size ~= 192 and size ~= 256) or not ciphers.new("aes-" .. size .. "-" .. mode) then
    return nil
  end
  return { size = size, mode = mode, name = "aes-" .. size .. "-" .. mode }
end

-- Returns key and vector of a password: digests of the one before, the password and the salt, again and again.
local function derived(name, password, salt, rounds, key_size, vector_size)
  local made, last = "", ""
  while #made < key_size + vector_size do
    last = native.digest(name, last .. password .. salt)
    for _ = 2, rounds do
      last = native.digest(name, last)
    end
    made = made .. last
  end
  return made:sub(1, key_size), made:sub(key_size + 1, key_size + vector_size)
end

function M.new(_, key, salt, cipher, hash, rounds, vector_size, has_padding)
  cipher = cipher or M.cipher(128, "cbc")
  hash = hash or M.hash.md5
  local engine, err = ciphers.new(cipher.name)
  if not engine then
    return nil, err
  end
  local key_size = cipher.size / 8
  local vector
  if type(hash) == "table" then
    vector = hash.iv
    if hash.method then
      key = hash.method(key)
    end
    if #key ~= key_size then
      return nil, "bad key length"
    elseif vector and #vector > 16 then
      return nil, "bad iv length"
    end
    vector = vector or key:sub(1, engine.iv_size)
  else
    if salt and #salt ~= 8 then
      return nil, "salt must be 8 characters or nil"
    end
    key, vector = derived(hash, key, salt or "", rounds or 1, key_size, vector_size or engine.iv_size)
  end
  return setmetatable({ cipher = cipher, key = key, vector = vector, no_padding = has_padding == false }, mt)
end

function mt.__index:encrypt(text)
  local engine = ciphers.new(self.cipher.name)
  local sealed, err = engine:encrypt(self.key, self.vector, text, self.no_padding)
  if sealed and self.cipher.mode == "gcm" then
    return { sealed, engine:get_aead_tag(16) }
  end
  return sealed, err
end
function mt.__index:decrypt(text, tag)
  return ciphers.new(self.cipher.name):decrypt(self.key, self.vector, text, self.no_padding, nil, tag)
end

return M
