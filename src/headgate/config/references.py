"""Vault references in settings: `{vault://env/NAME}` anywhere a value may stand.

Owns the resolution at start, from the environment only; entity fields are not its business.
"""

import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qs

_REFERENCE = re.compile(
    r"\{vault://(?P<vault>[^/?#}]*)(?P<path>[^?#}]*)(?:\?(?P<query>[^#}]*))?(?:#(?P<version>[^}]*))?\}"
)


def is_reference(text: str | None) -> bool:
    """Say whether the whole text is a vault reference."""
    return text is not None and text.startswith("{vault://") and text.endswith("}")


def resolve(name: str, reference: str, environment: Mapping[str, str], prefix: str) -> str:
    """Return the value that a setting's reference stands for.

    Args: `prefix` is the setting `vault_env_prefix`.
    Raises: ValueError with the whole fault.
    """
    try:
        return _value(reference, environment, prefix)
    except ValueError as error:
        raise ValueError(f"failed to dereference '{reference}': {error} for config option '{name}'") from None


def _value(reference: str, environment: Mapping[str, str], prefix: str) -> str:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(f"not a reference [{reference}]")
    if match["vault"] != "env":
        raise ValueError(f"could not find vault ({match['vault']})")
    path = match["path"].lstrip("/")
    if not match["path"]:
        raise ValueError(f"reference url is missing path [{reference}]")
    if not path:
        raise ValueError(f"reference url has empty path [{reference}]")
    version = match["version"]
    if version is not None and version not in ("1", "2"):
        raise ValueError(f"reference url has invalid version [{reference}]")
    resource, _, key = path.rpartition("/") if "/" in path.rstrip("/") and not path.endswith("/") else (path, "", "")
    options = parse_qs(match["query"] or "")
    prefix = options.get("prefix", [prefix])[0]
    variable = prefix + resource.strip("/").upper().replace("-", "_").replace("/", "_")
    if version == "2":
        variable += "_PREVIOUS"
    value = environment.get(variable)
    if value is None:
        raise ValueError(f"could not get value from external vault (no value found: {variable})")
    if not key:
        return value
    try:
        secret = json.loads(value)
    except ValueError as error:
        raise ValueError(f"unable to json decode value ({error})") from None
    if not isinstance(secret, dict) or key not in secret:
        raise ValueError(f"could not get subfield value: subfield {key} not found in JSON secret")
    return str(secret[key])
