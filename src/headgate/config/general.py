"""Settings of the node as a whole: directories, logs, plugins, processes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.config.kinds import (
    Array,
    AutoNumber,
    Boolean,
    Choice,
    ChoiceArray,
    Identifier,
    Number,
    PortMaps,
    Size,
    Text,
    Time,
)
from headgate.config.setting import setting

LOG_LEVELS = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")
ACCESS_LOG_FORMATS = ("combined",)
STREAM_ACCESS_LOG_FORMATS = ("basic",)
LEGACY = "legacy"
PRIORITY_PRESERVING = "priority_preserving"
TRACING_INSTRUMENTATIONS = (
    "off",
    "all",
    "request",
    "router",
    "balancer",
    "db_query",
    "dns_query",
    "http_client",
    "plugin_rewrite",
    "plugin_access",
    "plugin_header_filter",
)


def default_prefix() -> str:
    """Return the working directory used when none is given: system-wide for root, in the home directory for others."""
    return "/usr/local/headgate/" if os.geteuid() == 0 else str(Path.home() / ".headgate")


@dataclass(frozen=True)
class General:
    """The node: where it works, what it loads, how many processes it has."""

    prefix: str = setting(
        Text("path"), default_prefix(), "Working directory: sockets, logs, pid file, kept configuration."
    )
    log_level: str = setting(Choice(LOG_LEVELS), "notice", "Least severe level that is written to the error log.")
    proxy_access_log: str | None = setting(
        Text("path"), "logs/access.log", "Access log of the proxy: a path relative to the prefix, or off."
    )
    proxy_error_log: str | None = setting(
        Text("path"),
        "logs/error.log",
        "Error log, a path relative to the prefix. Left at its default, a start in the foreground writes to stderr.",
    )
    proxy_stream_access_log: str | None = setting(
        Text("path"),
        "logs/access.log basic",
        "Access log of streams: a path relative to the prefix and the format basic, or off.",
    )
    admin_access_log: str | None = setting(
        Text("path"), "logs/admin_access.log", "Access log of the Admin API: a path relative to the prefix, or off."
    )
    status_access_log: str | None = setting(
        Text("path"), "off", "Access log of the Status API: a path relative to the prefix, or off."
    )
    plugins: tuple[str, ...] = setting(
        Array(), "bundled", "Loaded plugins: bundled, names, or off. A plugin that is not loaded cannot be configured."
    )
    plugin_path: tuple[str, ...] = setting(
        Array(), "", "Directories searched for plugins: <dir>/<name>.py or <dir>/<name>/handler.py."
    )
    node_id: str | None = setting(
        Identifier(), None, "UUID of this node; without it one is made and kept in <prefix>/headgate.id."
    )
    port_maps: tuple[tuple[int, int], ...] = setting(
        PortMaps(), "", "Ports as clients see them before ports listened on, e.g. 80:8000, 443:8443."
    )
    workers: int = setting(
        AutoNumber(),
        "auto",
        "Number of worker processes; auto is the number of processors.",
        aliases=("nginx_main_worker_processes", "nginx_worker_processes"),
    )
    worker_connections: int = setting(
        Number(minimum=0),
        "16384",
        "Most client connections open in one worker; 0 is no limit.",
        aliases=("nginx_events_worker_connections",),
    )
    udp_sessions: int = setting(
        Number(minimum=1),
        "4096",
        "Most UDP sessions open in one worker; a new one beyond that ends the one that was idle for longest.",
    )
    udp_waiting_bytes: int = setting(
        Size(),
        "8m",
        "Most bytes of datagrams in one worker that wait for a plugin or a name before their upstream is known; more "
        "are dropped.",
        name="udp_waiting_size",
    )
    worker_shutdown_timeout_ms: int = setting(
        Time(is_zero_allowed=False),
        "5m",
        "How long a draining worker may finish its requests after quit or reload before it is killed.",
        name="worker_shutdown_timeout",
        aliases=("nginx_main_worker_shutdown_timeout",),
    )
    shared_dict_size_bytes: int = setting(
        Size(), "16m", "Memory (tmpfs) for counters and caches that the node's workers share.", name="shared_dict_size"
    )
    allow_debug_header: bool = setting(
        Boolean(), "off", "Answer the request header Kong-Debug with the ids of the matched route and service."
    )
    allow_broken_plugins: bool = setting(
        Boolean(),
        "off",
        "Serve although a plugin cannot be loaded or rejects its stored configuration: requests it applies to get 500. "
        "Off, a start or a new configuration is refused.",
    )
    admin_if_match_required: bool = setting(
        Boolean(),
        "off",
        "Refuse changes of entities without If-Match (428), so that no change is made to something nobody has seen.",
    )
    plugin_ordering_algorithm: str = setting(
        Choice((LEGACY, PRIORITY_PRESERVING)),
        LEGACY,
        "What the ordering of plugins makes of their priorities: legacy moves what must run earlier before the other; "
        "priority_preserving moves the other behind it.",
    )
    blocking_threads: int = setting(
        Number(minimum=1, maximum=1024), "8", "Threads of each worker for handlers marked @blocking."
    )
    plugin_timing: bool = setting(
        Boolean(),
        "on",
        "Tell logging plugins how long each plugin took in each phase. Without it and with slow_handler_ms = 0 no "
        "clock is read, which saves about 0.2 microseconds per handler.",
    )
    slow_handler_ms: int = setting(
        Number(minimum=0),
        "100",
        "A handler that holds its thread for longer is logged with plugin and instance; 0 is never.",
    )
    handler_timeout_ms: int = setting(
        Number(minimum=0),
        "60000",
        "How long an async or blocking handler may take before its request ends with 500; 0 is no limit.",
    )
    crud_events_max_pending: int = setting(
        Number(minimum=1),
        "50000",
        "Changed entities that wait in a worker for handlers of crud events; of more at once these handlers are not "
        "told, with a warning, while caches are still emptied. Waiting ones are held in memory, old and new.",
    )
    max_timers: int = setting(
        Number(minimum=1),
        "16384",
        "Timers that plugins and functions may have in a worker, running and waiting ones; one more is refused with "
        "'too many pending timers'.",
    )

    db_cache_ttl: float = setting(
        Number(minimum=0, is_whole=False),
        "0",
        "Seconds that kong.cache keeps a value without a time to live of its own; 0 is for ever.",
    )
    db_cache_neg_ttl: float = setting(
        Number(minimum=0, is_whole=False), "0", "The same for a value that was not found."
    )
    db_resurrect_ttl: float = setting(
        Number(minimum=0, is_whole=False),
        "30",
        "Seconds that kong.cache goes on with an outdated value when a new one cannot be had.",
    )
    vault_env_prefix: str | None = setting(
        Text(), None, "Start of the names of the environment variables that {vault://env/...} stands for."
    )
    tracing_instrumentations: tuple[str, ...] = setting(
        ChoiceArray(TRACING_INSTRUMENTATIONS),
        "off",
        "What kong.tracing makes spans of: off, all, request (the whole request, and what plugins start), router, "
        "balancer (each try), db_query (writes of kong.db), dns_query (kong.dns), or the handlers of a phase.",
        aliases=("opentelemetry_tracing",),
    )
    tracing_sampling_rate: float = setting(
        Number(minimum=0, maximum=1, is_whole=False),
        "0.01",
        "Share of the requests whose spans are worth exporting.",
        aliases=("opentelemetry_tracing_sampling_rate",),
    )

    def notices(self) -> Iterator[str]:
        """Yield what a person should know about these settings."""
        if "http_client" in self.tracing_instrumentations:
            yield (
                "tracing_instrumentations = http_client has no effect: plugins bring their own HTTP client, and their "
                "own spans for it"
            )

    @property
    def prefix_path(self) -> Path:
        """The prefix, absolute, with `~` expanded."""
        return Path(self.prefix).expanduser().absolute()

    @property
    def plugin_directories(self) -> list[str]:
        """The directories of `plugin_path`, absolute, with `~` expanded."""
        return [str(Path(directory).expanduser().absolute()) for directory in self.plugin_path]

    @property
    def worker_count(self) -> int:
        """Number of worker processes, `auto` resolved to the processors this process may use."""
        return self.workers or len(os.sched_getaffinity(0))

    def access_log_path(self, log: str | None) -> Path | None:
        """Return the absolute path of an access log setting; None when it is off."""
        if log is None or log == "off":
            return None
        return self.prefix_path / log.split()[0]

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        for name in (
            "proxy_access_log",
            "proxy_stream_access_log",
            "proxy_error_log",
            "admin_access_log",
            "status_access_log",
        ):
            log = getattr(self, name)
            if log is None:
                continue
            parts = log.split()
            if not parts:
                yield f"{name} must be a path or off"
            elif parts[0].startswith("syslog:"):
                yield f"{name}: syslog targets are not available, use a path, /dev/stdout or /dev/stderr"
            elif name.endswith("error_log"):
                if log == "off":
                    yield f"{name} cannot be off, use /dev/null"
            elif len(parts) > 1 and parts[1] not in (formats := _formats_of(name)):
                yield f"{name} has an unknown log format: '{parts[1]}' ({', '.join(formats)})"
        if "off" in self.plugins and len(self.plugins) > 1:
            yield "plugins: off cannot be combined with other names"
        if self.shared_dict_size_bytes < 1024 * 1024:
            yield "shared_dict_size must be 1m or greater"
        for directory in self.plugin_path:
            if not Path(directory).expanduser().is_dir():
                yield f"plugin_path: no directory at {directory}"


def _formats_of(name: str) -> tuple[str, ...]:
    return STREAM_ACCESS_LOG_FORMATS if name == "proxy_stream_access_log" else ACCESS_LOG_FORMATS
