"""Who calls when a proxy stands in between: taken from a header, and only from known proxies."""

import ipaddress
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BehindProxies:
    """Puts the caller's own address in the place of a trusted proxy's."""

    def __init__(self, app: ASGIApp, trusted: str) -> None:
        """Take the application and the proxies' addresses or networks, comma-separated."""
        self._app = app
        self._trusted = [ipaddress.ip_network(each) for each in split_addresses(trusted)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass."""
        if scope["type"] == "http" and scope.get("client"):
            peer, port = scope["client"]
            caller = self.caller_of(peer, _forwarded(scope["headers"]))
            scope["client"] = (caller, port if caller == peer else 0)
        await self._app(scope, receive, send)

    def caller_of(self, peer: str, forwarded: list[str]) -> str:
        """Give the right-most address that is no proxy of ours; callers make up what is left."""
        caller = peer
        for text in reversed(forwarded):
            if not self._is_trusted(caller):
                break
            address = _address(text)
            if address is None:
                break
            caller = str(address)
        return caller

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def split_addresses(text: str) -> list[str]:
    """Split a list of addresses or networks at its commas."""
    return [each.strip() for each in text.split(",") if each.strip()]


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    found = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [each for value in found for each in split_addresses(value)]


def _address(text: str) -> Address | None:
    """Read an address, with or without a port."""
    plain = text.strip()
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
