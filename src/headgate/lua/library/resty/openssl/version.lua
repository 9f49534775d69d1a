-- resty.openssl.version: what the library behind it says of itself.
return { version_num = 0x30000000, version_text = "OpenSSL 3", OPENSSL_3X = true, OPENSSL_30 = true, BORINGSSL = false }
