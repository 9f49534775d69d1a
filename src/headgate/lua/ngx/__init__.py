"""`ngx` for Lua: the part of OpenResty's interface that plugins use.

Each module owns one part and gives its Python functions by name; `library/headgate/ngx.lua` lays them out as the table
`ngx`. What a request looks like comes from the engine's exchange, as for the PDK.
"""

from typing import TYPE_CHECKING, Any

from headgate.lua.ngx import codecs, process, regex, request, response, shared, sockets, times, variables

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

PARTS = (codecs, process, times, regex, variables, request, response, shared, sockets)


def install(vm: "Vm") -> Any:
    """Return the table `ngx`."""
    functions = vm.runtime.table()
    for part in PARTS:
        for name, function in part.functions(vm).items():
            functions[name] = function
    return vm.execute_library("ngx")(functions, vm.host)
