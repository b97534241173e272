"""A server on a network: people reach it by TLS, and know that it is the one they mean."""

import base64
import hashlib
import json
import os
import pty
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import expect, sync_playwright

from millpond.client.client import Client
from millpond.client.events import follow
from millpond.client.process import ServerProcess, start_server
from millpond.client.trust import UntrustedError
from millpond.machines.authority import Authority

PASSWORD = "correct horse battery"
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
PAGE = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}

pytestmark = pytest.mark.usefixtures("module_network")


@dataclass
class Mill:
    """A server and what was said of it."""

    folder: Path
    process: ServerProcess
    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def plain(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def fingerprint(self) -> str:
        found = re.search(r"--fingerprint ([0-9A-F]{64})", self.said)
        assert found, self.said
        return found.group(1)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.process.data / "keys/authority.crt"))


@contextmanager
def running(
    folder: Path, make_shell: Any, *flags: str, port: int = 0, environ: Any = ()
) -> Iterator[Mill]:
    folder.mkdir(exist_ok=True)
    shell = make_shell(folder, {"MILLPOND_ENGINE_SLOTS": "2", "HOME": str(folder), **dict(environ)})
    process = start_server(
        folder / "data", host="0.0.0.0", port=port, log=folder / "log", environ=shell.environ,
        flags=flags,
    )  # fmt: skip
    try:
        ready = process.wait_ready()
        yield Mill(folder, process, int(ready.url.rpartition(":")[2]))
    finally:
        assert process.stop() == 0, (folder / "log").read_text()[-2000:]


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory, make_shell: Any) -> Iterator[Mill]:
    """Start a server on every network, without any choice made; root is its administrator."""
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    with running(folder, make_shell) as mill:
        host = make_shell(folder, near(mill))
        host.run("project", "make", "birds", "--use")
        host.run("user", "add", "bob", told=f"{PASSWORD}\n")
        host.run("member", "add", "bob", "owner")
        yield mill


def near(mill: Mill) -> dict[str, str]:
    """Give the variables of who runs the server."""
    return {"MILLPOND_CONFIG": str(mill.folder / "c.toml"), "MILLPOND_DATA": str(mill.process.data)}


def far(folder: Path) -> dict[str, str]:
    """Give the variables of somebody whose machine knows nothing of the server."""
    return {
        "MILLPOND_CONFIG": str(folder / "far" / "c.toml"),
        "MILLPOND_DATA": str(folder / "nothing"),
        "HOME": str(folder),
        "COLUMNS": "200",
    }


def bob(mill: Mill, make_shell: Any, folder: Path) -> Any:
    shell = make_shell(folder, far(folder))
    words = ("login", mill.url, "--user", "bob", "--fingerprint", mill.fingerprint)
    shell.run(*words, told=f"{PASSWORD}\n")
    return shell


# Whom one speaks to ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_server_says_how_others_sign_in_and_its_own_user_needs_nothing(
    mill: Mill, make_shell: Any
) -> None:
    url = re.search(r"Millpond is ready at (https://\S+)", mill.said)
    assert url
    assert f"millpond login {url.group(1)} --fingerprint {mill.fingerprint}" in mill.said
    host = make_shell(mill.folder, near(mill))
    assert host.json("user", "me")["user"]["is_admin"] is True
    shown = host.json("system", "authority")
    assert shown["fingerprint"] == mill.fingerprint
    health = host.json("system", "health")
    reached = next(one for one in health["findings"] if one["name"] == "connections")
    assert mill.fingerprint in reached["meaning"]
    assert host.json("user", "me", "--url", url.group(1))["user"]["is_admin"] is True


