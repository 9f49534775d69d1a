"""Secrets in the database: unreadable without the keys, readable with any of them, worth nothing in another row."""

import os
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import EntityError
from headgate.schema import PluginConfig, Record, field, types
from headgate.store.cipher import Cipher, is_sealed
from headgate.store.sql.connect import DatabaseError, reading, writing
from headgate.store.sql.encryption import use_cipher
from headgate.store.sql.operations import MigrationOperations
from headgate.store.sql.store import SqlStore
from tests.support.entities import CA_CERTIFICATE

SECRET = "very-secret-text"


class Account(Record):
    token: str = field(encrypted=True)
    owner: str = field(unique=True, encrypted=True)


class Note(Record):
    id: types.Id
    label: str = field(unique=True, encrypted=True)
    code: str | None = field(None, encrypted=True)
    account: Account | None = None
    plain: str | None = None


class Pair(Record):
    id: types.Id
    realm: str
    token: str = field(encrypted=True)


NOTES = EntityType("notes", Note, "notes")
REGISTRY: Registry = {**ENTITY_TYPES, "notes": NOTES}


def bodies(engine: sa.Engine, name: str) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        return [orjson.loads(text) for text in connection.execute(sa.text(f"SELECT body FROM {name}")).scalars()]


def whole(engine: sa.Engine) -> str:
    with reading(engine) as connection:
        return "".join(str(row) for name in REGISTRY for row in connection.execute(sa.text(f"SELECT * FROM {name}")))


@pytest.fixture
def key(engine: sa.Engine) -> bytes:
    """A key that the database's engine seals with."""
    made = os.urandom(32)
    use_cipher(engine, Cipher([made]))
    return made


def test_fields_that_are_secret_or_may_hold_secrets_are_sealed() -> None:
    assert NOTES.sealed_fields == ("code", "account")
    assert ENTITY_TYPES["plugins"].sealed_fields == ("config",)
    assert ENTITY_TYPES["vaults"].sealed_fields == ("config",)
    assert set(ENTITY_TYPES["certificates"].sealed_fields) == {"key", "key_alt"}
    assert ENTITY_TYPES["routes"].sealed_fields == ()


@pytest.mark.usefixtures("key")
def test_secrets_are_not_readable_in_the_database(engine: sa.Engine, make_store: Callable[..., SqlStore]) -> None:
    store = make_store(REGISTRY)
    written = store.insert(
        "notes", {"label": "a", "code": SECRET, "account": {"token": SECRET, "owner": "o"}, "plain": "seen"}
    )
    store.insert("plugins", {"name": "request-termination", "config": {"message": SECRET}})
    assert SECRET not in whole(engine)
    [body] = bodies(engine, "notes")
    assert is_sealed(body["code"])
    assert body["plain"] == "seen"
    assert store.select("notes", written["id"]) == written
    assert store.select("notes", "a", by="label") == written
    assert written["code"] == SECRET
    snapshot = store.snapshot()
    assert snapshot.entities["notes"][written["id"]] == written
    [plugin] = snapshot.entities["plugins"].values()
    assert plugin["config"]["message"] == SECRET
    changed = store.update("notes", written["id"], {"plain": "other"})
    assert changed["code"] == SECRET
    after, delta = store.snapshot_after(snapshot)
    assert after.entities["notes"][written["id"]]["code"] == SECRET
    assert delta is not None


def test_what_was_stored_before_there_was_a_key_is_read_and_sealed_at_its_next_write(
    engine: sa.Engine, make_store: Callable[..., SqlStore]
) -> None:
    store = make_store(REGISTRY)
    written = store.insert("notes", {"label": "a", "code": SECRET})
    assert SECRET in whole(engine)
    use_cipher(engine, Cipher([os.urandom(32)]))
    assert store.select("notes", written["id"]) == written
    store.update("notes", written["id"], {"plain": "x"})
    assert SECRET not in whole(engine)


def test_a_new_key_comes_first_and_loading_an_export_replaces_the_old_one(
    engine: sa.Engine, key: bytes, make_store: Callable[..., SqlStore]
) -> None:
    store = make_store(REGISTRY)
    written = store.insert("notes", {"label": "a", "code": SECRET})
    newer = os.urandom(32)
    use_cipher(engine, Cipher([newer, key]))
    assert store.select("notes", written["id"]) == written
    store.load(store.snapshot())
    use_cipher(engine, Cipher([newer]))
    assert store.select("notes", written["id"]) == written


def test_without_the_key_the_text_says_which_is_missing(
    engine: sa.Engine, key: bytes, make_store: Callable[..., SqlStore]
) -> None:
    store = make_store(REGISTRY)
    written = store.insert("notes", {"label": "a", "code": SECRET})
    use_cipher(engine, Cipher([os.urandom(32)]))
    with pytest.raises(
        DatabaseError, match=f"field 'code' of entity {written['id']} is encrypted with key [0-9a-f]{{8}}"
    ):
        store.select("notes", written["id"])
    use_cipher(engine, Cipher())
    with pytest.raises(DatabaseError, match="which encryption_keys does not have"):
        store.snapshot()
    use_cipher(engine, Cipher([key]))
    assert store.select("notes", written["id"]) == written


