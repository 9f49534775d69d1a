-- kong.tools.http: arguments encoded.
return {
  encode_args = function(arguments) return ngx.encode_args(arguments or {}) end,
  decode_args = function(text) return ngx.decode_args(text) end,
}
