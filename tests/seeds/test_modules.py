"""What the plugin pages say of files: a handler module, a schema module, and as many more as the author likes."""

from pathlib import Path

from headgate.policy.catalog import load_catalog
from headgate.testing import Upstream, run_phase

FILES = {
    "__init__.py": '"""A plugin in several modules."""\n',
    "schema.py": """
from headgate import PluginConfig
from .names import DEFAULT_HEADER

class Config(PluginConfig):
    header: str = DEFAULT_HEADER
""",
    "names.py": 'DEFAULT_HEADER = "X-Split"\n',
    "phases/__init__.py": "",
    "phases/headers.py": """
from headgate import kong

def header_filter(conf):
    kong.response.set_header(conf.header, "from another module")
""",
    "handler.py": """
from headgate import Plugin
from .phases import headers
from .schema import Config

class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    def header_filter(self, conf: Config) -> None:
        headers.header_filter(conf)
""",
}


def test_a_plugin_may_be_split_over_several_files(tmp_path: Path) -> None:
    for name, text in FILES.items():
        file = tmp_path / "split_plugin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    plugin = load_catalog(["split-plugin"], [str(tmp_path)])["split-plugin"]
    assert plugin.phases == {"header_filter"}
    result = run_phase(plugin.handler, "header_filter", config={}, response=Upstream(200))
    assert result.headers["x-split"] == "from another module"


def test_a_plugin_needs_version_and_priority(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        'from headgate import Plugin\n\nclass Handler(Plugin):\n    VERSION = "1.2.3"\n    PRIORITY = -5\n',
        encoding="utf-8",
    )
    plugin = load_catalog(["plain"], [str(tmp_path)])["plain"]
    assert (plugin.version, plugin.priority, plugin.phases) == ("1.2.3", -5, frozenset())
