"""Credentials: made-up secrets, hashes, what each kind needs."""

import hashlib
from typing import Any

from headgate.entities.registry import ENTITY_TYPES

CONSUMER = {"consumer": {"id": "d885e256-1abe-5e24-80b6-8f68fe59ea8e"}}


def examine(type_: str, /, **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return ENTITY_TYPES[type_].examine({**CONSUMER, **given}, now=1)


def test_key_is_made_up_of_32_letters_and_digits() -> None:
    entity, errors = examine("keyauth_credentials")
    assert errors == {}
    assert len(entity["key"]) == 32
    assert entity["key"].isalnum()
    assert examine("keyauth_credentials", key="a")[0]["key"] == "a"


def test_password_is_stored_as_a_hash_salted_with_the_consumer() -> None:
    entity, _ = examine("basicauth_credentials", username="u", password="p")
    stored = ENTITY_TYPES["basicauth_credentials"].transformed(entity, {"password": "p"})["password"]
    assert stored == hashlib.sha1(b"p" + CONSUMER["consumer"]["id"].encode()).hexdigest()


def test_jwt_with_a_public_key_algorithm_needs_the_key() -> None:
    assert examine("jwt_secrets", algorithm="RS256")[1]["rsa_public_key"] == "required field missing"
    assert examine("jwt_secrets", algorithm="RS256", rsa_public_key="x")[1]["rsa_public_key"] == "invalid key"
    assert examine("jwt_secrets", algorithm="ES256")[1] == {}


def test_oauth2_secret_is_hashed_on_request() -> None:
    entity, errors = examine("oauth2_credentials", name="n", hash_secret=True, client_secret="s")
    assert errors == {}
    assert ENTITY_TYPES["oauth2_credentials"].transformed(entity, {})["client_secret"].startswith("$pbkdf2-sha512$")


def test_redirect_uri_has_no_fragment() -> None:
    assert examine("oauth2_credentials", name="n", redirect_uris=["https://a/#b", "nope"])[1] == {
        "redirect_uris": ["fragment not allowed in 'https://a/#b'", "cannot parse 'nope'"]
    }


def test_consumer_is_needed_and_consumers_need_a_name() -> None:
    assert ENTITY_TYPES["acls"].examine({"group": "g"}, now=1)[1] == {"consumer": "required field missing"}
    assert ENTITY_TYPES["consumers"].examine({}, now=1)[1] == {
        "@entity": ["at least one of these fields must be non-empty: 'custom_id', 'username'"]
    }


def test_vault_prefix_and_type() -> None:
    _, errors = ENTITY_TYPES["vaults"].examine({"prefix": "env", "name": "nope"}, now=1)
    assert errors == {"prefix": "must not be one of: env", "name": "vault 'nope' is not installed"}
    _, errors = ENTITY_TYPES["vaults"].examine(
        {"prefix": "my-env", "name": "env", "config": {"prefix": "1", "x": 1}}, now=1
    )
    assert errors == {"config": {"prefix": "invalid value: 1", "x": "unknown field"}}
