-- resty.sha384: digests, all at once or in pieces.
return require("headgate.digest")("sha384")
