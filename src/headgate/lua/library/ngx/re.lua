-- ngx.re: splitting texts at matches.
return {
  split = function(text, pattern, options, _, most)
    return ngx.re.split(text, pattern, options, most)
  end,
  opt = function() end,
}
