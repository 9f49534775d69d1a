"""nginx in its two parts: the upstream behind every contender, and the reference proxy.

The reference is configured as fast as the job allows: one worker, HTTP/1.1 with kept connections on both sides, no
access log. For large bodies it may not spill to disk and has large buffers, which is faster than its defaults.
"""

import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from bench.machine import CannotMeasureError, on_processor, program
from tests.support import processes
from tests.support.http1 import wait_until

BODY_BYTES = 200

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

_COMMON = """
{modules}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; multi_accept off; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
{rest}
}}
{outside}
"""

_UPSTREAM = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type text/plain;
        location / {{ return 200 "{body}"; }}
        location /files/ {{ alias {files}/; }}
    }}
"""

_PROXY = """
    upstream main {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://main;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
            proxy_buffer_size 64k;
            proxy_buffers 16 64k;
            proxy_busy_buffers_size 256k;
        }}
    }}
"""


_WEBSOCKET_PROXY = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://127.0.0.1:{upstream_port};
            proxy_http_version 1.1;
            proxy_set_header Connection "upgrade";
            proxy_set_header Upgrade $http_upgrade;
        }}
    }}
"""

# A call is answered by a file with trailers: an internal redirect turns POST into GET.
_GRPC_UPSTREAM = """
    server {{
        listen 127.0.0.1:{port} http2 backlog=4096;
        default_type application/grpc;
        root {files};
        location / {{ error_page 405 =200 /{answer}; return 405; }}
        location = /{answer} {{ internal; add_trailer grpc-status 0 always; }}
    }}
"""

_GRPC_PROXY = """
    upstream main {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} http2 backlog=4096;
        location / {{ grpc_pass grpc://main; }}
    }}
"""

# As large a buffer as the gateway's: with its default of 16k nginx is slower.
_STREAM_PROXY = """
stream {{
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_pass 127.0.0.1:{upstream_port};
        proxy_buffer_size 64k;
        tcp_nodelay on;
    }}
}}
"""


class Nginx:
    """A running nginx; a context manager."""

    def __init__(self, processor: int, configuration: str, *, is_stream: bool = False, **values: object) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="headgate-bench-nginx-")
        directory = Path(self._directory.name)
        directory.chmod(0o755)
        self.port = _free_port()
        rest = configuration.format(port=self.port, **values)
        path = directory / "nginx.conf"
        modules = f"load_module {STREAM_MODULE};" if is_stream else ""
        inside, outside = ("", rest) if is_stream else (rest, "")
        text = _COMMON.format(modules=modules, directory=directory, rest=inside, outside=outside)
        path.write_text(text, encoding="utf-8")
        with on_processor(processor):
            self._process = subprocess.Popen(
                [program("nginx"), "-p", str(directory), "-c", str(path), "-g", "daemon off;"],
                stderr=(directory / "stderr.log").open("wb"),
            )
        if not wait_until(self._accepts):
            self._process.kill()
            raise RuntimeError((directory / "error.log").read_text(encoding="utf-8"))

    @property
    def worker(self) -> int:
        """Process id of the one worker."""
        return processes.children(self._process.pid)[0]

    @classmethod
    def upstream(cls, processor: int, files: Path) -> "Nginx":
        """Answer every path with a small body, and `/files/` from a directory."""
        return cls(processor, _UPSTREAM, body="x" * BODY_BYTES, files=files)

    @classmethod
    def proxy(cls, processor: int, upstream_port: int) -> "Nginx":
        """Pass everything on."""
        return cls(processor, _PROXY, upstream_port=upstream_port)

    @classmethod
    def websocket_proxy(cls, processor: int, upstream_port: int) -> "Nginx":
        """Pass WebSockets on, as tunnels of bytes."""
        return cls(processor, _WEBSOCKET_PROXY, upstream_port=upstream_port)

    @classmethod
    def grpc_upstream(cls, processor: int, files: Path, answer: str) -> "Nginx":
        """Answer every gRPC call with a message kept in a file."""
        return cls(processor, _GRPC_UPSTREAM, files=files, answer=answer)

    @classmethod
    def grpc_proxy(cls, processor: int, upstream_port: int) -> "Nginx":
        """Pass gRPC calls on."""
        return cls(processor, _GRPC_PROXY, upstream_port=upstream_port)

    @classmethod
    def stream_proxy(cls, processor: int, upstream_port: int) -> "Nginx":
        """Pass bytes on without looking into them.

        Raises: CannotMeasureError where nginx has no stream module.
        """
        if not STREAM_MODULE.is_file():
            raise CannotMeasureError("nginx's stream module is not installed (Debian: libnginx-mod-stream)")
        return cls(processor, _STREAM_PROXY, is_stream=True, upstream_port=upstream_port)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._directory.cleanup()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
