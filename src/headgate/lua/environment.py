"""What Lua code finds as globals: `kong` and `ngx`, and the libraries of OpenResty that are always there."""

from typing import TYPE_CHECKING

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
    vm.require("headgate.standard")
    typedefs.install(vm)
