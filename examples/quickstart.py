"""`make run`: a demo upstream, the gateway before it, and the lines to try.

Waits for the gateway's readiness by event, prints the `curl` lines of README, and ends both on Ctrl-C.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import demo_upstream

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 30
LINES = """
The gateway serves on http://127.0.0.1:8000 (and https on 8443), its Admin API on http://127.0.0.1:8001. Try:

  curl -i http://127.0.0.1:8000/open/hello
  curl -i http://127.0.0.1:8000/private/hello
  curl -i -H 'apikey: alice-secret' http://127.0.0.1:8000/private/hello
  curl -i -H 'X-Mood: rude' http://127.0.0.1:8000/open/hello
  curl -s http://127.0.0.1:8001/status

Ready in {seconds:.1f} s. Ctrl-C stops it.
"""


def main() -> int:
    """Run until the gateway ends or Ctrl-C; return the exit code."""
    os.chdir(ROOT)
    started = time.monotonic()
    try:
        upstream = demo_upstream.start()
    except OSError as error:
        print(f"the demo upstream cannot listen on {demo_upstream.HOST}:{demo_upstream.PORT}: {error}", file=sys.stderr)
        return 1
    ready_read, ready_write = os.pipe()
    program = Path(sys.executable).parent / "headgate"
    gateway = subprocess.Popen(
        [program, "start", "-c", "examples/quickstart.conf"],
        env=os.environ | {"HEADGATE_READY_FD": str(ready_write)},
        pass_fds=(ready_write,),
    )
    os.close(ready_write)
    # Ctrl-C on a terminal reaches the gateway as well; a TERM sent to this process alone is handed on.
    signal.signal(signal.SIGTERM, lambda number, frame: gateway.send_signal(signal.SIGTERM))
    try:
        readable, _, _ = select.select([ready_read], [], [], START_TIMEOUT_S)
        if readable and os.read(ready_read, 1):
            print(LINES.format(seconds=time.monotonic() - started), flush=True)
        elif not readable:
            print(f"the gateway is not ready after {START_TIMEOUT_S} s", file=sys.stderr)
            gateway.terminate()
        return gateway.wait()
    except KeyboardInterrupt:
        gateway.send_signal(signal.SIGINT)
        return gateway.wait()
    finally:
        upstream.shutdown()
        upstream.server_close()


if __name__ == "__main__":
    sys.exit(main())