@pytest.mark.slow
def test_nothing_is_told_to_a_server_that_nobody_vouches_for(
    mill: Mill, make_shell: Any, tmp_path: Path
) -> None:
    shell = make_shell(tmp_path, far(tmp_path))
    told = f"{PASSWORD}\n"
    unknown = shell.fault("project", "list", "--url", mill.url, code=4)
    assert "not signed by an authority that this machine knows" in unknown["message"]
    assert "--fingerprint HEX" in unknown["next_step"]
    asked = shell.fault("login", mill.url, "--user", "bob", code=4, told=told)
    assert "nobody is here to compare" in asked["message"]
    wrong = ("--fingerprint", "AB" * 32)
    refused = shell.fault("login", mill.url, "--user", "bob", *wrong, code=4, told=told)
    assert f"It has {mill.fingerprint}" in refused["message"]
    assert "Nothing was sent" in refused["message"]
    short = ("--fingerprint", mill.fingerprint[:20])
    assert "64" in shell.fault("login", mill.url, *short, "--user", "b", code=6)["message"]
    assert not (tmp_path / "far" / "authorities.json").exists()


@pytest.mark.slow
def test_a_fingerprint_is_pinned_once_and_holds_for_every_command(
    mill: Mill, make_shell: Any, tmp_path: Path
) -> None:
    spaced = ":".join(mill.fingerprint.lower()[at : at + 2] for at in range(0, 64, 2))
    shell = make_shell(tmp_path, far(tmp_path))
    words = ("login", mill.url, "--user", "bob", "--fingerprint", spaced)
    shell.run(*words, told=f"{PASSWORD}\n")
    assert shell.json("user", "me")["user"]["name"] == "bob"
    kept = tmp_path / "far" / "authorities.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    shell.run("logout")
    shell.run("login", mill.url, "--user", "bob", told=f"{PASSWORD}\n")
    kept.unlink()
    assert "not signed by" in shell.fault("user", "me", code=4)["message"]
    by_variable = shell.another({**shell.variables, "MILLPOND_FINGERPRINT": mill.fingerprint})
    assert by_variable.json("user", "me")["user"]["name"] == "bob"
    assert not kept.exists(), "a variable is for this time"


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 130)])
def test_a_person_is_asked_whether_the_fingerprint_is_the_one_they_know(
    mill: Mill, make_shell: Any, tmp_path: Path, answer: str, code: int
) -> None:
    shell = make_shell(tmp_path, far(tmp_path))
    asked, said = at_a_terminal(
        shell,
        ["login", mill.url, "--user", "bob"],
        [(b"[y/N]", f"{answer}\n"), (b"Password", f"{PASSWORD}\n")],
    )
    assert asked == code, said
    assert mill.fingerprint[:4] + " " + mill.fingerprint[4:8] in said
    assert (tmp_path / "far" / "authorities.json").exists() is (answer == "y")


