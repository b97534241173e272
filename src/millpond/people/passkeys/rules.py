"""Decide where passkeys are good, and when another may be made."""

import ipaddress
from datetime import timedelta
from urllib.parse import urlsplit

from millpond.ground.errors import Fault
from millpond.people.passkeys.values import Place

CHALLENGE_LIFE = timedelta(minutes=5)
CHALLENGES_PER_ADDRESS = 300
PASSKEYS_MOST = 20
NAME_LENGTH = 80


def place_of(url: str, host: str) -> Place | None:
    """Give where passkeys are good on this server; None where browsers take none.

    They take them by TLS at a name, and at ``localhost``, which a server that only this machine
    reaches has as well: its own address may be the number.

    Args:
        url: the address by which others reach this server.
        host: the Host header that the request came with.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    if parts.scheme == "https":
        return None if _is_number(name) else Place(name, f"https://{parts.netloc.lower()}")
    asked = urlsplit(f"//{host}").hostname or ""
    if _is_loopback(name) and asked == "localhost":
        return Place("localhost", f"http://{host.lower()}")
    return None


def local_address(url: str) -> str:
    """Give the address of the same server where passkeys are good; empty when there is none."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
        return ""
    return f"http://localhost:{parts.port or 80}"


def faults_of_passkey_name(name: str) -> list[Fault]:
    """Say what is wrong with what somebody calls a passkey."""
    if not 1 <= len(name) <= NAME_LENGTH:
        return [Fault("name", f"has {len(name)} characters; 1 to {NAME_LENGTH} are allowed")]
    return [] if name.isprintable() else [Fault("name", "holds characters that are not shown")]


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_number(name) and ipaddress.ip_address(name).is_loopback)
