"""Values that fields with `auto` get when nothing is given: ids, texts, times.

Source: custom-plugin reference, section 8.2.
"""

import secrets
import string
import time
from typing import Any, Final
from uuid import uuid4

from headgate.schema.spec import FieldSpec

AUTO_TEXT_LENGTH: Final = 32
_ALPHANUMERICS: Final = string.ascii_letters + string.digits


def random_text() -> str:
    """Return what an automatic text field gets: 32 letters and digits."""
    return "".join(secrets.choice(_ALPHANUMERICS) for _ in range(AUTO_TEXT_LENGTH))


def automatic_kind(spec: FieldSpec, kind: str) -> str:
    """Return what an automatic field of a type holds: `uuid`, `time`, or the type itself."""
    return "uuid" if spec.uuid is True else "time" if spec.timestamp is True else kind


def automatic_value(spec: FieldSpec, kind: str) -> Any:
    """Return the value of an automatic field of a configuration; None where its type has none."""
    held = automatic_kind(spec, kind)
    if held == "uuid":
        return str(uuid4())
    if held == "time":
        return int(time.time()) if kind == "integer" else round(time.time(), 3)
    return random_text() if held == "string" else None
