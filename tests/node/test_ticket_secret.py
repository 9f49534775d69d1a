"""The secret of session tickets moves on with time and cannot go back."""

from headgate.node.ticket_secret import SECRET_BYTES, TicketSecret, TicketState, derived


def test_secret_stays_within_a_period_and_moves_on_after_it() -> None:
    secret = TicketSecret(100, now=1000)
    first = secret.state(now=1099)
    assert first == secret.state(now=1000)
    assert first.period == 10
    later = secret.state(now=1300)
    assert later.period == 13
    assert later.secret == derived(derived(derived(bytes.fromhex(first.secret)))).hex()
    assert secret.state(now=1000) == later, "a clock that goes back brings no old secret back"


def test_derivation_is_that_of_the_engine() -> None:
    # The same value stands in the tests of crates/engine/src/tls/sessions.rs.
    assert derived(b"\x07" * SECRET_BYTES).hex() == "da8d92982995cfc695d5bf0aee71e67be0d4b328f6a11d8231635d2ca8a7496f"


def test_every_node_has_a_secret_of_its_own() -> None:
    states = {TicketSecret(100, now=0).state(now=0) for _ in range(3)}
    assert len(states) == 3
    assert all(isinstance(state, TicketState) and len(state.secret) == 2 * SECRET_BYTES for state in states)
