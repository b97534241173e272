"""Whom a connection trusts: fingerprints, what was kept, and why TLS failed, in words."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millpond.client.client import Client
from millpond.client.config import Config, write_config
from millpond.client.faults import UnreachableError
from millpond.client.local import LocalServer
from millpond.client.transport import Transport, ask_authority, fetch_authority
from millpond.client.trust import (
    KnownServers,
    Trust,
    UntrustedError,
    check_fingerprint,
    explain,
    fingerprint_of,
    origin_of,
    read_fingerprint,
    read_trust,
    shown,
)
from millpond.ground.errors import InvalidError, MillpondError, NotFoundError
from millpond.machines.authority import Authority

NOW = datetime.now(UTC)
URL = "https://mill.lab:8787"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "keys", NOW)


def trust_of(authority: Authority) -> Trust:
    return Trust(authority.pem.decode())


# Fingerprints ----------------------------------------------------------------------------------


def test_a_fingerprint_is_read_however_it_is_written(authority: Authority) -> None:
    plain = authority.fingerprint
    assert fingerprint_of(authority.pem.decode()) == plain
    by_two = ":".join(plain[at : at + 2] for at in range(0, 64, 2))
    for text in (plain, plain.lower(), by_two, shown(plain), f" {plain} "):
        assert read_fingerprint(text) == plain
    for text in ("", plain[:-1], plain + "0", "G" * 64, "é" * 64):
        with pytest.raises(InvalidError, match="64 hexadecimal digits are needed"):
            read_fingerprint(text)


def test_the_beginning_of_a_fingerprint_will_do_for_a_token_and_a_wrong_one_never(
    authority: Authority,
) -> None:
    pem = authority.pem.decode()
    assert check_fingerprint(URL, pem, authority.fingerprint[:16]) == Trust(pem)
    with pytest.raises(InvalidError):
        check_fingerprint(URL, pem, authority.fingerprint[:15])
    with pytest.raises(UntrustedError) as caught:
        check_fingerprint(URL, pem, "0" * 16)
    assert caught.value.facts["fingerprint"] == authority.fingerprint
    with pytest.raises(InvalidError, match="no certificate"):
        check_fingerprint(URL, "nonsense", "0" * 16)


# What is kept ----------------------------------------------------------------------------------


def test_authorities_are_kept_by_address_and_forgotten(
    authority: Authority, tmp_path: Path
) -> None:
    known = KnownServers({"MILLPOND_CONFIG": str(tmp_path / "c.toml")})
    assert known.get(URL) is None
    known.keep(URL, None)
    assert not (tmp_path / "authorities.json").exists(), "nothing was there to forget"
    known.keep(URL + "/", trust_of(authority))
    assert known.get("https://MILL.lab:8787/anything") == trust_of(authority)
    assert known.get("https://mill.lab") is None
    known.keep(URL, None)
    assert known.get(URL) is None


@pytest.mark.parametrize("text", ["[", "\x00", '{"a": '])
def test_a_spoilt_file_is_told_rather_than_trusted(tmp_path: Path, text: str) -> None:
    (tmp_path / "authorities.json").write_text(text)
    known = KnownServers({"MILLPOND_CONFIG": str(tmp_path / "c.toml")})
    with pytest.raises(InvalidError) as caught:
        known.get(URL)
    assert "--fingerprint" in caught.value.next_step


def test_a_spoilt_certificate_is_told(tmp_path: Path) -> None:
    known = KnownServers({"MILLPOND_CONFIG": str(tmp_path / "c.toml")})
    known.keep(URL, Trust("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
    write_config(tmp_path / "c.toml", Config(url=URL, token="secret"))
    with (
        Client(environ={"MILLPOND_CONFIG": str(tmp_path / "c.toml")}) as client,
        pytest.raises(InvalidError, match="is no certificate"),
    ):
        client.account.me()


def test_origins_hold_no_more_than_they_must() -> None:
    assert origin_of("HTTPS://user@Mill.lab:1/a?b") == "https://mill.lab:1"
    assert origin_of("https://[::1]:1/") == "https://[::1]:1"


def test_a_server_of_this_machine_says_what_to_trust(authority: Authority, tmp_path: Path) -> None:
    given = read_trust("", str(authority.path))
    assert given
    assert given.is_exact
    own = read_trust(str(authority.path), "")
    assert own == trust_of(authority)
    assert read_trust(str(tmp_path / "none"), "") is None
    assert read_trust("", "") is None
    here = "https://127.0.0.1:1"
    server = LocalServer(tmp_path, "https://mill.lab", 0, here, given)
    assert server.trust_at(here) == given
    assert server.trust_at("https://mill.lab") is None, "there a proxy may show another's"
    assert server.is_at(here)
    assert server.is_at("https://MILL.lab/")
    assert not server.is_at("https://mill.lab:1")


# Why it failed ---------------------------------------------------------------------------------


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Exception | None:
    """Shake hands over a real socket; give what the client says of it."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(ours, server_side=True).close()
        except OSError:
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(theirs, server_hostname=name).close()
    except ssl.SSLError as fault:
        return fault
    finally:
        theirs.close()
        thread.join(10)
    return None


