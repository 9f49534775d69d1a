"""A steady load of keep-alive requests from threads, which keeps count of every outcome."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.support.http1 import Client, Truncated


@dataclass
class Outcome:
    """What came of the requests."""

    succeeded: int = 0
    failed: list[str] = field(default_factory=list)


class Load:
    """Clients that ask one after another on kept connections until told to stop; a context manager.

    Only a connection that the server announced to close (`Connection: close`) is left without a failure; every other
    end counts as one, so that a server has to drain properly to come out clean.

    Args: `rate_per_s`: requests offered by all clients together, evenly; None: each as fast as it is answered. `body`:
        sent with every request.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        target: str,
        client_count: int = 8,
        *,
        rate_per_s: float | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> None:
        self._connect = connect
        self._target = target
        self._method = method
        self._body = body
        self._pause_s = 0.0 if rate_per_s is None else client_count / rate_per_s
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self.outcome = Outcome()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(client_count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client finish its request, and no other begin."""
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def wait_for(self, more: int, timeout_s: float = 15.0) -> bool:
        """Wait until `more` further requests have succeeded."""
        with self._progress:
            goal = self.outcome.succeeded + more
            return self._progress.wait_for(lambda: self.outcome.succeeded >= goal, timeout_s)

    def _run(self) -> None:
        client: Client | None = None
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s += self._pause_s
            try:
                if client is None:
                    client = self._connect()
                response = client.request(self._method, self._target, None, self._body)
            except (OSError, Truncated) as error:
                self._record(f"{type(error).__name__}: {error}")
                client = self._closed(client)
                continue
            self._record(None if response.status == 200 else f"status {response.status}")
            if (response.headers.get("Connection") or "").lower() == "close":
                client = self._closed(client)
        self._closed(client)

    def _record(self, failure: str | None) -> None:
        with self._progress:
            if failure is None:
                self.outcome.succeeded += 1
            else:
                self.outcome.failed.append(failure)
            self._progress.notify_all()

    @staticmethod
    def _closed(client: Client | None) -> None:
        if client is not None:
            client.close()
