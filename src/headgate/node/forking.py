"""The supervisor's side of the template: asks it for children and is their parent.

Owns starting, replacing and ending template processes, and the handle of a forked child. Whoever cannot have a fork
starts an interpreter instead (`children`).
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from headgate.node.bootstrap import child_environment
from headgate.node.template import MOST_DESCRIPTORS, REQUEST_BYTES

_log = logging.getLogger("headgate.supervisor")
_PR_SET_CHILD_SUBREAPER = 36
_REPLY_S = 60.0


def is_forking_possible() -> bool:
    """Tell whether this system can make a process the parent of what its children leave behind."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class ForkedProcess:
    """A child that was forked elsewhere and is ours now; the part of an asyncio process that the supervisor uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._descriptor = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        try:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            self.returncode = 255
        self._ended.set()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for the end; returns the exit code, negative for a signal."""
        await self._ended.wait()
        return self.returncode if self.returncode is not None else 255


class Template:
    """Template processes, one after the other.

    Args: plugins, the setting, by whose names the template imports bundled ones.
    """

    def __init__(self, plugins: Sequence[str]) -> None:
        self._plugins = list(plugins)
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._asking = asyncio.Lock()

    async def fork(self, role: str, channel_fd: int, descriptors: Sequence[int]) -> ForkedProcess | None:
        """Return a new child with these descriptors; None when there cannot be one."""
        given = [channel_fd, *descriptors]
        if len(given) > MOST_DESCRIPTORS:
            return None
        request = {"role": role, "parent": os.getpid(), "descriptors": given}
        async with self._asking:
            # The second time with a template of what is on disk now.
            for _ in range(2):
                pid = await self._ask(json.dumps(request).encode(), given)
                if pid is not None:
                    return ForkedProcess(pid)
        return None

    async def _ask(self, request: bytes, descriptors: list[int]) -> int | None:
        if self._channel is None:
            await self._start()
        channel = self._channel
        if channel is None:
            return None
        _be_subreaper(True)
        try:
            socket.send_fds(channel, [request], descriptors)
            loop = asyncio.get_running_loop()
            answer = await asyncio.wait_for(loop.sock_recv(channel, REQUEST_BYTES), _REPLY_S)
            if answer and (pid := json.loads(answer).get("pid")) is not None:
                return int(pid)
        except asyncio.CancelledError:
            # Its answer may still come: nobody must take it for another one's.
            channel.close()
            self._channel = None
            raise
        except (OSError, TimeoutError) as error:
            reason = str(error) or "no answer"
            _log.warning("no process can be forked (%s): it is started from its files", reason)
        finally:
            _be_subreaper(False)
        await self.stop()
        return None

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = ["-m", "headgate.node.template", "--channel-fd", str(theirs.fileno()), *self._plugins]
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *arguments),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=child_environment(),
                )
            except OSError as error:
                _log.warning("no template of processes can be started: %s", error)
                ours.close()
                return
        ours.setblocking(False)
        self._channel = ours

    async def stop(self) -> None:
        """End the template process, if there is one; its children go on."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()


def _be_subreaper(is_one: bool) -> None:
    """Have processes whose parent ends become children of this one, or not; what others leave behind is not ours."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(is_one))
