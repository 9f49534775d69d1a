"""Lists that exist on both sides of the boundary are the same list."""

from pathlib import Path

from headgate import _engine
from headgate.phases import Phase
from headgate.policy.catalog import load_catalog
from headgate.testing import error_body

_ORDER = Path(__file__).parent / "plugin_order.txt"


def test_engine_and_python_agree_on_phase_bits() -> None:
    assert _engine.PHASES
    assert {name: Phase[name.upper()].value for name in _engine.PHASES} == _engine.PHASES


def test_bundled_plugins_run_in_the_written_order() -> None:
    written = [line.split() for line in _ORDER.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    catalog = load_catalog(["bundled"], [])
    found = sorted(catalog.values(), key=lambda plugin: (plugin.priority, plugin.name), reverse=True)
    assert [(str(plugin.priority), plugin.name) for plugin in found] == [(number, name) for number, name in written]


def test_error_texts_of_the_test_kit_are_the_engines() -> None:
    assert error_body.MESSAGES == _engine.ERROR_MESSAGES
