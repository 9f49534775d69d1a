"""key-auth: where the key is looked for, what is hidden, and the answers without a valid one."""

from typing import Any

import pytest

from headgate.plugins.key_auth import Handler
from tests.plugins.scene import Scene

ADA = {"id": "1b9d5a3e-0000-4000-8000-000000000001", "username": "ada", "custom_id": "a-1"}
GUEST = {"id": "1b9d5a3e-0000-4000-8000-000000000002", "username": "guest", "custom_id": None}
CREDENTIAL = {"id": "1b9d5a3e-0000-4000-8000-00000000000c", "key": "secret", "consumer": {"id": ADA["id"]}}
ENTITIES: dict[str, list[dict[str, Any]]] = {"consumers": [ADA, GUEST], "keyauth_credentials": [CREDENTIAL]}
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def scene(config: dict[str, Any] | None = None, **request: Any) -> Scene:
    return Scene(Handler, config or {}, entities=ENTITIES, **request)


def test_a_known_key_in_a_header_sets_consumer_and_headers() -> None:
    played = scene(headers=[("apikey", "secret"), ("X-Anonymous-Consumer", "true")]).access()
    assert played.answer is None
    assert played.consumer == ADA
    assert played.credential == CREDENTIAL
    assert played.sent("X-Consumer-ID") == [ADA["id"]]
    assert played.sent("X-Consumer-Username") == ["ada"]
    assert played.sent("X-Consumer-Custom-ID") == ["a-1"]
    assert played.sent("X-Credential-Identifier") == [CREDENTIAL["id"]]
    assert played.sent("X-Anonymous-Consumer") == []


def test_a_client_cannot_claim_to_be_a_consumer() -> None:
    guest_key = {**CREDENTIAL, "consumer": {"id": GUEST["id"]}}
    played = Scene(
        Handler,
        {},
        entities={"consumers": [GUEST], "keyauth_credentials": [guest_key]},
        headers=[("apikey", "secret"), ("X-Consumer-Custom-ID", "forged")],
    ).access()
    assert played.sent("X-Consumer-Custom-ID") == []


@pytest.mark.parametrize(
    ("config", "request_parts"),
    [
        ({}, {"target": "/?apikey=secret"}),
        ({"key_in_body": True}, {"method": "POST", "headers": [FORM], "body": b"apikey=secret"}),
        (
            {"key_in_body": True},
            {"method": "POST", "headers": [("Content-Type", "application/json")], "body": b'{"apikey":"secret"}'},
        ),
        ({"key_names": ["x_key"]}, {"headers": [("X-Key", "secret")]}),
        ({"key_names": ["other", "apikey"]}, {"headers": [("apikey", "secret")]}),
        ({"key_names": ["a", "b"]}, {"target": "/?b=wrong&a=secret"}),
        ({}, {"headers": [("apikey", "secret")], "target": "/?apikey=wrong"}),
    ],
)
def test_the_key_is_found_in_every_place(config: dict[str, Any], request_parts: dict[str, Any]) -> None:
    played = scene(config, **request_parts).access()
    assert played.answer is None
    assert played.consumer == ADA


@pytest.mark.parametrize(
    ("config", "request_parts", "message"),
    [
        ({}, {}, "No API key found in request"),
        ({}, {"headers": [("apikey", "")]}, "No API key found in request"),
        ({}, {"target": "/?apikey"}, "No API key found in request"),
        ({}, {"headers": [("apikey", "wrong")]}, "Unauthorized"),
        ({}, {"headers": [("apikey", "secret"), ("apikey", "secret")]}, "Duplicate API key found"),
        ({}, {"target": "/?apikey=secret&apikey=secret"}, "Duplicate API key found"),
        ({"key_in_header": False}, {"headers": [("apikey", "secret")]}, "No API key found in request"),
        ({"key_in_query": False}, {"target": "/?apikey=secret"}, "No API key found in request"),
        ({}, {"method": "POST", "headers": [FORM], "body": b"apikey=secret"}, "No API key found in request"),
        ({"key_in_body": True}, {"method": "POST", "body": b"apikey=secret"}, "No API key found in request"),
    ],
)
def test_without_a_valid_key_the_answer_is_401(
    config: dict[str, Any], request_parts: dict[str, Any], message: str
) -> None:
    played = scene(config, **request_parts).access()
    assert played.refusal == (401, message)
    assert played.answered("WWW-Authenticate") == ["Key"]
    assert played.consumer is None


def test_the_challenge_names_the_realm() -> None:
    played = scene({"realm": "example"}).access()
    assert played.answered("WWW-Authenticate") == ['Key realm="example"']


def test_hidden_credentials_do_not_reach_the_upstream() -> None:
    played = scene(
        {"hide_credentials": True, "key_in_body": True},
        method="POST",
        target="/?a=1&apikey=secret&b=2",
        headers=[("apikey", "secret"), FORM],
        body=b"apikey=secret&kept=yes",
    ).access()
    assert played.sent("apikey") == []
    assert played.query == "a=1&b=2"
    assert played.body == b"kept=yes"


def test_hiding_leaves_a_query_without_the_key_as_it_was_sent() -> None:
    played = scene({"hide_credentials": True}, target="/?b=%7e&a", headers=[("apikey", "secret")]).access()
    assert played.query == "b=%7e&a"


def test_shown_credentials_stay() -> None:
    played = scene(target="/?apikey=secret").access()
    assert played.query == "apikey=secret"


@pytest.mark.parametrize("anonymous", [GUEST["id"], "guest"])
def test_without_a_key_the_anonymous_consumer_goes_on(anonymous: str) -> None:
    played = scene({"anonymous": anonymous}, headers=[("X-Credential-Identifier", "forged")]).access()
    assert played.answer is None
    assert played.consumer == GUEST
    assert played.credential is None
    assert played.sent("X-Consumer-Username") == ["guest"]
    assert played.sent("X-Anonymous-Consumer") == ["true"]
    assert played.sent("X-Credential-Identifier") == []


def test_with_anonymous_an_earlier_authentication_is_kept() -> None:
    earlier = {"id": "1b9d5a3e-0000-4000-8000-0000000000ff"}
    played = scene({"anonymous": "guest"}, consumer=ADA, credential=earlier).access()
    assert played.consumer == ADA
    assert played.credential == earlier


def test_without_anonymous_an_earlier_authentication_is_not_enough() -> None:
    played = scene(consumer=ADA, credential={"id": "x"}).access()
    assert played.refusal == (401, "No API key found in request")


def test_an_anonymous_consumer_that_does_not_exist_is_an_error() -> None:
    played = scene({"anonymous": "nobody"}).access()
    assert played.refusal == (500, "anonymous consumer nobody is configured but doesn't exist")


def test_options_passes_only_when_asked_to() -> None:
    assert scene({"run_on_preflight": False}, method="OPTIONS").access().answer is None
    assert scene({"run_on_preflight": True}, method="OPTIONS").access().refusal is not None
    assert scene({"run_on_preflight": False}, method="GET").access().refusal is not None


def test_a_key_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0):
        scene(headers=[("apikey", "very-private")]).access()
        scene({"anonymous": "nobody"}, headers=[("apikey", "very-private")]).access()
    assert "very-private" not in caplog.text
