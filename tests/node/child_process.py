"""A stand-in for control and worker in tests of the supervisor: reports as they do and answers with its process id."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from headgate.node.bootstrap import Bootstrap, ParentChannel


def serve(fd: int, bootstrap: Bootstrap) -> None:
    listening = socket.socket(fileno=fd)
    listening.setblocking(True)
    while True:
        connection, _ = listening.accept()
        connection.sendall(f"{bootstrap.role} {bootstrap.index} {bootstrap.generation} {os.getpid()}\n".encode())
        connection.close()


def main() -> None:
    channel = ParentChannel(int(sys.argv[2]))
    bootstrap = channel.read_bootstrap()
    script = Path(bootstrap.settings.prefix / "script")
    orders = script.read_text().split() if script.exists() else []
    if f"{bootstrap.role}-fails" in orders:
        channel.report("fault", faults=[f"{bootstrap.role} fault one", f"{bootstrap.role} fault two"])
        sys.exit(1)
    if f"{bootstrap.role}-dies" in orders:
        os._exit(7)
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: os._exit(0))
    for listener in bootstrap.listeners:
        threading.Thread(target=serve, args=(listener.fd, bootstrap), daemon=True).start()
    if f"{bootstrap.role}-waits" not in orders:
        channel.report("checked")
        channel.report("ready")
    while True:
        time.sleep(1)


main()
