"""What goes wrong in Lua code, as Python exceptions with the place in the Lua source."""

import re

from headgate.errors import GatewayError

_PLACE = re.compile(r"\A(?P<file>[^\n:]+):(?P<line>\d+): ")


class LuaFaultError(GatewayError):
    """Lua code raised. `place`: (file, line) of the Lua source, None where the text has none; `trace`: Lua's stack."""

    def __init__(self, text: str, trace: str = "") -> None:
        found = _PLACE.match(text)
        self.place: tuple[str, int] | None = (found["file"], int(found["line"])) if found else None
        self.trace = trace
        super().__init__(text)


class LuaBudgetError(LuaFaultError):
    """Sandboxed code took more instructions or memory than it may."""


class LuaSyntaxError(GatewayError):
    """Lua source does not compile; the text is the compiler's."""
