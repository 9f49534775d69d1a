"""A small service to stand behind the gateway: answers every request with what it saw of it.

Nothing but the standard library; `start` runs it in a thread.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, PORT = "127.0.0.1", 8090
SHOWN_HEADERS = ("Host", "X-Consumer-Username", "X-Forwarded-Prefix")


class Echo(BaseHTTPRequestHandler):
    """Answers any method with JSON."""

    protocol_version = "HTTP/1.1"
    server_version = "demo-upstream"
    sys_version = ""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: self.headers[name] for name in SHOWN_HEADERS if name in self.headers}
        document = {"you_asked": f"{self.command} {self.path}", "headers": headers}
        body = json.dumps(document).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the gateway's log is what one wants to read."""


def start(port: int = PORT) -> ThreadingHTTPServer:
    """Serve in a thread; the caller shuts it down."""
    server = ThreadingHTTPServer((HOST, port), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
