"""What every template keeps to that a page shows at some moments only, when no browser may look."""

import re
from pathlib import Path

import pytest

import millpond

ROOT = Path(millpond.__file__).parent
_NAMED = re.compile(r"<(?:pre|span|div|p|b|i|code|td)(?: [^>]*)? aria-label(?:ledby)?=[^>]*>")


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.html")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_has_a_name_for_screen_readers_has_a_role(path: Path) -> None:
    assert [each for each in _NAMED.findall(path.read_text()) if " role=" not in each] == []
