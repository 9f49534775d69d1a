"""`kong.telemetry`: log records for OpenTelemetry (PDK reference 19.3).

A plugin that exports such records registers with `set_exporter`; without one, `log` says that it is disabled.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from headgate.pdk._phase import any_phase
from headgate.pdk.plugin import instance_of

Exporter: TypeAlias = Callable[[str | None, dict[str, Any]], object]
"""Takes (message, attributes); called on the thread of the handler that logs."""

DISABLED = "Telemetry logging is disabled: log entry will not be recorded. No exporter of log records is configured."


class Recorded(NamedTuple):
    """Whether a record was taken, and why not."""

    ok: bool
    error: str | None = None


class Telemetry:
    """`kong.telemetry`."""

    __slots__ = ("_exporter",)

    def __init__(self) -> None:
        self._exporter: Exporter | None = None

    @any_phase
    def set_exporter(self, exporter: Exporter | None) -> None:
        """Send records to a function of this worker; None switches recording off."""
        self._exporter = exporter

    @any_phase
    def log(
        self,
        plugin_name: Any,
        plugin_config: Any,
        message_type: Any,
        message: Any = None,
        attributes: Any = None,
    ) -> Recorded:
        """Hand a record to the exporter; never raises for what it is given.

        Adds the attributes `message.type`, `plugin.name`, `plugin.id` and `plugin.instance.name`.

        Args: `plugin_name`, `message_type`, `message`: text; `plugin_config`: the configuration handed to the handler;
            `attributes`: a mapping.
        Returns: `(True, None)`, or False with `<argument> must be a …` or `Telemetry logging is disabled: …`.
        """
        if not isinstance(plugin_name, str):
            return Recorded(False, "plugin_name must be a string")
        if plugin_config is None or isinstance(plugin_config, str | int | float | bytes):
            return Recorded(False, "plugin_config must be a table")
        if not isinstance(message_type, str):
            return Recorded(False, "message_type must be a string")
        if message is not None and not isinstance(message, str):
            return Recorded(False, "message must be a string")
        if attributes is not None and not isinstance(attributes, Mapping):
            return Recorded(False, "attributes must be a table")
        if self._exporter is None:
            return Recorded(False, DISABLED)
        record = {**(attributes or {}), "message.type": message_type, "plugin.name": plugin_name}
        try:
            info = instance_of(plugin_config)
        except LookupError:
            pass
        else:
            record["plugin.id"] = info.id
            if info.instance_name is not None:
                record["plugin.instance.name"] = info.instance_name
        try:
            self._exporter(message, record)
        # The exporter is another plugin's code: what it raises is no fault of the one that logs.
        except Exception as error:
            return Recorded(False, str(error))
        return Recorded(True)


telemetry = Telemetry()