@pytest.mark.usefixtures("key")
def test_a_sealed_value_is_worth_nothing_in_another_row(engine: sa.Engine, make_store: Callable[..., SqlStore]) -> None:
    store = make_store(REGISTRY)
    store.insert("notes", {"label": "a", "code": SECRET})
    other = store.insert("notes", {"label": "b", "code": "x"})
    stolen = next(body["code"] for body in bodies(engine, "notes") if body["label"] == "a")
    mine = next(body for body in bodies(engine, "notes") if body["label"] == "b")
    with writing(engine) as connection:
        connection.execute(
            sa.text("UPDATE notes SET body = :body WHERE key_label = 'b'"),
            {"body": orjson.dumps({**mine, "code": stolen}).decode()},
        )
    with pytest.raises(DatabaseError, match="was changed after its encryption"):
        store.select("notes", other["id"])


@pytest.mark.usefixtures("key")
def test_migrations_see_the_values_and_seal_them_again(engine: sa.Engine, make_store: Callable[..., SqlStore]) -> None:
    store = make_store(REGISTRY)
    written = store.insert("notes", {"label": "a", "code": SECRET})
    seen: list[str] = []

    def change(body: dict[str, Any]) -> dict[str, Any]:
        seen.append(body["code"])
        return {**body, "code": body["code"].upper()}

    with writing(engine) as connection:
        MigrationOperations(connection).rewrite_entities("notes", change)
    assert seen == [SECRET]
    assert SECRET.upper() not in whole(engine)
    changed = store.select("notes", written["id"])
    assert changed is not None
    assert changed["code"] == SECRET.upper()


@pytest.mark.usefixtures("key")
def test_a_ca_certificate_that_a_sealed_configuration_names_is_not_deleted(
    engine: sa.Engine, make_store: Callable[..., SqlStore]
) -> None:
    class Trusting:
        name = "trusting"

        class config_model(PluginConfig):  # noqa: N801 - the name that plugin types have
            ca_certificates: list[str]

    make_store()
    store = SqlStore(engine, ENTITY_TYPES, {"trusting": Trusting})  # type: ignore[dict-item]
    authority = store.insert("ca_certificates", {"cert": CA_CERTIFICATE})
    plugin = store.insert("plugins", {"name": "trusting", "config": {"ca_certificates": [authority["id"]]}})
    assert authority["id"] not in str(bodies(engine, "plugins"))
    with pytest.raises(EntityError, match=f"is still referenced by plugins .id = {plugin['id']}"):
        store.delete("ca_certificates", authority["id"])
    store.delete("plugins", plugin["id"])
    assert store.delete("ca_certificates", authority["id"])
    store.close()


@pytest.mark.usefixtures("key")
def test_credentials_are_sealed_but_for_what_they_are_found_by(
    engine: sa.Engine, make_store: Callable[..., SqlStore]
) -> None:
    store = make_store(REGISTRY)
    consumer = {"id": store.insert("consumers", {"username": "u"})["id"]}
    for name, values in (
        ("keyauth_credentials", {"key": "found-by-key"}),
        ("jwt_secrets", {"key": "found-by-issuer", "secret": SECRET}),
        ("hmacauth_credentials", {"username": "found-by-name", "secret": SECRET}),
    ):
        store.insert(name, {"consumer": consumer, **values})
    rows = whole(engine)
    assert SECRET not in rows
    assert all(text in rows for text in ("found-by-key", "found-by-issuer", "found-by-name"))
    found = store.select("jwt_secrets", "found-by-issuer", by="key")
    assert found is not None
    assert found["secret"] == SECRET


def test_fields_that_entities_are_found_by_are_known_to_stay_readable() -> None:
    assert NOTES.readable_secrets == ("label",)
    assert not any(kind.readable_secrets for kind in ENTITY_TYPES.values())


@pytest.mark.usefixtures("key")
def test_a_secret_that_is_unique_together_is_compared_by_its_hash(
    engine: sa.Engine, make_store: Callable[..., SqlStore]
) -> None:
    pairs = EntityType("pairs", Pair, "pairs", composite_unique=(("realm", "token"),))
    store = make_store({**ENTITY_TYPES, "pairs": pairs})
    store.insert("pairs", {"realm": "a", "token": SECRET})
    store.insert("pairs", {"realm": "b", "token": SECRET})
    with reading(engine) as connection:
        assert SECRET not in str(connection.execute(sa.text("SELECT * FROM pairs")).all())
    with pytest.raises(EntityError, match="UNIQUE violation"):
        store.insert("pairs", {"realm": "a", "token": SECRET})
