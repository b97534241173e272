"""Two plots as inline SVG: no script, no style attribute, colours from the page's own style."""

from html import escape
from typing import Any

WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 14, 22
_BAR, _LABEL = 17, 118
_BARS_MOST = 10
_LETTERS = 18


def plot(column: dict[str, Any]) -> str:
    """Draw what fits a column's statistics; nothing when there is nothing to see."""
    if "histogram" in column and len(column["histogram"]["counts"]) > 1:
        return histogram(column["name"], column["histogram"])
    values = column.get("most_frequent") or []
    if values and values[0]["count"] > 1:  # A bar for each of many single values tells nothing.
        return bars(column["name"], [(each["value"], each["count"]) for each in values])
    return ""


def histogram(name: str, facts: dict[str, Any]) -> str:
    """Draw counts in equal bins from ``facts["from"]`` to ``facts["to"]``."""
    counts = facts["counts"]
    highest = max(counts) or 1
    room, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    step = room / len(counts)
    least, most = facts["from"], facts["to"]
    width = (most - least) / len(counts)
    shapes = []
    for place, count in enumerate(counts):
        height = max(count / highest * tall, 1.0 if count else 0.0)
        low = least + place * width
        shapes.append(
            f'<rect class="bar" x="{_LEFT + place * step + 0.5:.1f}"'
            f' y="{_TOP + tall - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}">'
            f"<title>{number(low)} to {number(low + width)}: {count:,}</title></rect>"
        )
    floor = HEIGHT - _BOTTOM
    shapes += [
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{WIDTH - _RIGHT}" y2="{floor}"/>',
        f'<text x="{_LEFT}" y="{HEIGHT - 8}">{number(least)}</text>',
        f'<text class="end" x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}">{number(most)}</text>',
        f'<text x="{_LEFT}" y="10">{highest:,}</text>',
    ]
    return _svg(f"Histogram of {name}", HEIGHT, shapes)


def bars(name: str, values: list[tuple[str, int]]) -> str:
    """Draw the most frequent values as bars, the most frequent on top."""
    shown = values[:_BARS_MOST]
    highest = max(count for _, count in shown) or 1
    room = WIDTH - _LABEL - 56
    shapes = []
    for place, (value, count) in enumerate(shown):
        y = 4 + place * _BAR
        length = max(count / highest * room, 1.0)
        shapes.append(
            f"<g><title>{text(value)}: {count:,}</title>"
            f'<text class="end" x="{_LABEL - 6}" y="{y + 11}">{text(clip(value))}</text>'
            f'<rect class="bar" x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR - 4}"/>'
            f'<text x="{_LABEL + length + 5:.1f}" y="{y + 11}">{count:,}</text></g>'
        )
    return _svg(f"Most frequent values of {name}", 8 + _BAR * len(shown), shapes)


def _svg(title: str, height: int, shapes: list[str]) -> str:
    label = text(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
        f' aria-label="{label}">{"".join(shapes)}</svg>'
    )


def text(value: object) -> str:
    """Write anything as text for HTML: escaped, control characters made visible."""
    plain = "".join(_visible(letter) for letter in str(value))
    return escape(plain, quote=True)


def _visible(letter: str) -> str:
    if letter.isprintable() or letter == " ":
        return letter
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def clip(value: str, letters: int = _LETTERS) -> str:
    """Shorten a text in its middle."""
    if len(value) <= letters:
        return value
    half = (letters - 1) // 2
    return f"{value[: letters - half - 1]}…{value[-half:]}"


def number(value: float | None) -> str:
    """Write a number short enough for a label."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash for people.
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):  # noqa: PLR2004
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"  # noqa: PLR2004 - taste.
