"""A bag of values with attribute and item access, as `kong.ctx.shared` and `kong.ctx.plugin` hand it out."""

from collections.abc import Iterator
from typing import Any


class Namespace:
    """Values by name; an absent one reads as None, setting None removes it.

    `namespace.started` and `namespace["started"]` are the same. Iterating yields the names. There are no other methods,
    so no name is taken; names in double underscores are Python's own.
    """

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return None

    def __getitem__(self, name: str) -> Any:
        return self.__dict__.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if value is None:
            self.__dict__.pop(name, None)
        else:
            self.__dict__[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        self.__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self.__dict__.pop(name, None)

    def __delitem__(self, name: str) -> None:
        self.__dict__.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Namespace({self.__dict__!r})"
