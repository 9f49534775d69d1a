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


def parse_stream(text: str) -> tuple[Listener, ...]:
    return ListenerArray(is_for_streams=True).parse("stream_listen", text)


def test_flags_of_streams_are_read() -> None:
    tcp, tls, udp = parse_stream(
        "0.0.0.0:9000 reuseport backlog=7 bind, 0.0.0.0:9443 ssl proxy_protocol, [::]:5353 udp ipv6only=on"
    )
    assert (tcp.is_reuseport, tcp.backlog, tcp.is_udp, tcp.is_ssl) == (True, 7, False, False)
    assert (tls.is_ssl, tls.is_proxy_protocol) == (True, True)
    # Datagrams of one client must reach one worker.
    assert (udp.is_udp, udp.is_reuseport) == (True, True)


@pytest.mark.parametrize("flag", ["http2", "deferred", "transparent", "fast"])
def test_other_flags_of_streams_are_refused_with_the_form(flag: str) -> None:
    with pytest.raises(ValueError, match=r"^stream_listen must be of form: .* \[ssl\] \[udp\] \[proxy_protocol\]"):
        parse_stream(f"0.0.0.0:9000 {flag}")


@pytest.mark.parametrize("flags", ["udp ssl", "udp proxy_protocol", "udp backlog=5", "so_keepalive=on udp"])
def test_what_datagrams_do_not_have_is_refused(flags: str) -> None:
    with pytest.raises(ValueError, match="with udp there is no ssl, proxy_protocol, backlog or so_keepalive"):
        parse_stream(f"0.0.0.0:9000 {flags}")


def test_udp_is_for_streams_only() -> None:
    with pytest.raises(ValueError, match="proxy_listen must be of form"):
        parse("0.0.0.0:8000 udp")


def test_an_address_in_two_settings_is_a_fault_but_tcp_and_udp_are_two_addresses() -> None:
    one = parse("0.0.0.0:8000")
    other = ListenerArray().parse("admin_listen", "0.0.0.0:8000")
    stream = parse_stream("0.0.0.0:9000, 0.0.0.0:9000 udp")
    faults = list(Listeners(proxy_listen=one, admin_listen=other, status_listen=(), stream_listen=stream).check())
    assert faults == ["admin_listen: 0.0.0.0:8000 is also an address of proxy_listen"]


def test_the_apis_take_no_proxy_protocol() -> None:
    admin = ListenerArray().parse("admin_listen", "0.0.0.0:8001 proxy_protocol")
    (fault,) = Listeners(proxy_listen=(), admin_listen=admin, status_listen=(), stream_listen=()).check()
    assert "proxy_protocol is for proxy_listen and stream_listen" in fault
