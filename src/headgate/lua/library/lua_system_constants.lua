-- lua_system_constants: flags and modes of files (POSIX, as Linux numbers them).
local VALUES = {
  O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 64, O_EXCL = 128, O_TRUNC = 512, O_APPEND = 1024,
  S_IRWXU = 448, S_IRUSR = 256, S_IWUSR = 128, S_IXUSR = 64, S_IRWXG = 56, S_IRGRP = 32, S_IWGRP = 16, S_IXGRP = 8,
  S_IRWXO = 7, S_IROTH = 4, S_IWOTH = 2, S_IXOTH = 1,
}
local M = {}
for name, value in pairs(VALUES) do
  M[name] = function() return value end
end
return M
