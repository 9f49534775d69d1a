"""The documentation page of all settings, derived from the registry.

Owns its layout; `python -m headgate.config.page` prints it, and the build of the documentation writes it to a file.
"""

import sys

from headgate.config.load import SECTIONS
from headgate.config.setting import declared


def settings_page() -> str:
    """Return the Markdown page: one table per section, in the order of declaration."""
    lines = [
        "# Settings",
        "",
        "Sources, the first that gives a value wins: command line, `HEADGATE_<NAME>`, `KONG_<NAME>`, the settings file "
        "(`-c`, else `/etc/headgate/headgate.conf`, `/etc/headgate.conf`, `/etc/kong/kong.conf`, `/etc/kong.conf`), "
        "the default. `headgate check` shows every fault at once.",
        "",
    ]
    for section in SECTIONS:
        summary = (section.__doc__ or "").strip().splitlines()[0]
        lines += [f"## {summary}", "", "| name | kind | default | meaning |", "|---|---|---|---|"]
        for entry in declared(section):
            default = f"`{entry.default}`" if entry.default else "none"
            if entry.name == "prefix":
                default = "`/usr/local/headgate/` for root, else `~/.headgate`"
            also = f" Also: {', '.join(f'`{alias}`' for alias in entry.aliases)}." if entry.aliases else ""
            lines.append(f"| `{entry.name}` | {entry.kind.label} | {default} | {entry.doc}{also} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(settings_page())
