"""The generated documentation page."""

from headgate.config.load import SETTINGS
from headgate.config.page import settings_page


def test_page_has_a_row_for_every_setting_once() -> None:
    page = settings_page()
    assert [name for name in SETTINGS if page.count(f"| `{name}` |") != 1] == []
