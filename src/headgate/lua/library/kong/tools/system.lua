-- kong.tools.system: facts of the machine.
local M = {}
function M.get_system_infos()
  return { hostname = kong.node.get_hostname(), cores = ngx.worker.count(), uname = jit.os .. " " .. jit.arch }
end
function M.get_system_trusted_certs_filepath()
  for _, path in ipairs { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem" } do
    local file = io.open(path, "rb")
    if file then
      file:close()
      return path
    end
  end
  return nil, "Could not find trusted certs file in any of the predefined locations. Please install a certs file there "
    .. "or set `lua_ssl_trusted_certificate` to a specific file path instead of `system`"
end
return M
