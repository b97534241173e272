"""SSH to bare machines: what works, and what each thing that is wrong is called."""

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from millpond.deploy.ssh import Login, Pins, open_remote
from millpond.deploy.target import Done, feed_text, send
from millpond.ground.errors import BusyError, ConflictError, InvalidError, NotAllowedError

pytestmark = pytest.mark.usefixtures("laptop")
START = Callable[..., Any]


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "ssh")


@pytest.mark.slow
def test_a_machine_is_met_its_key_pinned_and_told_and_scripts_run_there(
    start: START, key: Path, pins: Pins, tmp_path: Path
) -> None:
    machine = start("one")
    login = Login(machine.address, keys=(key,))
    with open_remote(login, pins) as remote:
        assert remote.run("hostname; echo oops >&2; exit 3") == Done(3, "one\n", "oops\n")
        assert remote.run('cat; echo "it\'s $((1 + 1))"', feed=feed_text("told ")).out == (
            "told it's 2\n"
        )
        shown = remote.host_key
        begun = time.monotonic()
        with pytest.raises(BusyError, match=r"root@.* did not finish within 1 s"):
            remote.run("sleep 60", seconds=1)
        assert time.monotonic() - begun < 10
    own = machine.run("ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key.pub").stdout
    assert shown == own.split()[1] == pins.find(login)

    # Files go over once, and are looked at by their digests.
    (tmp_path / "a").write_bytes(b"a" * 100_000)
    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "b").chmod(0o755)
    files = {"a": tmp_path / "a", "b": tmp_path / "b"}
    with open_remote(login, pins, pinned=shown) as remote:
        assert send(remote, files, "/opt/a place") == 100_001
        assert send(remote, files, "/opt/a place") == 0
        remote.run("echo changed >'/opt/a place/b'")
        assert send(remote, files, "/opt/a place") == 1
        assert remote.run("stat -c '%n %a %u' /opt/a*/*").out == (
            "/opt/a place/a 644 0\n/opt/a place/b 755 0\n"
        )


@pytest.mark.slow
def test_a_machine_with_another_host_key_is_refused_with_both_fingerprints(
    start: START, key: Path, pins: Pins
) -> None:
    machine = start("one")
    login = Login(machine.address, keys=(key,))
    with open_remote(login, pins) as remote:
        before = remote.host_key
    machine.run("sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -A; kill $(cat /run/sshd.pid); "
                "while ! /usr/sbin/sshd; do sleep 0.1; done")  # fmt: skip
    after = machine.run("ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key.pub").stdout
    with pytest.raises(ConflictError, match="another host key") as raised, open_remote(login, pins):
        pass
    assert before in raised.value.message
    assert after.split()[1] in raised.value.message
    assert "ssh-keygen -R" in raised.value.next_step
    assert pins.find(login) == before

    # The same when the pin is the database's, and the file knows nothing.
    pins.forget(login)
    with (
        pytest.raises(ConflictError, match="another host key"),
        open_remote(login, pins, pinned=before),
    ):
        pass
    with open_remote(login, pins) as remote:  # Somebody who knows why forgot the old one.
        assert remote.host_key == after.split()[1]


@pytest.mark.slow
def test_each_wrong_key_or_user_or_machine_is_called_by_its_name(
    start: START, key: Path, pins: Pins, rig: ModuleType, tmp_path: Path
) -> None:
    machine = start("one")
    other, locked, public = tmp_path / "other", tmp_path / "locked", key.with_suffix(".pub")
    rig.sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other)
    rig.sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked)
    open_key = tmp_path / "open"
    open_key.write_bytes(other.read_bytes())
    open_key.chmod(0o644)
    public.chmod(0o600)
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", "mill")
    machine.trust(public.read_text().strip(), "mill")

    def fault(kind: type[Exception], match: str, login: Login) -> str:
        with pytest.raises(kind, match=match) as raised, open_remote(login, pins):
            pass
        return str(getattr(raised.value, "next_step", ""))

    at = machine.address
    assert "authorized_keys" in fault(NotAllowedError, "refuses the key", Login(at, keys=(other,)))
    assert "NOPASSWD" in fault(NotAllowedError, "sudo", Login(at, "mill", keys=(key,)))
    assert "authorized_keys" in fault(NotAllowedError, "refuses", Login(at, "no", keys=(key,)))
    assert "path" in fault(InvalidError, "is not there", Login(at, keys=(tmp_path / "x",)))
    assert "chmod 600" in fault(InvalidError, "other accounts", Login(at, keys=(open_key,)))
    assert "without one" in fault(InvalidError, "passphrase", Login(at, keys=(locked,)))
    assert ".pub" in fault(InvalidError, "no private key", Login(at, keys=(public,)))
    assert "port 2222" in fault(BusyError, "does not answer", Login(at, port=2222, keys=(key,)))
    assert "is on" in fault(BusyError, "does not answer", Login("10.87.0.99", keys=(key,)))

    # The line goes down while something runs: said within the time that SSH needs to notice.
    with open_remote(Login(at, keys=(key,)), pins) as remote:
        machine.cut()
        with pytest.raises(BusyError):
            remote.run("true", seconds=40)


@pytest.mark.slow
def test_who_may_use_sudo_without_a_password_is_as_good_as_root(
    start: START, key: Path, pins: Pins, rig_folder: Path, rig: ModuleType
) -> None:
    machine = start("one")
    package = rig.fetch_package(rig_folder, "sudo")
    machine.path("/tmp/sudo.deb").write_bytes(package.read_bytes())
    machine.run("dpkg", "--install", "/tmp/sudo.deb")
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", "mill")
    machine.trust(key.with_suffix(".pub").read_text().strip(), "mill")
    login = Login(machine.address, "mill", keys=(key,))
    with pytest.raises(NotAllowedError, match="password"), open_remote(login, pins):
        pass
    machine.path("/etc/sudoers.d/mill").write_text("mill ALL=(ALL) NOPASSWD: ALL\n")
    with open_remote(login, pins) as remote:
        assert remote.run("id -u; cat", feed=feed_text("x")).out == "0\nx"
