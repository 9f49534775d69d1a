"""Write the pages of docs/ that are derived from code; with --check only say whether they are current.

Settings come from their declarations, the PDK from its docstrings, checks of configurations from the schema itself, so
that no list is written twice.
"""

import sys
from pathlib import Path

from pdk_page import pdk_page
from schema_page import schema_page

from headgate.config.page import settings_page

DOCS = Path(__file__).resolve().parent.parent / "docs"


def pages() -> dict[str, str]:
    """Return the text of each generated page by file name."""
    return {"settings.md": settings_page(), "pdk.md": pdk_page(), "config-schema.md": schema_page()}


def main(arguments: list[str]) -> int:
    """Write or compare; exit code 1 when a page is not current."""
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        current = path.read_text(encoding="utf-8") if path.exists() else ""
        if current == text:
            continue
        if "--check" in arguments:
            stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    if stale:
        print(f"not current: {', '.join(f'docs/{name}' for name in stale)}; run: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
