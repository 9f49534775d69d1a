-- resty.sha512: digests, all at once or in pieces.
return require("headgate.digest")("sha512")
