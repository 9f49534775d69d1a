"""One contract version, whoever is asked."""

from headgate.pdk import kong
from headgate.version import CONTRACT_VERSION


def test_plugins_and_clients_see_the_same_contract_version() -> None:
    assert kong.version == CONTRACT_VERSION