def at_a_terminal(shell: Any, words: list[str], script: list[tuple[bytes, str]]) -> tuple[int, str]:
    """Run a command at a terminal of its own, and answer what it asks."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "millpond", *words],
        cwd=shell.folder, env=shell.environ, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said, script = b"", list(script)
    try:
        while select.select([ours], [], [], 120)[0]:
            try:
                said += os.read(ours, 4096)
            except OSError:  # The other end was closed.
                break
            if script and script[0][0] in said:
                os.write(ours, script.pop(0)[1].encode())
        return process.wait(30), said.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.slow
def test_the_sdk_pins_by_a_fingerprint_and_speaks_to_no_other(mill: Mill, tmp_path: Path) -> None:
    environ = {k: v for k, v in far(tmp_path).items() if k.startswith("MILLPOND")}
    with Client(mill.url, fingerprint=mill.fingerprint, environ=environ) as client:
        assert client.system.health()["status"] == "ok"
    with (
        Client(mill.url, fingerprint="00" * 32, environ=environ) as client,
        pytest.raises(UntrustedError, match="is not the server that this fingerprint is of"),
    ):
        client.system.health()
    name = mill.url.replace("127.0.0.1", "127.0.0.2")  # Reached by, and not in the certificate.
    with (
        Client(name, fingerprint=mill.fingerprint, environ=environ) as client,
        pytest.raises(UntrustedError, match=r"not for the name '127\.0\.0\.2'") as caught,
    ):
        client.system.health()
    assert "server.url" in caught.value.next_step


@pytest.mark.slow
def test_a_server_that_was_changed_is_refused_until_somebody_vouches_for_it(
    make_shell: Any, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    shell = make_shell(tmp_path, far(tmp_path))
    with running(tmp_path / "first", make_shell) as first:
        add = make_shell(first.folder, near(first))
        add.run("user", "add", "bob", told=f"{PASSWORD}\n")
        words = ("login", first.url, "--user", "bob", "--fingerprint", first.fingerprint)
        shell.run(*words, told=f"{PASSWORD}\n")
    with running(tmp_path / "second", make_shell, port=first.port) as second:
        told = f"{PASSWORD}\n"
        for tried in (("user", "me"), ("login", second.url, "--user", "bob")):
            refused = shell.fault(*tried, code=4, told=told)
            assert "not signed by the authority that was kept" in refused["message"]
            assert "installed anew" in refused["message"]
            assert f"millpond login {second.url} --fingerprint" in refused["next_step"]
        add = make_shell(second.folder, near(second))
        add.run("user", "add", "bob", told=told)
        words = ("login", second.url, "--user", "bob", "--fingerprint", second.fingerprint)
        shell.run(*words, told=told)
        assert shell.json("user", "me")["user"]["name"] == "bob"


# What goes over it -----------------------------------------------------------------------------


@pytest.mark.slow
def test_data_go_up_and_down_and_events_come_live(
    mill: Mill, make_shell: Any, tmp_path: Path
) -> None:
    shell = bob(mill, make_shell, tmp_path)
    data = tmp_path / "notes"
    data.mkdir()
    (data / "large").write_bytes(os.urandom(9 << 20))
    (data / "small").write_text("one")
    with Client(environ=shell.variables, project="birds") as client:
        events: list[str] = []
        is_followed, is_seen = threading.Event(), threading.Event()

        def listen() -> None:
            for event in follow(client.transport, "/projects/birds/events", "dataset/notes"):
                is_followed.set()
                if event.kind:
                    events.append(event.kind)
                    is_seen.set()
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        assert is_followed.wait(30), "the stream's first breath"
        shell.run("dataset", "push", "notes", "-p", "birds")
        assert is_seen.wait(30)
        thread.join(30)
    assert events[0].startswith("dataset")
    shell.run("dataset", "download", "notes", "back", "-p", "birds")
    assert (tmp_path / "back" / "large").read_bytes() == (data / "large").read_bytes()


@pytest.mark.slow
def test_an_upload_of_the_browser_is_resumed(mill: Mill, make_shell: Any, tmp_path: Path) -> None:
    shell = bob(mill, make_shell, tmp_path)
    token = re.search(r'token = "(\S+)"', (tmp_path / "far" / "c.toml").read_text())
    assert token
    assert shell.variables
    content = os.urandom(3 << 20)
    headers = {"Authorization": f"Bearer {token.group(1)}", "Tus-Resumable": "1.0.0"}
    with httpx.Client(verify=mill.context(), headers=headers, base_url=mill.url) as http:
        name = base64.b64encode(b"a.bin").decode()
        made = http.post(
            "/api/v1/projects/birds/uploads",
            headers={"Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name}"},
        )
        assert made.status_code == 201, made.text
        place = made.headers["location"]
        assert place.startswith(("/", "https://"))
        kind = {"Content-Type": "application/offset+octet-stream"}
        first = {**kind, "Upload-Offset": "0"}
        assert http.patch(place, content=content[: 1 << 20], headers=first).status_code == 204
        offset = int(http.head(place).headers["upload-offset"])
        assert offset == 1 << 20
        second = {**kind, "Upload-Offset": str(offset)}
        assert http.patch(place, content=content[offset:], headers=second).status_code == 204
        assert http.get(place).json()["digest"] == hashlib.sha256(content).hexdigest()


@pytest.mark.slow
def test_the_portal_has_secure_cookies_and_is_never_marked(mill: Mill) -> None:
    with httpx.Client(verify=mill.context(), headers=PAGE, base_url=mill.url) as http:
        page = http.get("/sign-in")
        assert "Not encrypted" not in page.text
        assert "strict-transport-security" not in page.headers, "it asks for trust by hand"
        done = http.post(
            "/sign-in", data={"name": "bob", "password": PASSWORD}, headers={"Origin": mill.url}
        )
        assert done.status_code == 303, done.text
        cookie = next(
            one for one in done.headers.get_list("set-cookie") if one.startswith("__Host-")
        )
        assert {"Secure", "HttpOnly", "Path=/"} <= set(re.split("; ?", cookie))
        assert http.get("/").status_code == 200
        denied = http.post(
            "/theme", data={"theme": "dark"}, headers={"Origin": "https://evil.example"}
        )
        assert denied.status_code == 403


@pytest.mark.slow
def test_plain_http_is_led_or_told_to_come_by_tls(
    mill: Mill, make_shell: Any, tmp_path: Path
) -> None:
    led = httpx.get(f"{mill.plain}/sign-in", headers=PAGE)
    assert led.headers["location"] == f"{mill.url}/sign-in"
    shell = make_shell(tmp_path, far(tmp_path))
    told = shell.fault("login", mill.plain, "--user", "bob", code=6, told=f"{PASSWORD}\n")
    assert "speaks HTTPS here" in told["message"]
    assert mill.url in told["next_step"]


def pin_of(certificate: Path) -> str:
    """Give what Chromium calls a certificate's SPKI hash, to take this one as good."""
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    kinds = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(hashlib.sha256(public.public_bytes(*kinds)).digest()).decode()


