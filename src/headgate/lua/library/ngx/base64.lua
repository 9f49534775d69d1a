-- ngx.base64: the form of Base64 for URLs.
return {
  encode_base64url = function(text) return (ngx.encode_base64(text, true):gsub("%+", "-"):gsub("/", "_")) end,
  decode_base64url = function(text)
    local decoded = ngx.decode_base64((text:gsub("-", "+"):gsub("_", "/")))
    if not decoded then
      return nil, "invalid input"
    end
    return decoded
  end,
}
