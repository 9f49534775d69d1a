return require "kong.tools.cjson"
