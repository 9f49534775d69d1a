"""`kong.ip`."""

from headgate.pdk._node import node
from headgate.pdk._phase import any_phase


class Ip:
    """`kong.ip`."""

    __slots__ = ()

    @any_phase
    def is_trusted(self, address: str) -> bool:
        """Say whether an IP address is in the setting `trusted_ips`; False for text that is no address."""
        return node.is_trusted(address)


ip = Ip()
