"""Whom a connection by TLS trusts: authorities that this machine knows, or one that was pinned."""

import hashlib
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from millpond.client.config import config_path, write_private
from millpond.client.faults import UnreachableError
from millpond.ground.errors import Fault, InvalidError, MillpondError, NotAllowedError

_DIGITS = 64
_PREFIX_DIGITS = 16
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_WRONG_NAMES = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_NOT_YET, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.


class UntrustedError(NotAllowedError):
    """The server cannot prove that it is the one that is meant; nothing was sent to it."""


@dataclass(frozen=True)
class Trust:
    """Certificates that are trusted beside none.

    Attributes:
        pem: of the authority; of the server itself when ``is_exact``.
        is_exact: whether it is the server's own, whatever the name it is reached by: for a
            server of this machine, which says so in a file.
    """

    pem: str
    is_exact: bool = False

    def context(self) -> ssl.SSLContext:
        """Make the context of a connection.

        Raises:
            InvalidError: what was kept is no certificate.
        """
        try:
            made = ssl.create_default_context(cadata=self.pem)
        except (ssl.SSLError, ValueError) as fault:
            raise InvalidError(
                f"What should be trusted is no certificate ({fault}).",
                next_step="Sign in again: millpond login URL --fingerprint HEX.",
            ) from fault
        if self.is_exact:
            made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            made.check_hostname = False
        return made


TrustIn = Trust | Callable[[], Trust | None] | None
"""What a connection is told to trust; asked at its first call; None: what this machine knows."""


def fingerprint_of(pem: str) -> str:
    """Give a certificate's SHA-256, upper-case hexadecimal.

    Raises:
        InvalidError: it is no certificate.
    """
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    except ValueError as fault:
        raise InvalidError(
            "What the server sent is no certificate.", next_step="Is it the right address?"
        ) from fault


def read_fingerprint(text: str, digits: int = _DIGITS) -> str:
    """Read a fingerprint as people type it, with colons or spaces, in either case.

    Raises:
        InvalidError: it is none, or shorter than so many digits.
    """
    plain = "".join(c for c in text if c not in ": -\t").upper()
    if not digits <= len(plain) <= _DIGITS or set(plain) - set("0123456789ABCDEF"):
        raise InvalidError(
            f"{text[:100]!r} is no fingerprint: {digits} hexadecimal digits are needed.",
            next_step="Copy the whole line that `millpond up` or the page /admin/health shows.",
            faults=[Fault("fingerprint", f"has {len(plain)} characters, not {digits} digits")],
        )
    return plain


def shown(fingerprint: str) -> str:
    """Write a fingerprint for people to compare, in groups of four."""
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def check_fingerprint(url: str, pem: str, wanted: str) -> Trust:
    """Trust an authority whose fingerprint is, or begins as, the one that was told.

    Raises:
        UntrustedError: it is another.
    """
    found, told = fingerprint_of(pem), read_fingerprint(wanted, _PREFIX_DIGITS)
    if not found.startswith(told):
        raise UntrustedError(
            f"{url} is not the server that this fingerprint is of. It has {found}, and you gave"
            f" {told}. Nothing was sent to it.",
            next_step="Somebody may stand in between, or the server was installed anew: ask its"
            " administrator for the line that /admin/health shows.",
            fingerprint=found,
        )
    return Trust(pem)


class KnownServers:
    """The authorities of servers that this user has signed in to, in a file beside the config."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Find the file."""
        known = os.environ if environ is None else environ
        self._path = config_path(known).with_name("authorities.json")

    def get(self, url: str) -> Trust | None:
        """Give what is known of the server at an address."""
        pem = self._read().get(origin_of(url))
        return Trust(pem) if pem else None

    def keep(self, url: str, trust: Trust | None) -> None:
        """Remember the authority of the server at an address; None forgets it."""
        kept = self._read()
        if trust is None and origin_of(url) not in kept:
            return
        kept.pop(origin_of(url), None)
        if trust is not None:
            kept[origin_of(url)] = trust.pem
        write_private(self._path, json.dumps(kept, indent=1))

    def _read(self) -> dict[str, str]:
        try:
            kept = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as fault:
            raise InvalidError(
                f"{self._path} cannot be read ({fault}).",
                next_step="Mend or remove it, and sign in again with --fingerprint.",
            ) from fault
        return {str(k): str(v) for k, v in kept.items()} if isinstance(kept, dict) else {}


def origin_of(url: str) -> str:
    """Give scheme, name and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def read_trust(authority: str, certificate: str) -> Trust | None:
    """Read the file of an authority, or of a server's own certificate, whichever there is."""
    with suppress(OSError, UnicodeDecodeError):
        if authority:
            return Trust(Path(authority).read_text())
        if certificate:
            return Trust(Path(certificate).read_text(), is_exact=True)
    return None


def explain(url: str, fault: BaseException, *, is_pinned: bool) -> MillpondError | None:
    """Say in our words why TLS failed; None when it did not."""
    broken = next((each for each in _causes(fault) if isinstance(each, ssl.SSLError)), None)
    if broken is None:
        return None
    if isinstance(broken, ssl.SSLCertVerificationError):
        return _explain_certificate(url, broken, is_pinned=is_pinned)
    reason = getattr(broken, "reason", None) or str(broken)  # Python's own have none.
    if reason in _NOT_TLS:
        plain = url.replace("https://", "http://", 1)
        return InvalidError(
            f"The server at {url} does not speak TLS.",
            next_step=f"If it is one of this machine, use {plain}; else ask its administrator.",
        )
    return UnreachableError(
        f"No secret connection to {url} came about ({reason}).",
        next_step="Is it the right port? A proxy in between may also break TLS.",
    )


def _explain_certificate(
    url: str, fault: ssl.SSLCertVerificationError, *, is_pinned: bool
) -> UntrustedError:
    host = urlsplit(url).hostname or ""
    if fault.verify_code in _WRONG_NAMES:
        return UntrustedError(
            f"The certificate of {url} is not for the name {host!r}.",
            next_step="Use a name or address that it is for; an administrator adds one with"
            " `server.url` or `cluster.address` and starts the server again.",
        )
    if fault.verify_code in (_EXPIRED, _NOT_YET):
        word = "has expired" if fault.verify_code == _EXPIRED else "is not good yet"
        return UntrustedError(
            f"The certificate of {url} {word}, going by this machine's clock.",
            next_step="Check the clock; else let an administrator start the server again, which"
            " renews its own, or give it another certificate.",
        )
    if is_pinned:
        return UntrustedError(
            f"{url} is not signed by the authority that was kept for it. Somebody may stand in"
            " between, or the server was installed anew. Nothing was sent to it.",
            next_step="Ask its administrator. If it is right, sign in again with the line that"
            f" /admin/health shows: millpond login {url} --fingerprint HEX.",
        )
    return UntrustedError(
        f"{url} is not signed by an authority that this machine knows"
        f" ({fault.verify_message}). Nothing was sent to it.",
        next_step="If it has an authority of its own, sign in with the line that its"
        f" administrator sees at /admin/health: millpond login {url} --fingerprint HEX. If"
        " your organisation has one, name its file in SSL_CERT_FILE.",
        is_unknown=True,
    )


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__ or fault.__context__