@pytest.mark.slow
def test_a_browser_has_live_pages_and_a_passkey_for_the_name(
    shots: Any, make_shell: Any, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url, said = f"https://mill.test:{port}", []
    with running(tmp_path, make_shell, port=port, environ={"MILLPOND_SERVER_URL": url}) as mill:
        host = make_shell(tmp_path, near(mill))
        host.run("project", "make", "birds", "--use")
        host.run("user", "add", "bob", told=f"{PASSWORD}\n")
        host.run("member", "add", "bob", "owner")
        flags = (
            *shots.FLAGS,
            "--host-resolver-rules=MAP mill.test 127.0.0.1",
            f"--ignore-certificate-errors-spki-list={pin_of(mill.process.data / 'cluster/host.crt')}",
        )
        chromium = shutil.which("chromium")
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=list(flags))
            page = browser.new_page()
            page.on("pageerror", lambda fault: said.append(str(fault)))
            tools = page.context.new_cdp_session(page)
            tools.send("WebAuthn.enable")
            tools.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
            page.goto(url + "/sign-in?next=/profile/passkeys")
            page.get_by_label("Name").fill("bob")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in", exact=True).click()
            page.get_by_label("Name").fill("This laptop")
            page.get_by_role("button", name="Add a passkey").click()
            page.get_by_text("You can sign in with This laptop from now on.").wait_for()
            page.context.clear_cookies()
            page.goto(url + "/sign-in?next=/projects/birds")
            page.get_by_role("button", name="Sign in with a passkey").click()
            page.wait_for_url(url + "/projects/birds")
            page.goto(url + "/projects/birds/datasets")
            page.evaluate("window.isTheSame = true")
            page.wait_for_function("document.readyState === 'complete'")
            (tmp_path / "heron.txt").write_text("one")
            host.run("dataset", "push", "heron.txt", "-p", "birds")
            expect(page.locator("main")).to_contain_text("heron", timeout=60_000)
            assert page.evaluate("window.isTheSame"), "shown by the live events, not by a reload"
            browser.close()
    assert not said


