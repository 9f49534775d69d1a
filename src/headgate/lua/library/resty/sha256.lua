-- resty.sha256: digests, all at once or in pieces.
return require("headgate.digest")("sha256")
