"""Names of the reference that have no effect in this program, each with what a user should know.

Owns the difference between "accepted with a notice" (harmless to ignore) and "refused" (ignoring it would be a lie
about security or data). A name in neither table and not a setting is unknown.
"""

_NO_NGINX = "there is no nginx here"
_NO_SUCH_OPTION = "connections to the database have no such option"
_NO_READS = "requests read snapshots, never the database"
_NO_GUI = "there is no graphical manager"
_ALWAYS_ON = "the engine decides this itself"

INERT = {
    "admin_error_log": "errors of the Admin API go to proxy_error_log",
    "status_error_log": "errors of the Status API go to proxy_error_log",
    "proxy_stream_error_log": "errors of streams go to proxy_error_log",
    "vaults": "the vault env is always there, there is no other",
    "anonymous_reports": "nothing is ever reported",
    "dedicated_config_processing": "the control process always does this",
    "privileged_worker": "the control process always does this",
    "request_debug": "request debugging is not available in this release",
    "request_debug_token": "request debugging is not available in this release",
    "kic": "ingress controllers need no special mode",
    "lmdb_environment_path": "the last posted configuration is kept in <prefix>/dbless.snapshot",
    "lmdb_map_size": "the kept configuration has no size limit of its own",
    "mem_cache_size": "snapshots replace the entity caches",
    "worker_consistency": "a changed configuration is live in all workers when the call returns",
    "router_consistency": "a changed configuration is live in all workers when the call returns",
    "worker_state_update_frequency": "a changed configuration is live in all workers when the call returns",
    "db_update_frequency": "changes and messages of other nodes are looked for every half second",
    "worker_events_max_payload": "events have a fixed bound",
    "dns_no_sync": "requests for one name always share one query",
    "new_dns_client": "there is one client; see dns_order",
    "resolver_family": "use dns_order",
    "resolver_mem_cache_size": _ALWAYS_ON,
    "ssl_dhparam": "the engine uses elliptic curves only",
    "lua_ssl_protocols": "TLSv1.2 and TLSv1.3 are offered to upstreams",
    "lua_package_cpath": "native Lua modules cannot be loaded",
    "lua_socket_pool_size": "setkeepalive bounds each pool",
    "openresty_path": _NO_NGINX,
    "nginx_user": "processes run as the user who starts them",
    "nginx_main_user": "processes run as the user who starts them",
    "nginx_daemon": "use headgate start --detach",
    "nginx_main_daemon": "use headgate start --detach",
    "proxy_server": "there is no link to a control plane",
    "proxy_server_ssl_verify": "there is no link to a control plane",
    "wasm_filters_path": "there are no Wasm filters",
    "wasm_filters": "there are no Wasm filters",
    "pluginserver_names": "external plugin servers are not available in this release",
}

INERT_PREFIXES = {
    "admin_gui_": _NO_GUI,
    "pg_": _NO_SUCH_OPTION,
    "db_": _NO_READS,
    "cluster_": "this node is not part of a cluster",
    "nginx_": _NO_NGINX,
    "pluginserver_": "external plugin servers are not available in this release",
}

REFUSED = {
    "nginx_http_ssl_protocols": "use ssl_cipher_suite or ssl_protocols instead",
    "nginx_http_deny": "access rules of nginx are not applied here; use the ip-restriction plugin",
    "nginx_http_allow": "access rules of nginx are not applied here; use the ip-restriction plugin",
}

REFUSED_UNLESS_OFF = {"wasm": "Wasm filters are not available"}


def reason_for(name: str) -> str | None:
    """Return why a known name has no effect; None when the name is not known."""
    if name in INERT:
        return INERT[name]
    return next((reason for prefix, reason in INERT_PREFIXES.items() if name.startswith(prefix)), None)