@pytest.mark.parametrize(
    ("name", "made_at", "is_pinned", "words", "step"),
    [
        ("other.lab", NOW, True, "not for the name 'other.lab'", "server.url"),
        ("mill.lab", NOW - timedelta(days=500), True, "has expired", "clock"),
        ("mill.lab", NOW + timedelta(days=5), True, "is not good yet", "clock"),
        ("mill.lab", NOW, False, "an authority that this machine knows", "SSL_CERT_FILE"),
        ("mill.lab", NOW, True, "not signed by the authority that was kept", "administrator"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told(
    authority: Authority,
    tmp_path: Path,
    name: str,
    made_at: datetime,
    is_pinned: bool,
    words: str,
    step: str,
) -> None:
    mine = authority.open_identity(tmp_path / "h", "host", "x", ["mill.lab"], made_at)
    is_ours = is_pinned and "kept" not in words
    known = authority if is_ours else Authority(tmp_path / "other", NOW)
    asking = trust_of(known).context()
    fault = handshake(mine.server_context(require_client=False), asking, name)
    assert fault is not None
    wrapped = MillpondError("x", next_step="y")
    wrapped.__cause__ = fault
    told = explain(f"https://{name}:8787", wrapped, is_pinned=is_pinned)
    assert isinstance(told, UntrustedError)
    assert words in told.message
    assert step in told.next_step


def test_an_exact_certificate_is_good_under_any_name_and_no_other_is(
    authority: Authority, tmp_path: Path
) -> None:
    mine = authority.open_identity(tmp_path / "h", "host", "x", ["mill.lab"], NOW)
    leaf = mine.certificate.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    exact = Trust(leaf, is_exact=True).context
    assert handshake(mine.server_context(require_client=False), exact(), "any.lab") is None
    other = authority.open_identity(tmp_path / "o", "host", "y", ["mill.lab"], NOW)
    assert handshake(other.server_context(require_client=False), exact(), "any.lab") is not None


def test_other_faults_are_not_taken_for_those_of_tls() -> None:
    assert explain(URL, OSError("no route"), is_pinned=False) is None
    broken = ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] broken")
    assert isinstance(explain(URL, broken, is_pinned=False), UnreachableError)


def test_what_is_no_server_of_ours_shows_no_authority(script: Any) -> None:
    script.say("/api/v1/authority", {"something": "else"})
    with pytest.raises(NotFoundError, match="shows no authority"):
        ask_authority(script.url)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match="No server answers"):
        fetch_authority(f"https://127.0.0.1:{port}", "0" * 64)
    secret = Transport(script.url.replace("http:", "https:"), patience_seconds=0)
    with pytest.raises(InvalidError, match="does not speak TLS") as caught:
        secret.get("/me")
    assert script.url in caught.value.next_step
