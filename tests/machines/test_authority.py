"""The installation's authority: whom it signs for, what its certificates say, what it refuses."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from millpond.ground.errors import InvalidError
from millpond.ground.tls import HOST_NAME, Identity, Peer, node_host_name, peer_of
from millpond.machines.authority import Authority, fingerprint_of, make_key, make_request, serial_of

NOW = datetime.now(UTC)


def talk(server: Identity, client: Identity, name: str) -> tuple[Peer | None, Peer | None]:
    """Shake hands over a real socket; give whom the server and whom the client met."""
    ours, theirs = socket.socketpair()
    met: list[Peer | None] = []

    def serve() -> None:
        try:
            with server.server_context(require_client=True).wrap_socket(
                ours, server_side=True
            ) as line:
                met.append(peer_of(line.getpeercert()))
                line.recv(1)
        except ssl.SSLError:
            met.append(None)
        finally:
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.client_context().wrap_socket(theirs, server_hostname=name) as line:
            host = peer_of(line.getpeercert())
            line.send(b"x")
    finally:
        theirs.close()
        thread.join(10)
    return met[0], host


def test_host_and_node_know_each_other(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "keys", NOW)
    host = authority.open_identity(tmp_path / "h", "host", "pond", ["127.0.0.1"], NOW)
    node = authority.open_identity(tmp_path / "n", "node", "n1", [], NOW)
    seen, met = talk(host, node, HOST_NAME)
    assert seen == Peer("node", "n1", serial_of(node.certificate.read_bytes()))
    assert met is not None
    assert (met.role, met.name) == ("host", "pond")
    assert talk(node, host, node_host_name("n1"))[1] == seen


def test_a_node_is_not_taken_for_another(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "keys", NOW)
    one = authority.open_identity(tmp_path / "1", "node", "n1", [], NOW)
    two = authority.open_identity(tmp_path / "2", "node", "n2", [], NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        talk(one, two, node_host_name("n3"))


def test_another_authoritys_certificate_is_refused(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "a", NOW), Authority(tmp_path / "b", NOW)
    host = ours.open_identity(tmp_path / "h", "host", "pond", [], NOW)
    stranger = theirs.open_identity(tmp_path / "n", "node", "n1", [], NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(host, stranger, HOST_NAME)


def test_the_names_that_a_request_asks_for_do_not_count(tmp_path: Path) -> None:
    authority = Authority(tmp_path, NOW)
    key = make_key(tmp_path / "mine.key")
    asked = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:millpond:host:me")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(asked, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    issued = authority.sign(request, "node", "n1", [], NOW)
    held = x509.load_pem_x509_certificate(issued.pem)
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["urn:millpond:node:n1"]


def test_keys_stay_and_are_for_nobody_else(tmp_path: Path) -> None:
    first = Authority(tmp_path / "keys", NOW)
    again = Authority(tmp_path / "keys", NOW)
    assert first.fingerprint == again.fingerprint == fingerprint_of(first.path.read_bytes())
    assert (tmp_path / "keys" / "authority.key").stat().st_mode & 0o777 == 0o600


def test_a_certificate_is_made_anew_before_it_ends_and_for_a_new_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "keys", NOW)

    def serial(hosts: list[str], now: datetime) -> str:
        made = authority.open_identity(tmp_path / "h", "host", "pond", hosts, now)
        return serial_of(made.certificate.read_bytes())

    first = serial(["10.0.0.1"], NOW)
    assert serial(["10.0.0.1"], NOW + timedelta(days=200)) == first
    second = serial(["10.0.0.1", "mill.example"], NOW)
    assert second != first
    assert serial(["10.0.0.1"], NOW + timedelta(days=350)) not in (first, second)


def test_unsound_requests_are_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path, NOW)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    of_another_kind = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(other, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    sound = make_request(make_key(tmp_path / "k.key"))
    broken = sound.replace(sound.splitlines()[1][:8], b"AAAAAAAA")
    for request in (b"", b"no PEM", of_another_kind, broken):
        with pytest.raises(InvalidError, match="unsound"):
            authority.sign(request, "node", "n1", [], NOW)
