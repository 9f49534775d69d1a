"""kong.client, kong.router."""

from typing import Any

import pytest

from headgate.pdk import ProtocolError, kong
from headgate.pdk.client import TokenError
from headgate.testing import Request
from tests.pdk.calls import continued, phase

ANNA = {"id": "5d5a5a6e-9c41-4c36-9f0b-5f6a9c3c7c11", "username": "anna"}
GROUPS = [{"id": "1", "name": "silver"}, {"id": "2", "name": "gold"}]
ENTITIES: dict[str, list[dict[str, Any]]] = {
    "consumers": [ANNA],
    "consumer_groups": GROUPS,
    "consumer_group_consumers": [
        {"consumer": {"id": ANNA["id"]}, "consumer_group": {"id": one["id"]}} for one in GROUPS
    ],
}


def test_the_vpc_endpoint_is_what_the_balancer_named() -> None:
    with phase("access", Request(aws_vpce_id="vpce-08d2bf15fac5001c9")):
        assert kong.client.get_aws_vpce_id() == "vpce-08d2bf15fac5001c9"
    with phase("access"):
        assert kong.client.get_aws_vpce_id() is None


def test_authenticate_sets_consumer_credential_and_groups_by_name() -> None:
    with phase("access", entities=ENTITIES):
        kong.client.authenticate(ANNA, {"id": "k"})
        assert kong.client.get_consumer() is ANNA
        assert kong.client.get_credential() == {"id": "k"}
        assert [group["name"] for group in kong.client.get_consumer_groups() or ()] == ["gold", "silver"]
        kong.client.authenticate(None, {"id": "k"})
        assert kong.client.get_consumer() is None
        assert kong.client.get_consumer_groups() is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("anna",), "consumer must be a table or nil"),
        ((None, "key"), "credential must be a table or nil"),
        ((), "either credential or consumer must be provided"),
    ],
)
def test_wrong_arguments_of_authenticate(arguments: tuple[Any, ...], text: str) -> None:
    with phase("access"), pytest.raises((TypeError, ValueError)) as caught:
        kong.client.authenticate(*arguments)
    assert str(caught.value) == text


def test_consumers_are_loaded_by_id_and_when_wanted_by_name() -> None:
    with phase("access", entities=ENTITIES):
        assert kong.client.load_consumer(ANNA["id"]) == ANNA
        assert kong.client.load_consumer("anna", True) == ANNA
        assert kong.client.load_consumer("bert", True) is None
        assert kong.client.load_consumer("5d5a5a6e-9c41-4c36-9f0b-000000000000") is None
        with pytest.raises(ValueError, match=r"^cannot load a consumer with an id that is not a uuid$"):
            kong.client.load_consumer("anna")
        with pytest.raises(TypeError, match=r"^consumer_id must be a string$"):
            kong.client.load_consumer(None)  # type: ignore[arg-type]


def test_groups_can_be_set_appended_and_cleared() -> None:
    with phase("access"):
        kong.client.set_authenticated_consumer_groups([GROUPS[0]])
        kong.client.set_authenticated_consumer_groups([GROUPS[1]], {"mode": "append"})
        assert [group["name"] for group in kong.client.get_consumer_groups() or ()] == ["gold", "silver"]
        kong.client.set_authenticated_consumer_groups(None)
        assert kong.client.get_consumer_groups() is None


def test_groups_are_looked_up_for_a_consumer_only_when_none_are_set() -> None:
    with phase("access", entities=ENTITIES):
        kong.client.authenticate_consumer_group_by_consumer_id(None)
        assert kong.client.get_consumer_groups() is None
        kong.client.authenticate_consumer_group_by_consumer_id(ANNA["id"])
        assert len(kong.client.get_consumer_groups() or ()) == 2


@pytest.mark.parametrize(
    ("request_", "protocols", "expected"),
    [
        (Request(), ["grpc"], "grpc"),
        (Request(scheme="https"), ["http", "https"], "https"),
        (Request(), ["http", "https"], "http"),
        (Request(is_trusted=True, headers={"X-Forwarded-Proto": "HTTPS"}), ["http", "https"], "https"),
        (Request(headers={"X-Forwarded-Proto": "https"}), ["http", "https"], "http"),
    ],
)
def test_the_protocol_of_the_request(request_: Request, protocols: list[str], expected: str) -> None:
    with phase("access", request_, route={"protocols": protocols}):
        assert kong.client.get_protocol(True) == expected


def test_two_forwarded_protocols_or_no_route_have_no_protocol() -> None:
    with phase("access", Request(is_trusted=True, headers={"X-Forwarded-Proto": ["http", "https"]})) as exchange:
        with pytest.raises(ProtocolError, match=r"^Only one X-Forwarded-Proto header allowed$"):
            kong.client.get_protocol(True)
        exchange.route_index = None
        with pytest.raises(ProtocolError, match=r"^No active route found$"):
            kong.client.get_protocol()
        assert kong.router.get_route() is None


def test_route_and_service_are_the_entities() -> None:
    with phase("access", route={"name": "r"}, service={"name": "s"}):
        assert (kong.router.get_route() or {})["name"] == "r"
        assert (kong.router.get_service() or {})["name"] == "s"
    with phase("access"):
        assert kong.router.get_service() is None


def test_the_single_group_forms_see_the_first_group() -> None:
    with phase("access"):
        assert kong.client.get_consumer_group() is None
        kong.client.set_authenticated_consumer_groups([{"id": "2", "name": "b"}, {"id": "1", "name": "a"}])
        assert kong.client.get_consumer_group() == {"id": "1", "name": "a"}
        kong.client.set_authenticated_consumer_group({"id": "3", "name": "c"})
        assert kong.client.get_consumer_groups() == [{"id": "3", "name": "c"}]
        kong.client.set_authenticated_consumer_group()
        assert kong.client.get_consumer_groups() is None
        with pytest.raises(TypeError, match="consumer group must be a table or nil"):
            kong.client.set_authenticated_consumer_group("c")  # type: ignore[arg-type]


def test_a_stored_token_is_there_for_later_plugins_and_can_be_looked_into() -> None:
    with phase("access") as exchange:
        with pytest.raises(TokenError, match="no token is stored"):
            kong.client.get_jwt_token_header()
        kong.client.set_token("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0.")
    with continued(exchange, "log"):
        assert kong.client.get_jwt_token_header() == {"alg": "none"}
        assert kong.client.get_jwt_token_payload() == {"sub": "anna"}
        for wrong in ("opaque", "!.a.b", "W10.W10.x"):
            kong.client.set_token(wrong)
            assert kong.client.get_token() == wrong
            with pytest.raises(TokenError):
                kong.client.get_jwt_token_header()
        kong.client.set_token("")
        assert kong.client.get_token() is None
        with pytest.raises(TypeError, match="token must be a string or nil"):
            kong.client.set_token(1)  # type: ignore[arg-type]
