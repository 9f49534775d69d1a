-- resty.md5: digests, all at once or in pieces.
return require("headgate.digest")("md5")
