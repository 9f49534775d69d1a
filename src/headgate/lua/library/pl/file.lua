-- pl.file: files whole.
local utils = require "pl.utils"
return { read = utils.readfile, write = utils.writefile, delete = os.remove }
