"""Decide how a server speaks, which names its certificate holds, and what is said about both."""

from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import urlsplit

from millpond.ground.errors import Fault, InvalidError
from millpond.ground.findings import Finding
from millpond.ground.settings import ClusterSettings, ServerSettings
from millpond.machines.trust.values import Way

EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared only.
SOON = timedelta(days=14)
NOT_ENCRYPTED = "Not encrypted: passwords and data can be read on their way."


def choose_way(server: ServerSettings, *, is_near: bool) -> Way:
    """Choose how the server speaks.

    Args:
        server: what was chosen.
        is_near: whether only this machine reaches the address that it listens on.
    """
    if server.certificate:
        return "given"
    if is_near:
        return "own" if server.tls else "near"
    return "open" if server.insecure else "own"


def scheme_of(way: Way) -> str:
    """Give the scheme of addresses: ``http`` or ``https``."""
    return "https" if way in ("own", "given") else "http"


def is_plain(way: Way, url: str) -> bool:
    """Tell whether readers must be warned: what they send can be read on its way."""
    return way == "open" and not url.startswith("https:")


def hosts_of(
    server: ServerSettings, cluster: ClusterSettings, machine: Iterable[str]
) -> tuple[str, ...]:
    """Give the names and addresses that the host's certificate holds, each once.

    Args:
        server: where it listens, and the address that others reach it by.
        cluster: the address that nodes reach it by.
        machine: the machine's own name and addresses.
    """
    named = (urlsplit(server.url).hostname or "", cluster.address, server.host)
    wanted = (*named, "localhost", "127.0.0.1", "::1", *machine)
    return tuple(dict.fromkeys(host for host in map(write_host, wanted) if host))


def write_host(host: str) -> str:
    """Write a name as certificates hold it; empty when they cannot."""
    if host in EVERYWHERE or "%" in host:
        return ""
    try:
        return host.strip().lower().encode("ascii" if host.isascii() else "idna").decode()
    except UnicodeError:
        return ""


def fits(host: str, names: Iterable[str]) -> bool:
    """Tell whether a certificate with these names is good for a host (RFC 6125, 6.4.3)."""
    wanted = write_host(host)
    _, _, parent = wanted.partition(".")
    held = {name.lower() for name in names}
    return wanted in held or bool(parent and f"*.{parent}" in held)


def url_for_others(server: ServerSettings, cluster: ClusterSettings, near: str, first: str) -> str:
    """Give the address that others reach the server by.

    Args:
        server: where it listens; its ``url`` wins.
        cluster: the address that nodes reach it by is the next best.
        near: the address by which this machine reaches it.
        first: the machine's first address on a network; empty without a network.
    """
    host = cluster.address or first
    if server.url:
        url = server.url
    elif server.host not in EVERYWHERE or not host:
        url = near
    else:
        port = urlsplit(near).port
        url = f"{urlsplit(near).scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    scheme, _, place = url.rstrip("/").partition("://")
    # Browsers leave these out where they say whence they come.
    return f"{scheme}://{place.removesuffix({'https': ':443', 'http': ':80'}.get(scheme, ''))}"


def check_url(server: ServerSettings, way: Way) -> None:
    """Refuse an address that promises plain HTTP where TLS is spoken.

    Raises:
        InvalidError: so it is.
    """
    if scheme_of(way) == "https" and server.url.startswith("http:"):
        fault = "begins with http://, but the server speaks TLS there"
        raise InvalidError(
            f"server.url {fault}.",
            next_step="Write it with https://. Plain HTTP on a network needs --insecure"
            " (server.insecure).",
            faults=[Fault("server.url", fault)],
        )


def is_pinned(server: ServerSettings, way: Way) -> bool:
    """Tell whether others must pin our own authority: no proxy shows them another's."""
    return way == "own" and not server.trusted_proxies


def login_line(url: str, fingerprint: str = "") -> str:
    """Give the command by which others sign in, and pin the authority if it is our own."""
    return f"millpond login {url}" + (f" --fingerprint {fingerprint}" if fingerprint else "")


def finding_of(way: Way, url: str, fingerprint: str, left: timedelta | None = None) -> Finding:
    """Say how the server is reached.

    Args:
        way: how it speaks.
        url: the address that others reach it by.
        fingerprint: of its own authority.
        left: how long a given certificate is still good.
    """
    if way == "near":
        return Finding("connections", "ok", "plain HTTP, from this machine alone")
    if way == "own":
        told = f"TLS by its own authority, fingerprint {fingerprint}"
        return Finding("connections", "ok", told)
    if way == "given" and left is not None and left < SOON:
        words = (
            f"the certificate ends in {left.days} days" if left > timedelta() else "it has ended"
        )
        return Finding(
            "connections", "warning", f"TLS with the certificate of server.certificate: {words}",
            "Renew it and put the files in place of the old ones: the server takes them up within"
            " an hour.",
        )  # fmt: skip
    if way == "given":
        return Finding("connections", "ok", "TLS with the certificate of server.certificate")
    if url.startswith("https:"):
        return Finding(
            "connections", "warning",
            f"others come by {url}, but plain HTTP goes from the proxy there to this server",
            "Leave server.insecure out where that network is not your own; have the proxy speak"
            " HTTPS to this server.",
        )  # fmt: skip
    return Finding(
        "connections", "warning", NOT_ENCRYPTED,
        "Start the server without --insecure (server.insecure): then it speaks TLS.",
    )  # fmt: skip