# Other choices ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_tls_every_page_health_and_the_doctor_say_so(
    make_shell: Any, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    with running(tmp_path, make_shell, "--insecure") as mill:
        assert "Not encrypted" in mill.said
        host = make_shell(tmp_path, near(mill))
        host.run("project", "list")
        with httpx.Client(base_url=mill.plain, headers=PAGE) as http:
            for path in ("/sign-in", "/nowhere"):
                assert "Not encrypted: passwords and data" in http.get(path).text
        health = host.json("system", "health")
        reached = next(one for one in health["findings"] if one["name"] == "connections")
        assert reached["state"] == "warning"
        assert "--insecure" in reached["next_step"]
        looked = host.run("doctor", "--data", str(mill.process.data), "--offline").stdout
        assert "is not encrypted: passwords and data" in looked
        shell = make_shell(tmp_path, far(tmp_path))
        wrong = shell.fault("login", mill.url, "--user", "bob", code=6, told="x\n")
        assert "does not speak TLS" in wrong["message"]
        assert mill.plain in wrong["next_step"]
        odd = ("--fingerprint", "AB" * 32)
        wrong = shell.fault("login", mill.plain, *odd, "--user", "b", code=6, told="x\n")
        assert "plain HTTP" in wrong["message"]


@pytest.mark.slow
def test_a_given_certificate_is_known_by_the_authority_of_the_organisation(
    make_shell: Any, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    now = datetime.now(UTC)
    corporate = Authority(tmp_path / "corporate", now)
    given = corporate.open_identity(tmp_path / "given", "host", "x", ["127.0.0.1"], now)
    files = {
        "MILLPOND_SERVER_CERTIFICATE": str(given.certificate),
        "MILLPOND_SERVER_CERTIFICATE_KEY": str(given.key),
    }
    with running(tmp_path, make_shell, environ=files) as mill:
        assert "--fingerprint" not in mill.said
        host = make_shell(tmp_path, near(mill))
        host.run("user", "add", "bob", told=f"{PASSWORD}\n")
        shell = make_shell(tmp_path, far(tmp_path))
        words = ("login", mill.url, "--user", "bob")
        unknown = shell.fault(*words, code=4, told=f"{PASSWORD}\n")
        assert "SSL_CERT_FILE" in unknown["next_step"]
        knowing = shell.another({**shell.variables, "SSL_CERT_FILE": str(corporate.path)})
        knowing.run(*words, told=f"{PASSWORD}\n")
        assert knowing.json("user", "me")["user"]["name"] == "bob"
        context = ssl.create_default_context(cafile=str(corporate.path))
        page = httpx.get(f"{mill.url}/sign-in", headers=PAGE, verify=context)
        assert page.headers["strict-transport-security"] == f"max-age={180 * 86_400}"


@pytest.mark.slow
def test_a_certificate_that_does_not_do_stops_the_start_with_the_reason(
    make_shell: Any, tmp_path: Path
) -> None:
    files = {
        "MILLPOND_SERVER_CERTIFICATE": str(tmp_path / "none.pem"),
        "MILLPOND_SERVER_CERTIFICATE_KEY": str(tmp_path / "none.key"),
    }
    shell = make_shell(tmp_path, {**far(tmp_path), **files})
    done = shell.run("up", "--data", "d", "--host", "0.0.0.0", "--port", "0", code=6)
    assert "none.pem cannot be read (No such file or directory)" in done.stderr
    assert "none.key cannot be read" in done.stderr
    assert "leave both out" in done.stderr
    assert not (tmp_path / "d" / "millpond.db").exists()


@pytest.mark.slow
def test_loopback_is_plain_unless_tls_is_asked_for(make_shell: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    shell = make_shell(tmp_path, far(tmp_path))
    process = start_server(
        tmp_path / "data", port=0, log=tmp_path / "log", environ=shell.environ, flags=["--tls"]
    )
    try:
        ready = process.wait_ready()
        assert ready.url.startswith("https://127.0.0.1:")
        facts = json.loads((tmp_path / "data" / "server.json").read_text())
        assert facts["here"] == ready.url
        host = make_shell(tmp_path, {**far(tmp_path), "MILLPOND_DATA": str(tmp_path / "data")})
        assert host.json("user", "me")["user"]["is_admin"] is True
    finally:
        process.stop()
