"""Syntax of single values."""

import pytest

from headgate.config.kinds import Boolean, Buffers, Networks, Number, PortMaps, Seconds, Size, Time


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("TRUE", True), ("yes", False), ("1", False), ("off", False)]
)
def test_only_on_and_true_are_true(text: str, value: bool) -> None:
    assert Boolean().parse("x", text) is value


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("8k", 8192), ("10M", 10 * 1024**2), ("1g", 1024**3)])
def test_sizes_are_binary_multiples(text: str, value: int) -> None:
    assert Size().parse("x", text) == value


@pytest.mark.parametrize(("text", "value"), [("60", 60_000), ("500ms", 500), ("2m", 120_000), ("1d", 86_400_000)])
def test_times_are_milliseconds_after_parsing(text: str, value: int) -> None:
    assert Time().parse("x", text) == value


def test_seconds_may_be_fractions() -> None:
    assert Seconds().parse("x", "0.5") == 500


def test_numbers_keep_their_bounds() -> None:
    with pytest.raises(ValueError, match=r"^x must be an integer between 1 and 1000$"):
        Number(1, 1000).parse("x", "1001")
    with pytest.raises(ValueError, match=r"^x is not a number: 'a'$"):
        Number().parse("x", "a")


def test_buffers_have_count_and_size() -> None:
    assert Buffers().parse("x", "4 8k") == (4, 8192)
    with pytest.raises(ValueError, match="number and a size"):
        Buffers().parse("x", "8k")


def test_networks_name_the_bad_entry() -> None:
    assert Networks().parse("trusted_ips", "10.1.2.3/8, ::1") == ("10.0.0.0/8", "::1/128")
    with pytest.raises(ValueError, match=r"^trusted_ips: 'home' is not a valid IP address or CIDR range$"):
        Networks().parse("trusted_ips", "home")


def test_port_maps_are_pairs() -> None:
    assert PortMaps().parse("port_maps", "80:8000, 443:8443") == ((80, 8000), (443, 8443))
    with pytest.raises(ValueError, match="invalid port mapping"):
        PortMaps().parse("port_maps", "80")
