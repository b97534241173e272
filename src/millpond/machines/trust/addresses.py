"""The names and addresses by which this machine is reached."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress

import psutil

_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))
"""Addresses for documentation, which nobody has (RFC 5737, RFC 3849): nothing is sent to them."""


def own_names() -> Iterator[str]:
    """Give this machine's name and its addresses, but for those that it alone reaches."""
    yield socket.gethostname()
    yield from own_addresses()


def own_addresses() -> Iterator[str]:
    """Give this machine's addresses on networks, in the order of its interfaces."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family in (socket.AF_INET, socket.AF_INET6) and _is_reached(one.address):
                yield one.address


def first_address() -> str:
    """Give the address that others most likely reach this machine by; empty without a network."""
    for elsewhere, family in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))  # Asks for the way there; no packet goes out.
            address = str(probe.getsockname()[0])
            if _is_reached(address):
                return address
    return next(own_addresses(), "")


def _is_reached(address: str) -> bool:
    try:
        read = ipaddress.ip_address(address)
    except ValueError:  # Of one link only, as fe80::1%eth0.
        return False
    return not (read.is_loopback or read.is_link_local or read.is_unspecified)
