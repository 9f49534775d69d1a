return require "resty.sha1"
