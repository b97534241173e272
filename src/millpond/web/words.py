"""How numbers, sizes and times are written on pages."""

import json
from datetime import UTC, datetime

from markupsafe import Markup, escape

from millpond.ground.units import size_text

NOTHING = "\N{EN DASH}"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def write_size(count: float | None) -> str:
    """Write bytes in units of a thousand: ``1.5 MB``; a dash for None."""
    return NOTHING if count is None else size_text(count)


def write_number(value: float | None) -> str:
    """Write a number with thin spaces between thousands; a dash for None."""
    if value is None:
        return NOTHING
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def write_amount(value: float | None, places: int = 3) -> str:
    """Write hours or money with so many places; what they cannot show is less than the least."""
    if value is None:
        return NOTHING
    least = 10.0**-places
    text = f"< {least:.{places}f}" if 0 < value < least else f"{value:,.{places}f}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def write_duration(seconds: float | None) -> str:
    """Write seconds as people say them: ``40 ms``, ``0.4 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 10:  # noqa: PLR2004
        is_short = 0 < seconds < 0.1  # noqa: PLR2004
        return f"{max(seconds * 1000, 1):.0f} ms" if is_short else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def write_time(when: datetime | None) -> Markup:
    """Write a time that the page's script shows in the reader's zone; a dash for None."""
    if when is None:
        return Markup("{}").format(NOTHING)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    text = when.astimezone(UTC)
    shown = f"{text:%Y-%m-%d %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(text.isoformat(), shown)


def write_json(value: object) -> str:
    """Write JSON for an attribute or for reading; the template escapes it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def write_coded(text: str) -> Markup:
    """Write words in which `commands` stand between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # One without its end is no command.
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def write_pretty(value: object) -> Markup:
    """Write JSON over several lines, to be read."""
    text = json.dumps(value, ensure_ascii=False, default=str, indent=2)
    return Markup('<pre class="mb-0" tabindex="0">{}</pre>').format(escape(text))
