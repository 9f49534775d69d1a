return require "resty.lrucache"
