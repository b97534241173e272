"""A certificate that an administrator gives the server: what may be wrong with its files."""

import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from millpond.ground.errors import Fault, InvalidError
from millpond.machines.trust.rules import fits

_CERTIFICATE, _KEY = "server.certificate", "server.certificate_key"


def check_given(certificate: Path, key: Path, url: str, now: datetime) -> datetime:
    """Refuse a certificate that browsers would refuse, or that is not whole; give its end, UTC.

    Args:
        certificate: PEM of it and of those above it, its own first.
        key: PEM of its private key, without a password.
        url: the address that others reach the server by; empty when nobody has said.
        now: UTC.

    Raises:
        InvalidError: something is wrong with them; everything is named.
    """
    faults = list(_find_faults(certificate, key, url, now))
    if faults:
        raise InvalidError(
            "The server cannot use the certificate that it was given: "
            + "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
            + ".",
            next_step=f"Mend {_CERTIFICATE} and {_KEY}, or leave both out: then the server uses"
            " a certificate of its own authority.",
            faults=faults,
        )
    return x509.load_pem_x509_certificates(certificate.read_bytes())[0].not_valid_after_utc


def load_into(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have a listener use a certificate from its next connection on."""
    context.load_cert_chain(certificate, key, password=lambda: "")


def _find_faults(certificate: Path, key: Path, url: str, now: datetime) -> Iterator[Fault]:
    held: x509.Certificate | None = None
    try:
        read = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except OSError as fault:
        yield Fault(_CERTIFICATE, f"{certificate} cannot be read ({fault.strerror})")
    except ValueError:
        yield Fault(_CERTIFICATE, f"{certificate} holds no certificate in PEM")
    else:
        held = read
        yield from _find_faults_inside(read, url, now)
    try:
        secret = serialization.load_pem_private_key(key.read_bytes(), None)
    except OSError as fault:
        yield Fault(_KEY, f"{key} cannot be read ({fault.strerror})")
    except TypeError:
        yield Fault(_KEY, f"{key} has a password; a server that starts alone cannot give it")
    except ValueError:
        yield Fault(_KEY, f"{key} holds no private key in PEM")
    else:
        if held and held.public_key() != secret.public_key():
            yield Fault(_KEY, f"{key} is not of the first certificate in {certificate}")


def _find_faults_inside(held: x509.Certificate, url: str, now: datetime) -> Iterator[Fault]:
    if held.not_valid_after_utc < now:
        yield Fault(_CERTIFICATE, f"it expired on {held.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if held.not_valid_before_utc > now:
        yield Fault(
            _CERTIFICATE,
            f"it is good from {held.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on only; is this"
            " machine's clock right?",
        )
    host, names = urlsplit(url).hostname or "", _names_of(held)
    if host and not fits(host, names):
        listed = ", ".join(names[:5]) or "nothing"
        yield Fault(_CERTIFICATE, f"it is for {listed}, not for {host} of server.url")


def _names_of(held: x509.Certificate) -> list[str]:
    try:
        names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
