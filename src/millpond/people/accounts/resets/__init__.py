"""Forgotten passwords: a link, good once, that sets a new one."""
