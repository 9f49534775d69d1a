"""acl: who passes by group, and what the upstream is told."""

from typing import Any

import pytest

from headgate.plugins.acl import Handler
from tests.plugins.scene import Scene

ADA = {"id": "1b9d5a3e-0000-4000-8000-000000000001", "username": "ada"}
BOB = {"id": "1b9d5a3e-0000-4000-8000-000000000002", "username": "bob"}
CREDENTIAL = {"id": "1b9d5a3e-0000-4000-8000-00000000000c"}
FORBIDDEN = (403, "You cannot consume this service")
UNAUTHORIZED = (401, "Unauthorized")
ENTITIES: dict[str, list[dict[str, Any]]] = {
    "consumers": [ADA, BOB],
    "acls": [
        {"id": f"1b9d5a3e-0000-4000-8000-0000000000a{number}", "group": group, "consumer": {"id": ADA["id"]}}
        for number, group in enumerate(["staff", "admin"])
    ],
}


def play(config: dict[str, Any], **request: Any) -> Scene:
    return Scene(Handler, config, entities=ENTITIES, **request).access()


@pytest.mark.parametrize(
    ("config", "who", "outcome"),
    [
        ({"allow": ["staff"]}, {"consumer": ADA, "credential": CREDENTIAL}, None),
        ({"allow": ["other", "admin"]}, {"consumer": ADA, "credential": CREDENTIAL}, None),
        ({"allow": ["other"]}, {"consumer": ADA, "credential": CREDENTIAL}, FORBIDDEN),
        ({"deny": ["admin"]}, {"consumer": ADA, "credential": CREDENTIAL}, FORBIDDEN),
        ({"deny": ["other"]}, {"consumer": ADA, "credential": CREDENTIAL}, None),
        ({"allow": ["staff"]}, {"consumer": BOB, "credential": CREDENTIAL}, FORBIDDEN),
        ({"allow": ["staff"]}, {"consumer": BOB}, UNAUTHORIZED),
        ({"deny": ["staff"]}, {"consumer": BOB, "credential": CREDENTIAL}, None),
        ({"deny": ["staff"]}, {"consumer": BOB}, None),
        ({"allow": ["staff"]}, {}, UNAUTHORIZED),
        ({"deny": ["staff"]}, {}, UNAUTHORIZED),
        ({"allow": ["staff"]}, {"credential": CREDENTIAL}, FORBIDDEN),
        ({"allow": ["staff"]}, {"consumer": ADA}, None),
    ],
)
def test_membership_decides(config: dict[str, Any], who: dict[str, Any], outcome: tuple[int, str] | None) -> None:
    assert play(config, **who).refusal == outcome


def test_the_upstream_is_told_all_groups_of_the_consumer() -> None:
    played = play({"allow": ["staff"]}, consumer=ADA, credential=CREDENTIAL)
    assert played.sent("X-Consumer-Groups") == ["staff, admin"]


def test_groups_that_a_client_claims_are_removed() -> None:
    forged = [("X-Consumer-Groups", "root"), ("X-Authenticated-Groups", "root")]
    played = play({"allow": ["staff"], "hide_groups_header": True}, consumer=ADA, credential=CREDENTIAL, headers=forged)
    assert played.sent("X-Consumer-Groups") == []
    assert played.sent("X-Authenticated-Groups") == []
    played = play({"deny": ["staff"]}, consumer=BOB, credential=CREDENTIAL, headers=forged)
    assert played.sent("X-Consumer-Groups") == []


def test_authenticated_groups_count_without_a_credential() -> None:
    shared = {"authenticated_groups": ["ldap-users", "ldap-admins"]}
    played = play({"allow": ["ldap-users"]}, shared=shared)
    assert played.refusal is None
    assert played.sent("X-Authenticated-Groups") == ["ldap-users, ldap-admins"]
    assert played.sent("X-Consumer-Groups") == []
    assert play({"allow": ["other"]}, shared=shared).refusal == FORBIDDEN
    assert play({"deny": ["ldap-admins"]}, shared=shared).refusal == FORBIDDEN


def test_the_consumers_own_groups_win_over_authenticated_ones_unless_asked() -> None:
    shared = {"authenticated_groups": ["ldap-users"]}
    who = {"consumer": ADA, "credential": CREDENTIAL}
    assert play({"allow": ["ldap-users"]}, shared=shared, **who).refusal == FORBIDDEN
    config = {"allow": ["ldap-users"], "always_use_authenticated_groups": True}
    assert play(config, shared=shared, **who).refusal is None
    assert play({**config, "allow": ["staff"]}, **who).refusal is None
