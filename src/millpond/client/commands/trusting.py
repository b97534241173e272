"""Make sure of a server before anything is told to it: what `login` and its likes begin with."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from millpond.client.call import Call
from millpond.client.faults import UnreachableError
from millpond.client.local import default_data_folder, find_servers
from millpond.client.transport import Transport, ask_authority, fetch_authority
from millpond.client.trust import (
    KnownServers,
    Trust,
    UntrustedError,
    fingerprint_of,
    read_fingerprint,
    shown,
)
from millpond.ground.errors import BusyError, InvalidError, MillpondError

F = TypeVar("F", bound=Callable[..., Any])


def fingerprint_option(function: F) -> F:
    """Give a command a way to be told whom to trust."""
    return click.option(
        "--fingerprint",
        metavar="HEX",
        help="Trust the server whose own authority has this fingerprint.",
    )(function)


def meet(call: Call, url: str, fingerprint: str | None = None) -> Transport:
    """Open a connection to a server once it is known to be the one that is meant.

    Args:
        call: the command's.
        url: the server's address.
        fingerprint: of its authority; else MILLPOND_FINGERPRINT; else what was kept for it is
            taken, else what this machine knows, else a person is asked.

    Raises:
        UntrustedError: it is another server, or nobody is there to say.
        UnreachableError: no answer.
        InvalidError: a fingerprint for an address without TLS.
    """
    return Transport(url, trust=_find_trust(call, url, fingerprint))


def _find_trust(call: Call, url: str, fingerprint: str | None) -> Trust | None:
    if not url.startswith("https:"):
        if fingerprint:
            raise InvalidError(
                f"A fingerprint is of a server that speaks TLS, and {url} says plain HTTP.",
                next_step="Begin the address with https://, as /admin/health shows it.",
            )
        return None
    known = KnownServers()
    if wanted := fingerprint or os.environ.get("MILLPOND_FINGERPRINT"):
        return _pin(url, fetch_authority(url, read_fingerprint(wanted)), known)
    folders = [default_data_folder(os.environ), *map(Path, call.config().data_folders)]
    near = (one.trust_at(url) for one in find_servers(folders) if one.is_at(url))
    if told := next(near, None):
        return told
    if kept := known.get(url):
        return _try_kept(call, url, kept, known)
    try:
        _try(url, None)
    except UntrustedError as fault:
        if not fault.facts.get("is_unknown"):
            raise
        return _pin(url, _ask(call, url, fault), known)
    return None


def _pin(url: str, trust: Trust, known: KnownServers) -> Trust:
    _try(url, trust)  # The authority may be the right one, and yet have signed another's name.
    known.keep(url, trust)
    return trust


def _try_kept(call: Call, url: str, kept: Trust, known: KnownServers) -> Trust | None:
    """Take the authority that was kept; or the machine's, when the server went over to these."""
    try:
        _try(url, kept)
    except UntrustedError as fault:
        try:
            _try(url, None)
        except UntrustedError:
            raise fault from None
        known.keep(url, None)
        call.tell(f"{url} is signed by an authority that this machine knows now; the one kept"
                  " for it is forgotten.")  # fmt: skip
        return None
    return kept


def _ask(call: Call, url: str, unknown: UntrustedError) -> Trust:
    """Show the fingerprint of a server's own authority, and let a person say yes."""
    try:
        trust = Trust(ask_authority(url))
        _try(url, trust)
    except UnreachableError:
        raise
    except MillpondError:
        raise unknown from None  # It has no authority of its own, or is not signed by it.
    if call.as_json or not sys.stdin.isatty():
        raise UntrustedError(
            f"{url} has an authority of its own, and nobody is here to compare its fingerprint.",
            next_step="Give the one that its administrator told you (/admin/health shows the"
            f" line): millpond login {url} --fingerprint HEX.",
        )
    call.tell(f"{url} has an authority of its own. Its fingerprint is\n")
    call.tell(f"  {shown(fingerprint_of(trust.pem))}\n")
    call.confirm("Is that what its administrator told you?", yes=False)
    return trust


def _try(url: str, trust: Trust | None) -> None:
    """Make sure that a connection comes about; what state the server is in does not matter."""
    transport = Transport(url, trust=trust, patience_seconds=0)
    try:
        transport.get("/healthz")
    except UnreachableError:
        raise
    except BusyError:
        pass
    finally:
        transport.close()
