"""`kong.vault`: secrets by reference (PDK reference 18).

References in plugins' configurations are resolved before a handler sees them; these functions are for those that a
plugin keeps elsewhere, and for trying again with a rotated secret.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

from headgate.pdk import _reference
from headgate.pdk._bound import Slot, fill, references_of
from headgate.pdk._phase import any_phase
from headgate.pdk._reference import Reference, VaultError, is_reference
from headgate.pdk._secrets import Secrets, secrets

Options = TypeVar("Options")


class Vault:
    """`kong.vault`."""

    __slots__ = ("_secrets",)

    def __init__(self, source: Secrets = secrets) -> None:
        self._secrets = source

    @any_phase
    def is_reference(self, reference: object) -> bool:
        """Say whether a value is a text `{vault://…}`; nothing inside is checked."""
        return is_reference(reference)

    @any_phase
    def parse_reference(self, reference: str) -> Reference:
        """Take a reference apart: `name`, `resource`, `key`, `config` (overrides), `version`.

        Raises: VaultError `not a reference [<ref>]`, `reference url is missing host [<ref>]`, …
        """
        return _reference.parse_reference(reference)

    @any_phase
    def get(self, reference: str) -> str | None:
        """Return the secret that a reference stands for; None when its vault was asked before and had none.

        Raises: VaultError for what is no reference, an unknown vault, or when the vault has no value:
            `could not get value from external vault (no value found)`.
        """
        return self._secrets.get(reference)

    @any_phase
    def update(self, options: Options) -> Options:
        """Put the secrets known now into a plugin's configuration or a dict; the same object is returned.

        A dict says in `$refs` which of its members stand for references (a text, or a dict or list of texts); dicts
        inside it are updated as well. Vaults are not asked: what is not known becomes empty, with a warning.
        """
        fill(_places(options), self._secrets, cached_only=True)
        return options

    @any_phase
    def try_(self, callback: Callable[[Options], Any], options: Options) -> Any:
        """Call `callback(options)` with the secrets known now; when the result is falsy, ask the vaults again and call
        once more. The name ends in `_` because `try` is a word of Python.

        Returns: the callback's (last) result; to be awaited when the callback is `async def`.
        """
        places = _places(options)
        if inspect.iscoroutinefunction(inspect.unwrap(callback)):
            return self._try_later(callback, options, places)
        if not places:
            return callback(options)
        fill(places, self._secrets, cached_only=True)
        return callback(options) or callback(self._refreshed(options, places))

    async def _try_later(self, callback: Callable[[Options], Any], options: Options, places: list[Slot]) -> Any:
        if not places:
            return await callback(options)
        fill(places, self._secrets, cached_only=True)
        return await callback(options) or await callback(self._refreshed(options, places))

    def _refreshed(self, options: Options, places: list[Slot]) -> Options:
        for reference in {place.reference for place in places}:
            try:
                self._secrets.refresh(reference)
            except VaultError:
                # `fill` warns.
                pass
        fill(places, self._secrets, cached_only=True)
        return options


def _places(options: Any) -> list[Slot]:
    return list(_in_mapping(options)) if isinstance(options, MutableMapping) else references_of(options)


def _in_mapping(table: MutableMapping[str, Any]) -> Iterator[Slot]:
    references = table.get("$refs")
    if isinstance(references, Mapping):
        for name, found in references.items():
            if isinstance(found, str):
                yield Slot(table, name, found, (name,))
            elif isinstance(found, Mapping):
                for key, reference in found.items():
                    yield Slot(table[name], key, reference, (name, key))
            elif isinstance(found, list):
                for position, reference in enumerate(found):
                    if reference is not None:
                        yield Slot(table[name], position, reference, (name, position))
    for name, value in table.items():
        if name != "$refs" and isinstance(value, MutableMapping):
            yield from _in_mapping(value)


vault = Vault()
