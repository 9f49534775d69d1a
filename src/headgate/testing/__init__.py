"""Tests for plugins without a gateway: one phase of a handler on a request in memory, in well under a millisecond.

`run_phase` uses the real PDK with its guards and argument checks, the plugin's real schema, and `MemoryExchange` in the
place of the engine. It runs one handler; order, precedence and whole chains are the gateway's (`headgate.policy`).
"""

from headgate.testing.exchange import MemoryExchange, Request, Upstream
from headgate.testing.phase import Frame, LogLine, Result, Sent, run_phase
from headgate.testing.stream import Stream

__all__ = ["Frame", "LogLine", "MemoryExchange", "Request", "Result", "Sent", "Stream", "Upstream", "run_phase"]
