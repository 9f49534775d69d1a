"""The files of a new plugin: a package that runs, with tests, that `pip` can build.

Owns their texts and the rule for names. `$name` is the plugin's name, `$package` that of its Python package.
"""

import importlib.util
import keyword
import re
import string
import sys
from pathlib import Path

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_README = """\
# $name

A plugin for the API gateway Headgate.

| file | content |
|---|---|
| `$package/handler.py` | what the plugin does, one method for each phase |
| `$package/schema.py` | what it can be told: fields, defaults, checks |
| `tests/test_$package.py` | tests without a gateway, and one with |
| `gateway.yml` | a configuration to try it with |

## Work on it

    pip install -e '.[test]'
    pytest
    headgate plugin check .
    HEADGATE_PLUGINS=bundled,$name HEADGATE_DECLARATIVE_CONFIG=gateway.yml headgate dev

Then, in another terminal: `curl -i http://127.0.0.1:8000/`. Each time a file is saved, new workers take over.

## Hand it over

    pip wheel --no-deps -w dist .

On the machine that runs the gateway:

    pip install dist/*.whl
    headgate plugin list

and name it in the settings: `plugins = bundled, $name`.
"""

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=70.1"]
build-backend = "setuptools.build_meta"

[project]
name = "headgate-plugin-$name"
dynamic = ["version"]
description = "The Headgate plugin $name."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["headgate"]

[project.optional-dependencies]
test = ["pytest>=8"]

# This line is how the gateway finds the plugin: its name, and the module that has the class Handler.
[project.entry-points."headgate.plugins"]
$name = "$package.handler"

[tool.setuptools]
packages = ["$package"]

[tool.setuptools.dynamic]
version = { attr = "$package.__version__" }

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
"""

_INIT = '''\
"""The plugin $name."""

__version__ = "0.1.0"
'''

_SCHEMA = '''\
"""What the plugin can be told."""

from headgate import PluginConfig
from headgate.schema import field


class Config(PluginConfig):
    """One configuration of the plugin; handlers get it checked and frozen."""

    greeting: str = field("Hello", len_max=200, description="What the response is greeted with.")
    header: str = field("X-Greeting", description="The response header that takes the greeting.")
    refused_agents: list[str] = field(
        default_factory=list, description="Clients whose User-Agent is one of these are refused."
    )
'''

_HANDLER = '''\
"""What the plugin does."""

from headgate import Plugin, kong

# Relative, so that it works installed and from a directory of the setting `plugin_path` alike.
from . import __version__
from .schema import Config


class Handler(Plugin[Config]):
    """One object for each worker serves all requests; what belongs to a request is in `kong.ctx.plugin`."""

    VERSION = __version__
    PRIORITY = 100

    def access(self, conf: Config) -> None:
        """Decide before anything is sent upstream."""
        agent = kong.request.get_header("user-agent")
        if agent is not None and agent in conf.refused_agents:
            kong.response.exit(403, {"message": "not for you"})
        kong.ctx.plugin.path = kong.request.get_path()

    def header_filter(self, conf: Config) -> None:
        """Change the response's head on its way out."""
        kong.response.set_header(conf.header, f"{conf.greeting} from {kong.ctx.plugin.path}")
'''

_CONFTEST = '''\
"""The fixture `gateway`: the real gateway on free ports."""

from headgate.testing.gateway import gateway

__all__ = ["gateway"]
'''

_TEST = '''\
"""The plugin's phases alone, then in a running gateway."""

from importlib.metadata import distributions
from pathlib import Path

from headgate.testing import Request, run_phase
from headgate.testing.gateway import StartGateway

from $package.handler import Handler

CONFIG = {
    "_format_version": "3.0",
    "routes": [{"name": "all", "paths": ["/"]}],
    "plugins": [
        {"name": "$name", "config": {"greeting": "Ahoy"}},
        {"name": "request-termination", "config": {"status_code": 200, "message": "served"}},
    ],
}


def test_response_is_greeted() -> None:
    access = run_phase(Handler, "access", config={}, request=Request(path="/here"))
    assert not access.is_exit
    result = run_phase(Handler, "header_filter", config={"greeting": "Ahoy"}, exchange=access.exchange)
    assert result.headers["x-greeting"] == "Ahoy from /here"


def test_unwanted_client_is_refused() -> None:
    request = Request(headers={"User-Agent": "robot"})
    result = run_phase(Handler, "access", config={"refused_agents": ["robot"]}, request=request)
    assert (result.status, result.is_exit) == (403, True)


def test_gateway_serves_it(gateway: StartGateway) -> None:
    project = Path(__file__).parents[1]
    # Installed, the gateway finds it by itself (pip install -e . keeps it the code that is here).
    found = distributions(name="headgate-plugin-$name")
    is_installed = any(one.locate_file("") != project for one in found)
    running = gateway(CONFIG, plugins="bundled,$name", plugin_path=[] if is_installed else [project])
    answer = running.request("GET", "/here")
    assert answer.status == 200
    assert answer.headers["x-greeting"] == "Ahoy from /here"
'''

_GATEWAY = """\
_format_version: "3.0"

# Try the plugin without an upstream: request-termination answers. In earnest: a service with a url, and its routes.
routes:
- name: all
  paths: [/]

plugins:
- name: $name
  config:
    greeting: Ahoy
- name: request-termination
  config:
    status_code: 200
    message: served
"""

_IGNORED = """\
__pycache__/
*.egg-info/
build/
dist/
"""

_FILES = {
    "README.md": _README,
    "pyproject.toml": _PYPROJECT,
    "gateway.yml": _GATEWAY,
    ".gitignore": _IGNORED,
    "$package/__init__.py": _INIT,
    "$package/handler.py": _HANDLER,
    "$package/schema.py": _SCHEMA,
    "tests/conftest.py": _CONFTEST,
    "tests/test_$package.py": _TEST,
}


def name_fault(name: str, taken: set[str]) -> str | None:
    """Say what keeps a plugin from having this name; None when nothing does.

    Args: `taken` are the names of bundled plugins.
    """
    if _NAME.fullmatch(name) is None:
        return (
            f"'{name}' is no name for a plugin: use lower case letters, digits and single hyphens between them, "
            "a letter first"
        )
    if name in taken:
        return f"a bundled plugin is called '{name}' already"
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        return f"'{name}' is a word of the language Python and cannot be the name of a package"
    if package in ("tests", "test"):
        return f"'{name}' is the name of the folder that holds the tests"
    if package in sys.stdlib_module_names:
        return f"the plugin's package would hide the module {package} of the standard library"
    spec = importlib.util.find_spec(package)
    # A folder of that name in the current directory is found too, as a namespace without a file.
    if spec is not None and spec.origin is not None:
        return f"there is a module {package} already: {spec.origin}"
    return None


def suggested_name(name: str) -> str | None:
    """Return a valid name that looks like a refused one; None when there is none."""
    plain = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")
    return plain if plain != name and _NAME.fullmatch(plain) else None


def write_skeleton(name: str, target: Path) -> list[Path]:
    """Write the files of a plugin below `target`, which must not exist, and return their paths.

    Raises: FileExistsError.
    """
    target.mkdir(parents=True)
    words = {"name": name, "package": name.replace("-", "_")}
    written: list[Path] = []
    for path, text in _FILES.items():
        file = target / string.Template(path).substitute(words)
        file.parent.mkdir(exist_ok=True)
        file.write_text(string.Template(text).substitute(words), encoding="utf-8")
        written.append(file)
    return written
