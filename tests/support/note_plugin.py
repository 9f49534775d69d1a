"""The plugin with an entity that tests write: `notes`, each with a label, of a consumer or of nobody."""

from pathlib import Path

HANDLER = """
from headgate import Plugin, PluginConfig

class Handler(Plugin[PluginConfig]):
    VERSION = "1.0.0"
    PRIORITY = 10
"""
RECORD = """
from headgate.schema import EntityDeclaration, Record, field, types

class Note(Record):
    id: types.Id
    label: str = field(unique=True)
    stars: int = 0
    consumer: types.foreign("consumers", on_delete="cascade") | None = None
"""
DAOS = f"""{RECORD}
ENTITIES = [EntityDeclaration(name="notes", model=Note, endpoint_key="label")]
"""
CREATE_TABLE = 'op.create_entity_table("notes", unique=["label"], references={"consumer": ("consumers", "cascade")})'
"""What its first migration does with `op`."""


def write_plugin(directory: Path, name: str = "notes", **modules: str) -> Path:
    """Write the modules of a plugin below a directory of `plugin_path`; returns the plugin's folder.

    Args: modules, the text of each by its name, `migrations__init` for `migrations/__init__`; the handler is there
    already.
    """
    folder = directory / name
    for module, text in {"handler": HANDLER, **modules}.items():
        *packages, last = module.split("__")
        file = folder.joinpath(*packages, "__init__.py" if last == "init" else f"{last}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder
