"""How a server speaks, what its certificate holds, and which given certificates it refuses."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from millpond.ground.errors import InvalidError
from millpond.ground.settings import ClusterSettings, ServerSettings, Settings, load_settings
from millpond.machines.authority import Authority, fingerprint_of
from millpond.machines.trust import rules
from millpond.machines.trust.addresses import first_address, own_addresses, own_names
from millpond.machines.trust.given import check_given
from millpond.machines.trust.host import HostTls

NOW = datetime.now(UTC)
GIVEN = {"certificate": "c", "certificate_key": "k"}


@pytest.mark.parametrize(
    ("chosen", "is_near", "way", "scheme"),
    [
        ({}, True, "near", "http"),
        ({"insecure": True}, True, "near", "http"),
        ({"tls": True}, True, "own", "https"),
        ({}, False, "own", "https"),
        ({"insecure": True}, False, "open", "http"),
        (GIVEN, False, "given", "https"),
        (GIVEN, True, "given", "https"),
    ],
)
def test_beyond_loopback_a_server_speaks_tls_unless_told_otherwise(chosen, is_near, way, scheme):
    found = rules.choose_way(ServerSettings(**chosen), is_near=is_near)
    assert (found, rules.scheme_of(found)) == (way, scheme)


def test_contradictions_are_told():
    with pytest.raises(InvalidError) as caught:
        load_settings(None, {"MILLPOND_SERVER_CERTIFICATE": "c", "MILLPOND_SERVER_INSECURE": "1"})
    assert [fault.field for fault in caught.value.faults] == [
        "server.certificate_key",
        "server.insecure",
    ]


def test_a_host_is_certified_for_every_name_it_is_reached_by():
    server = ServerSettings(host="0.0.0.0", url="https://Mill.lab:8787/")
    cluster = ClusterSettings(address="10.1.2.3")
    found = rules.hosts_of(server, cluster, ["box", "192.0.2.7", "fe80::1%eth0", "mühle", "box"])
    assert found == (
        "mill.lab", "10.1.2.3", "localhost", "127.0.0.1", "::1", "box", "192.0.2.7",
        "xn--mhle-0ra",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("host", "names", "is_good"),
    [
        ("mill.lab", ["mill.lab"], True),
        ("MILL.lab", ["Mill.LAB"], True),
        ("mill.lab", ["*.lab"], True),
        ("a.mill.lab", ["*.lab"], False),
        ("lab", ["*.lab"], False),
        ("10.0.0.1", ["10.0.0.1"], True),
        ("mill.lab", [], False),
    ],
)
def test_names_fit_or_do_not(host, names, is_good):
    assert rules.fits(host, names) is is_good


@pytest.mark.parametrize(
    ("server", "address", "first", "url"),
    [
        ({"host": "0.0.0.0", "url": "https://mill.lab/"}, "x", "y", "https://mill.lab"),
        ({"host": "0.0.0.0"}, "mill", "192.0.2.7", "https://mill:8787"),
        ({"host": "0.0.0.0"}, "", "192.0.2.7", "https://192.0.2.7:8787"),
        ({"host": "::"}, "", "2001:db8::7", "https://[2001:db8::7]:8787"),
        ({"host": "0.0.0.0"}, "", "", "https://127.0.0.1:8787"),
        ({"host": "192.0.2.9"}, "", "192.0.2.7", "https://127.0.0.1:8787"),
        ({"host": "127.0.0.1"}, "mill", "192.0.2.7", "https://mill:8787"),
    ],
)
def test_others_are_told_the_address_that_they_reach(server, address, first, url):
    chosen = ServerSettings(**server)
    near = "https://127.0.0.1:8787"
    found = rules.url_for_others(chosen, ClusterSettings(address=address), near, first)
    if server["host"] == "127.0.0.1":
        assert found == near, "nobody else reaches it, whatever its address is"
    else:
        assert found == url


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://mill.lab:443/", "https://mill.lab"),
        ("http://mill.lab:80", "http://mill.lab"),
        ("https://mill.lab:80", "https://mill.lab:80"),
        ("https://[::1]:443", "https://[::1]"),
    ],
)
def test_addresses_leave_out_what_browsers_leave_out(url, told):
    found = rules.url_for_others(ServerSettings(url=url), ClusterSettings(), "http://x:1", "")
    assert found == told


def test_an_address_with_http_is_refused_where_tls_is_spoken(tmp_path):
    server = ServerSettings(host="0.0.0.0", url="http://mill:8787")
    with pytest.raises(InvalidError, match=r"server\.url begins with http") as caught:
        HostTls(Settings(server=server), tmp_path, "own", NOW)
    assert "--insecure" in caught.value.next_step
    HostTls(Settings(server=server), tmp_path, "open", NOW)


def test_behind_a_proxy_nobody_pins_our_own_authority():
    assert rules.is_pinned(ServerSettings(), "own")
    assert not rules.is_pinned(ServerSettings(trusted_proxies="10.0.0.1"), "own")
    assert not rules.is_pinned(ServerSettings(), "given")


def test_this_machine_knows_its_addresses():
    addresses = list(own_addresses())
    assert all(not ipaddress.ip_address(one).is_loopback for one in addresses)
    assert set(own_names()) >= set(addresses)
    assert first_address() in {"", *addresses}


@pytest.mark.parametrize(
    ("way", "url", "state", "words"),
    [
        ("near", "http://127.0.0.1:1", "ok", "this machine alone"),
        ("own", "https://mill:1", "ok", "fingerprint ABCD"),
        ("given", "https://mill", "ok", "server.certificate"),
        ("open", "http://mill:1", "warning", "Not encrypted"),
        ("open", "https://mill", "warning", "from the proxy"),
    ],
)
def test_health_says_how_the_server_is_reached(way, url, state, words):
    found = rules.finding_of(way, url, "ABCD")
    assert found.state == state
    assert words in found.meaning
    assert rules.is_plain(way, url) is (state == "warning" and url.startswith("http:"))


@pytest.mark.parametrize(
    ("days", "state", "words"),
    [(30, "ok", "server.certificate"), (5, "warning", "ends in"), (-1, "warning", "has ended")],
)
def test_health_tells_before_a_given_certificate_ends(tmp_path, days, state, words):
    certificate, key = make_given(tmp_path)
    server = ServerSettings(certificate=str(certificate), certificate_key=str(key))
    host = HostTls(Settings(server=server), tmp_path, "given", NOW)
    found = host.find("https://mill.lab", NOW + timedelta(days=30 - days))
    assert (found.state, words in found.meaning) == (state, True)


# A certificate that was given ------------------------------------------------------------------


def make_given(folder: Path, *, begins=-1, ends=30, names=("mill.lab",)) -> tuple[Path, Path]:
    """Write a self-signed certificate, good from and to so many days from now, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mill")])
    made = (
        x509.CertificateBuilder()
        .subject_name(title)
        .issuer_name(title)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=ends))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    write_key(folder / "k.pem", key, serialization.NoEncryption())
    return folder / "c.pem", folder / "k.pem"


def write_key(path, key, how):
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(*kinds, how))


def faults_of(certificate, key, url="https://mill.lab"):
    with pytest.raises(InvalidError) as caught:
        check_given(certificate, key, url, NOW)
    assert "leave both out" in caught.value.next_step
    return {fault.field: fault.message for fault in caught.value.faults}


def test_a_good_certificate_is_taken(tmp_path):
    certificate, key = make_given(tmp_path, names=("*.lab", "other"))
    check_given(certificate, key, "https://mill.lab:8787", NOW)
    check_given(certificate, key, "", NOW)


def test_every_fault_of_a_given_certificate_is_named(tmp_path):
    certificate, key = make_given(tmp_path / "1")
    none = tmp_path / "none"
    found = faults_of(none, none)
    assert "No such file" in found["server.certificate"]
    assert "No such file" in found["server.certificate_key"]
    found = faults_of(key, certificate)
    assert "holds no certificate" in found["server.certificate"]
    assert "holds no private key" in found["server.certificate_key"]
    _, other = make_given(tmp_path / "2")
    assert (
        "is not of the first certificate" in faults_of(certificate, other)["server.certificate_key"]
    )
    assert (
        "not for mill.org" in faults_of(certificate, key, "https://mill.org")["server.certificate"]
    )
    old = faults_of(*make_given(tmp_path / "3", begins=-9, ends=-2))
    assert "expired on" in old["server.certificate"]
    young = faults_of(*make_given(tmp_path / "4", begins=2))
    assert "clock" in young["server.certificate"]
    locked = tmp_path / "locked.pem"
    how = serialization.BestAvailableEncryption(b"secret")
    write_key(locked, ec.generate_private_key(ec.SECP256R1()), how)
    assert "has a password" in faults_of(certificate, locked)["server.certificate_key"]


# What the host shows ---------------------------------------------------------------------------


def expiry_of(path: Path) -> datetime:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def test_the_own_certificate_is_renewed_while_the_server_runs(tmp_path):
    host = HostTls(Settings(), tmp_path, "own", NOW)
    path = tmp_path / "cluster" / "host.crt"
    first = expiry_of(path)
    host.refresh(NOW + timedelta(days=200))
    assert expiry_of(path) == first
    host.refresh(NOW + timedelta(days=320))
    assert expiry_of(path) > first
    assert host.announced() == {"authority": str(tmp_path / "keys" / "authority.crt")}
    assert host.shown.fingerprint == fingerprint_of(host.shown.certificate.encode())


def test_a_certificate_of_another_authority_or_key_is_made_anew(tmp_path):
    authority = Authority(tmp_path / "keys", NOW)
    mine = authority.open_identity(tmp_path / "h", "host", "host", [], NOW)
    before = mine.certificate.read_bytes()
    assert authority.open_identity(tmp_path / "h", "host", "host", [], NOW) == mine
    assert mine.certificate.read_bytes() == before
    Authority(tmp_path / "other", NOW).open_identity(tmp_path / "h", "host", "host", [], NOW)
    foreign = mine.certificate.read_bytes()
    assert foreign != before
    authority.open_identity(tmp_path / "h", "host", "host", [], NOW)
    again = mine.certificate.read_bytes()
    assert again != foreign
    mine.key.unlink()
    authority.open_identity(tmp_path / "h", "host", "host", [], NOW)
    assert mine.certificate.read_bytes() != again
    mine.server_context(require_client=True)
    mine.certificate.write_text("nonsense")
    authority.open_identity(tmp_path / "h", "host", "host", [], NOW)
    mine.client_context()


def test_a_given_certificate_that_was_renewed_on_the_disk_is_taken_up(tmp_path, caplog):
    certificate, key = make_given(tmp_path / "1")
    server = ServerSettings(certificate=str(certificate), certificate_key=str(key))
    host = HostTls(Settings(server=server), tmp_path, "given", NOW)
    assert host.announced() == {"certificate": str(certificate)}
    assert shown_by(host.context) == certificate.read_text()
    renewed, its_key = make_given(tmp_path / "2")
    certificate.write_bytes(renewed.read_bytes())
    host.refresh(NOW)
    assert "is not taken up" in caplog.text, "its key has not come yet"
    key.write_bytes(its_key.read_bytes())
    host.refresh(NOW)
    assert shown_by(host.context) == renewed.read_text()


def shown_by(context: ssl.SSLContext) -> str:
    """Shake hands in memory; give the certificate that the server shows."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = asking.wrap_bio(to_client, to_server)
    for _ in range(4):
        for one in (client, server):
            try:
                one.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True) or b"")
