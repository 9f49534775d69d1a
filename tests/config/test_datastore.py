"""Settings of the database that depend on each other."""

import base64

import pytest

from headgate.config.datastore import encryption_key
from headgate.config.load import load_settings
from headgate.errors import SettingsError

KEY = base64.b64encode(bytes(range(32))).decode()


def test_encryption_keys_are_taken_in_their_order() -> None:
    other = base64.b64encode(bytes(32)).decode()
    settings = load_settings(None, {"HEADGATE_DATABASE": "sqlite", "HEADGATE_ENCRYPTION_KEYS": f"{KEY},{other}"})
    assert [encryption_key(text) for text in settings.datastore.encryption_keys] == [bytes(range(32)), bytes(32)]


@pytest.mark.parametrize("text", ["too short", base64.b64encode(b"k" * 31).decode(), "é"])
def test_a_key_that_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"HEADGATE_DATABASE": "sqlite", "HEADGATE_ENCRYPTION_KEYS": f"{KEY},{text}"})
    assert caught.value.faults == [
        "encryption_keys: key 2 is not 32 bytes in base64; openssl rand -base64 32 makes one"
    ]


def test_keys_without_a_database_are_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"HEADGATE_ENCRYPTION_KEYS": KEY})
    assert caught.value.faults == [
        "encryption_keys has no effect with database = off: the declarative document stays as it is"
    ]
