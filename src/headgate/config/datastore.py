"""Settings of the store and of routing, which is built from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.config.kinds import Choice, Text
from headgate.config.setting import setting


@dataclass(frozen=True)
class Datastore:
    """Where entities come from."""

    database: str = setting(
        Choice(("off", "sqlite", "postgres")),
        "off",
        "Store of the entities. off: a declarative document, given by file or by POST /config.",
    )
    declarative_config: str | None = setting(
        Text("path"), None, "Declarative file (.yml, .yaml, .json) loaded at start."
    )
    declarative_config_string: str | None = setting(
        Text(), None, "Declarative document as text; declarative_config wins when both are given.", is_secret=True
    )
    router_flavor: str = setting(
        Choice(("traditional_compatible", "traditional", "expressions")),
        "traditional_compatible",
        "Rules by which routes are matched.",
    )
    role: str = setting(
        Choice(("traditional", "control_plane", "data_plane")), "traditional", "Part this node plays in a cluster."
    )

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        if self.database != "off":
            yield (
                f"database = {self.database} is not available in this release: "
                "set database = off and give a declarative_config"
            )
        if self.router_flavor == "expressions":
            yield (
                "router_flavor = expressions is not available in this release: "
                "use traditional_compatible or traditional"
            )
        if self.role != "traditional":
            yield f"role = {self.role} is not available in this release: use traditional"
        if self.declarative_config is not None and not Path(self.declarative_config).expanduser().is_file():
            yield f"declarative_config: no file at: {self.declarative_config}"
