"""From an empty folder to a plugin in a running gateway, each step with its command: what `make plugin-example` runs.

The wheel is installed into a folder of its own, as on another machine, and nothing of this checkout's environment is
changed.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from headgate.testing.gateway import Gateway

WORK = Path(__file__).resolve().parent.parent / "build" / "plugin-example"


def show(arguments: str, *, cwd: Path) -> None:
    """Print a command and run it with this Python's tools."""
    print(f"\n$ {arguments}", flush=True)
    program, *rest = shlex.split(arguments)
    module = {"headgate": ["headgate"], "pip": ["pip", "--quiet"], "pytest": ["pytest"]}[program]
    subprocess.run([sys.executable, "-m", *module, *rest], cwd=cwd, check=True)


def main() -> None:
    """Write, test, build, install, list and serve the plugin `hello`."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    show("headgate plugin new hello", cwd=WORK)
    show("headgate plugin check hello", cwd=WORK)
    show("pytest -q hello", cwd=WORK)
    # Without a network: the build backend is that of the environment, and headgate itself is there already.
    show("pip wheel --no-deps --no-index --no-build-isolation -w dist ./hello", cwd=WORK)
    (wheel,) = (WORK / "dist").glob("*.whl")
    show(f"pip install --no-deps --no-index --target site dist/{wheel.name}", cwd=WORK)
    os.environ["PYTHONPATH"] = str(WORK / "site")
    show("headgate plugin list", cwd=WORK)
    print("\n$ headgate start    # with plugins = bundled, hello and declarative_config = hello/gateway.yml")
    with Gateway(WORK / "hello" / "gateway.yml", plugins="bundled,hello") as running:
        answer = running.request("GET", "/here")
        print(f"$ curl -i {running.base_url}/here")
        print(f"HTTP/1.1 {answer.status}\nX-Greeting: {answer.headers['x-greeting']}")


if __name__ == "__main__":
    main()
