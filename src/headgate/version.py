"""The two versions: of this program, and of the contract it keeps.

Clients of the Admin API (decK, ingress controllers) gate features by the contract's version, so `GET /` and
`kong.version` give that one; `headgate version`, `Server` and `Via` give the program's.
"""

from headgate import __version__ as VERSION  # noqa: N812

CONTRACT_VERSION = "3.9.1"
SERVER_TOKEN = f"headgate/{VERSION}"

__all__ = ["CONTRACT_VERSION", "SERVER_TOKEN", "VERSION"]
