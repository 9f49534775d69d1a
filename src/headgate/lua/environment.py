"""What Lua code finds as globals: `kong` and `ngx`, and the libraries of OpenResty that are always there."""

from typing import TYPE_CHECKING, Any

from headgate.lua import native, pdk, typedefs
from headgate.lua.ngx import install as install_ngx

if TYPE_CHECKING:
    from headgate.lua.vm import Vm


def install(vm: "Vm") -> None:
    """Set the globals of a new machine."""
    ngx = install_ngx(vm)
    vm.globals["ngx"] = ngx
    vm.globals["ndk"] = vm.table(set_var=vm.runtime.table())
    vm.globals["kong"] = pdk.install(vm)
    native.install(vm)
    vm.globals["package"]["preload"]["headgate.openssl"] = vm.bridge.raw(lambda *_: _openssl(vm))
    vm.require("headgate.standard")
    typedefs.install(vm)


def _openssl(vm: "Vm") -> Any:
    """Return the module behind `resty.openssl`, made when a plugin first asks: most ask for none of it."""
    from headgate.lua.openssl import install as install_openssl

    return install_openssl(vm)
