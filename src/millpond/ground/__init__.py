"""Ground: errors, ids, clock, units, settings, Actor and page; the standard library alone."""
