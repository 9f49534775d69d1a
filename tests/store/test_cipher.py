"""Sealing: what exported documents and kept files hold with keys, and who can read them."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.config.load import load_settings
from headgate.errors import DeclarativeError
from headgate.node.bootstrap import StartError
from headgate.node.kept import DatabaseKeeper, kept_of_database
from headgate.store.cipher import Cipher, SealedError, cipher_of_node
from headgate.store.declarative import export_declarative, load_declarative
from headgate.store.snapshot import Snapshot

SECRET = "very-secret-text"
KEYS = ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "HxwdGh8YGRYXFBUSExAREg8NDgsMCQoHCAUGAwQBAgA=")
DOCUMENT = f"""
_format_version: "3.0"
consumers:
- username: u
  basicauth_credentials: [{{username: b, password: {SECRET}}}]
  hmacauth_credentials: [{{username: h, secret: {SECRET}}}]
  keyauth_credentials: [{{key: found-by-key}}]
"""


def datastore(tmp_path: Path, *keys: str) -> Any:
    given = {"prefix": str(tmp_path), "database": "postgres", "lua_ssl_trusted_certificate": ""}
    return load_settings(None, {}, given | ({"encryption_keys": ",".join(keys)} if keys else {})).datastore


def snapshot() -> Snapshot:
    return load_declarative(DOCUMENT, plugin_types={}, now=1000)


def test_bytes_are_readable_with_a_key_and_in_their_place_only() -> None:
    old, new = Cipher([b"1" * 32]), Cipher([b"2" * 32, b"1" * 32])
    sealed = old.seal_bytes(SECRET.encode(), b"here")
    assert SECRET.encode() not in sealed
    assert new.open_bytes(sealed, b"here", "it") == SECRET.encode()
    assert old.open_bytes(b"plain", b"here", "it") == Cipher().seal_bytes(b"plain", b"here") == b"plain"
    with pytest.raises(SealedError, match="it was changed after its encryption"):
        old.open_bytes(sealed, b"there", "it")
    for known in (Cipher(), Cipher([b"2" * 32])):
        with pytest.raises(SealedError, match=r"it is encrypted with key [0-9a-f]{8}, which encryption_keys does not"):
            known.open_bytes(sealed, b"here", "it")


def test_an_export_holds_no_secret_and_loads_with_its_key(tmp_path: Path) -> None:
    cipher, exported = cipher_of_node(datastore(tmp_path, KEYS[0])), snapshot()
    text = export_declarative(exported, cipher=cipher)
    [hmac] = yaml.safe_load(text)["hmacauth_credentials"]
    [basic] = exported.entities["basicauth_credentials"].values()
    assert SECRET not in text
    assert basic["password"] not in text
    assert hmac["secret"].keys() == {"$encrypted"}
    assert "found-by-key" in text
    again = load_declarative(text, plugin_types={}, cipher=cipher_of_node(datastore(tmp_path, KEYS[1], KEYS[0])))
    assert again.entities == exported.entities
    assert SECRET in export_declarative(exported)


def test_without_the_key_each_sealed_field_of_an_export_is_a_fault() -> None:
    text = export_declarative(snapshot(), cipher=Cipher([b"1" * 32]))
    with pytest.raises(DeclarativeError) as caught:
        load_declarative(text, plugin_types={})
    fault = caught.value.fields["hmacauth_credentials"][0]["secret"]
    assert fault.endswith("which encryption_keys does not have")
    assert "password" in caught.value.fields["basicauth_credentials"][0]


def test_what_is_kept_of_a_database_is_sealed_with_keys_and_private_always(tmp_path: Path) -> None:
    path, in_force = tmp_path / "database.snapshot", snapshot()
    for keys in ((), (KEYS[0],)):
        left_behind = path.with_suffix(".new")
        left_behind.touch()
        left_behind.chmod(0o644)
        given = datastore(tmp_path, *keys)
        keeper = DatabaseKeeper(tmp_path, given)
        keeper.take(in_force)
        keeper.write()
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert (SECRET.encode() in path.read_bytes()) == (not keys)
        found = kept_of_database(tmp_path, given)
        assert found is not None
        assert found.entities == {name: rows for name, rows in in_force.entities.items() if rows}
    with pytest.raises(StartError, match=r"database\.snapshot: the file is encrypted with key"):
        kept_of_database(tmp_path, datastore(tmp_path, KEYS[1]))
