"""The syntax of `*_listen`."""

import pytest

from headgate.config.listeners import KeepaliveProbes, Listener, ListenerArray, Listeners


def parse(text: str) -> tuple[Listener, ...]:
    return ListenerArray().parse("proxy_listen", text)


def test_off_as_first_entry_disables_all() -> None:
    assert parse("off") == ()
    assert parse("off, 0.0.0.0:8000") == ()


def test_flags_are_read() -> None:
    (listener,) = parse("[::]:8443 ssl http2 reuseport deferred bind backlog=5 ipv6only=off so_keepalive=30m::10")
    assert (listener.host, listener.port, listener.address) == ("::", 8443, "[::]:8443")
    assert (listener.is_ssl, listener.is_http2, listener.is_reuseport, listener.is_deferred) == (True,) * 4
    assert (listener.backlog, listener.is_ipv6_only) == (5, False)
    assert listener.keepalive == KeepaliveProbes(1800, None, 10)


@pytest.mark.parametrize("text", ["8000", "1.2.3.4", "host:99999", "1.2.3.4:80 fast", "1.2.3.4:80 backlog=x"])
def test_wrong_form_names_the_setting_and_the_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"^proxy_listen must be of form: \[off\] \| <ip>:<port> \[ssl\] \[http2\]"):
        parse(text)


def test_proxy_protocol_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="proxy_protocol is not available"):
        parse("0.0.0.0:8000 proxy_protocol")


def test_same_address_in_two_settings_and_stream_listeners_are_faults() -> None:
    one = parse("0.0.0.0:8000")
    other = ListenerArray().parse("admin_listen", "0.0.0.0:8000")
    stream = ListenerArray().parse("stream_listen", "0.0.0.0:9000")
    faults = list(Listeners(proxy_listen=one, admin_listen=other, status_listen=(), stream_listen=stream).check())
    assert faults == [
        "stream_listen: proxying TCP and UDP is not available in this release, set stream_listen = off",
        "admin_listen: 0.0.0.0:8000 is also an address of proxy_listen",
    ]
