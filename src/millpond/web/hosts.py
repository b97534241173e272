"""Names that a server answers to, so that no web page can make a browser use it.

A page whose own name is pointed at this machine (DNS rebinding) comes with that name as Host; a
page of another origin comes with its Origin. No page comes with an address that is a number.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from millpond.ground.errors import NotAllowedError

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Hosts:
    """The names, besides addresses in numbers and ``localhost``."""

    def __init__(self, urls: Iterable[str] = (), *, is_any: bool = True) -> None:
        """Take the addresses of this server.

        Args:
            urls: by which others reach it; their names are its own.
            is_any: whether other names are its own too: a server that others reach by names
                nobody has told it.
        """
        self._places = frozenset(urlsplit(url).netloc.lower() for url in urls)
        self._names = frozenset(name_of(place) for place in self._places)
        self._is_any = is_any

    def check(self, method: str, host: str, origin: str) -> None:
        """Refuse a request that a foreign page may have sent.

        Raises:
            NotAllowedError: the Host is none of ours, or it would change something and comes
                from a page of another origin.
        """
        name = name_of(host)
        if not (self._is_any or is_numeric_or_local(host) or name in self._names):
            raise NotAllowedError(
                f"This server does not answer to the name {name[:100]!r}.",
                next_step="Use its own address, or let an administrator set `server.url` to the"
                " address that others reach it by.",
            )
        if origin and method not in READING:
            place = urlsplit(origin).netloc.lower()
            if not place or place not in {host.lower(), *self._places}:
                raise NotAllowedError(
                    f"A page of {origin[:100]!r} may not change anything here.",
                    next_step="Use a program, or let an administrator set `server.url` to the"
                    " address that others reach this server by.",
                )


def name_of(place: str) -> str:
    """Give the name in a Host header, without its port."""
    if place.startswith("["):
        return place[1:].partition("]")[0].lower()
    return place.partition(":")[0].rstrip(".").lower()


def is_numeric_or_local(host: str) -> bool:
    """Tell whether a Host header names a number or this machine itself; also when it is empty."""
    name = name_of(host)
    if not host or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
