"""Settings of the node: the registry, the merge of all sources, and the typed result.

Owns `SETTINGS` (every setting once, derived from the sections), `load_settings` (all faults at once) and `Settings`,
which every process holds. A child process rebuilds its `Settings` from the texts its parent resolved.
"""

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.config import inert
from headgate.config.access import Access
from headgate.config.datastore import Datastore
from headgate.config.dns import Dns
from headgate.config.general import General
from headgate.config.http import HttpBehaviour
from headgate.config.listeners import Listeners
from headgate.config.lua import Lua
from headgate.config.references import is_reference, resolve
from headgate.config.setting import Setting, declared
from headgate.config.sources import NameCheck, find_file, gather
from headgate.config.tls import Tls
from headgate.errors import SettingsError

SECTIONS: tuple[type, ...] = (General, Listeners, HttpBehaviour, Tls, Access, Datastore, Dns, Lua)
SETTINGS: dict[str, Setting] = {entry.name: entry for section in SECTIONS for entry in declared(section)}
SECRET_MASK = "******"
DEFAULT_WORKSPACE_ID = "0dc6f45b-8f8d-40d2-a504-473544ee190b"
"""Id of the workspace `default` without a database (reference: declarative 4)."""


@dataclass(frozen=True)
class Settings:
    """All settings, parsed and checked.

    `texts`: effective text by name, references resolved; `references`: the reference where one was given; `given`:
    names that some source gave; `notices` and `warnings`: what a person should know about them.
    """

    general: General
    listeners: Listeners
    http: HttpBehaviour
    tls: Tls
    access: Access
    datastore: Datastore
    dns: Dns
    lua: Lua
    texts: Mapping[str, str | None]
    references: Mapping[str, str]
    given: frozenset[str]
    warnings: tuple[str, ...]
    notices: tuple[str, ...]
    conf_path: Path | None

    @property
    def prefix(self) -> Path:
        """The working directory, absolute."""
        return self.general.prefix_path

    def configuration(self, *, is_masked: bool = True) -> dict[str, Any]:
        """Return every setting by name as `kong.configuration` has it: lists as arrays, booleans, numbers, texts.

        Args: `is_masked` replaces secrets that are set with asterisks, as the Admin API shows them.
        """
        shown: dict[str, Any] = {}
        for name, entry in SETTINGS.items():
            text = self.texts[name]
            if text is None:
                shown[name] = None
            elif entry.is_secret and is_masked:
                shown[name] = SECRET_MASK if text else entry.kind.show(text)
            elif name in self.references:
                shown[name] = self.references[name]
            else:
                shown[name] = entry.kind.show(text)
            for alias in entry.aliases:
                shown[alias] = shown[name]
        for listen in ("proxy", "admin", "status", "stream"):
            shown[f"{listen}_listeners"] = [
                {"ip": entry.host, "port": entry.port, "ssl": entry.is_ssl, "http2": entry.is_http2}
                | {"reuseport": entry.is_reuseport, "deferred": entry.is_deferred, "listener": entry.address}
                for entry in getattr(self.listeners, f"{listen}_listen")
            ]
        return shown

    def node_configuration(self) -> dict[str, Any]:
        """Return what plugins see as `kong.configuration`, secrets included."""
        return self.configuration(is_masked=False) | {"default_workspace": DEFAULT_WORKSPACE_ID}

    def to_document(self) -> dict[str, Any]:
        """Return what a child process needs to rebuild these settings; JSON-serialisable, holds secrets."""
        return {
            "texts": dict(self.texts),
            "references": dict(self.references),
            "given": sorted(self.given),
            "conf_path": None if self.conf_path is None else str(self.conf_path),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Settings":
        """Rebuild settings from `to_document`; they were checked by the parent."""
        sections, faults = _parse(document["texts"])
        if faults:
            raise SettingsError(faults)
        conf_path = document["conf_path"]
        return cls(
            **sections,
            texts=document["texts"],
            references=document["references"],
            given=frozenset(document["given"]),
            warnings=(),
            notices=(),
            conf_path=None if conf_path is None else Path(conf_path),
        )


def load_settings(
    conf_path: str | None, environment: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> Settings:
    """Read, merge, parse and check all settings.

    Args: `conf_path` is the file given by a person (must exist); None looks at the default places. `overrides` are the
    command line's.
    Raises: SettingsError with every fault at once.
    """
    file = find_file(conf_path)
    settings = list(SETTINGS.values())
    names = {**inert.INERT, **inert.REFUSED, **inert.REFUSED_UNLESS_OFF}
    is_known = NameCheck(settings, names, (*inert.INERT_PREFIXES, "vault_"))
    given = gather(settings, file, environment, overrides or {}, is_known)
    faults: list[str] = []
    texts: dict[str, str | None] = {}
    references: dict[str, str] = {}
    vault_prefix = given.texts.get("vault_env_prefix") or ""
    for name, entry in SETTINGS.items():
        text = given.texts.get(name, entry.default)
        if text is not None and is_reference(text):
            references[name] = text
            try:
                text = resolve(name, text, environment, vault_prefix)
            except ValueError as error:
                faults.append(str(error))
                text = entry.default
        texts[name] = text
    sections, section_faults = _parse(texts)
    notices = []
    for name, text in given.texts.items():
        if name in SETTINGS:
            continue
        if name in inert.REFUSED:
            faults.append(f"{name}: {inert.REFUSED[name]}")
        elif name in inert.REFUSED_UNLESS_OFF:
            if text != "off":
                faults.append(f"{name} = {text}: {inert.REFUSED_UNLESS_OFF[name]}")
        elif (reason := inert.reason_for(name)) is not None:
            notices.append(f"{name} has no effect: {reason}")
    faults += section_faults
    if faults:
        raise SettingsError(faults, given.warnings)
    notices += open_admin_notices(sections["listeners"], sections["access"])
    for section in sections.values():
        notices += section.notices() if hasattr(section, "notices") else []
    return Settings(
        **sections,
        texts=texts,
        references=references,
        given=frozenset(given.texts),
        warnings=tuple(given.warnings),
        notices=tuple(notices),
        conf_path=file,
    )


def open_admin_notices(listeners: Listeners, access: Access) -> list[str]:
    """Return a text for each listener on which anybody in the network may change everything."""
    if access.is_required:
        needs_ssl = [] if access.admin_tokens or access.admin_tokens_file else listeners.admin_listen
        return [
            f"admin_listen: {entry.address} has no ssl, so that no client certificate and no call gets through there"
            for entry in needs_ssl
            if not entry.is_ssl
        ]
    return [
        f"admin_listen: anybody who reaches {entry.address} may change everything; set admin_tokens or admin_client_ca"
        for entry in listeners.admin_listen
        if not _is_loopback(entry.host)
    ]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse(texts: Mapping[str, str | None]) -> tuple[dict[str, Any], list[str]]:
    """Return the sections by field name of `Settings`, and the faults; faulty sections are left out."""
    sections: dict[str, Any] = {}
    faults: list[str] = []
    attributes = {"General": "general", "Listeners": "listeners", "HttpBehaviour": "http"}
    for section in SECTIONS:
        values: dict[str, Any] = {}
        section_faults = []
        for entry in declared(section):
            text = texts[entry.name]
            if text is None:
                if entry.default is None:
                    values[entry.attribute] = None
                    continue
                # An array without a value is the empty one; other settings cannot do without.
                text = "off" if entry.name in ("plugins",) or entry.name.endswith("_listen") else ""
                if text == "" and entry.kind.label != "array" and not entry.kind.label.startswith("array"):
                    if _is_optional(section, entry.attribute):
                        values[entry.attribute] = None
                    else:
                        section_faults.append(f"{entry.name} must have a value")
                    continue
            try:
                values[entry.attribute] = entry.kind.parse(entry.name, text)
            except ValueError as error:
                section_faults.append(str(error))
        if section_faults:
            faults += section_faults
            continue
        built = section(**values)
        faults += built.check()
        sections[attributes.get(section.__name__, section.__name__.lower())] = built
    return sections, faults


def _is_optional(section: type, attribute: str) -> bool:
    annotation = {field.name: field.type for field in dataclasses.fields(section)}[attribute]
    return "None" in str(annotation)
