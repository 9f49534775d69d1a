"""The checks behind `kong.db.schema.typedefs`: those of `headgate.schema`, as Lua functions.

Owns which check stands behind which name; the definitions themselves are in `library/kong/db/schema/typedefs.lua`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.entities.route_paths import route_path_fault
from headgate.errors import GatewayError
from headgate.schema import addresses, pem, texts

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

CHECKS: dict[str, Callable[[str], str | None]] = {
    "host": addresses.host_fault,
    "host_with_optional_port": addresses.host_with_optional_port_fault,
    "route_host": addresses.route_host_fault,
    "route_path": route_path_fault,
    "wildcard_host": addresses.wildcard_host_fault,
    "sni": addresses.sni_fault,
    "ip": addresses.ip_fault,
    "ip_or_cidr": addresses.ip_or_cidr_fault,
    "cidr_v4": addresses.cidr_v4_fault,
    "path": texts.path_fault,
    "url": texts.url_fault,
    "header_name": texts.header_name_fault,
    "cookie_name": texts.cookie_name_fault,
    "utf8_name": texts.utf8_name_fault,
    "name": texts.ascii_name_fault,
    "tag": texts.tag_fault,
    "certificate": pem.certificate_fault,
    "key": pem.private_key_fault,
}


def install(vm: "Vm") -> None:
    """Make the checks available to typedefs.lua."""
    from headgate.lua.errors import LuaSyntaxError

    def checked(check: Callable[[str], str | None]) -> Callable[..., Any]:
        def run(value: Any) -> Any:
            return _verdict(vm, check(vm.values.from_lua(value)))

        return run

    def lua_code(source: str) -> str | None:
        try:
            vm.compile(source, source)
        except (LuaSyntaxError, GatewayError) as error:
            return f"Error parsing function: {error}"
        return None

    table = vm.table(**{name: vm.bridge.raw(checked(check)) for name, check in CHECKS.items()})
    table["pem"] = vm.bridge.raw(lambda pair: _verdict(vm, pem.pair_fault(vm.values.from_lua(pair))))
    table["jwk"] = vm.bridge.raw(lambda jwk: _verdict(vm, pem.jwk_fault(vm.values.from_lua(jwk))))
    table["lua_code"] = vm.bridge.raw(checked(lua_code))
    vm.globals["package"]["loaded"]["headgate.checks"] = table


def _verdict(vm: "Vm", fault: str | None) -> Any:
    return True if fault is None else (None, vm.values.to_lua(fault))
