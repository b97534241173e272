"""How numbers of bytes are written for people: on pages, by commands, and in what they are told."""

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(count: float) -> str:
    """Write bytes in units of a thousand: ``1.5 MB``.

    Limits are told exactly as they were set, such as ``128 MiB``; this is for what was measured.
    """
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_SIZES) - 1:  # noqa: PLR2004 - 1000 when rounded.
        value, unit = value / 1000, unit + 1
    shown = f"{value:.0f}" if unit == 0 or value >= 100 else f"{value:.1f}"  # noqa: PLR2004
    return f"{shown} {_SIZES[unit]}"
