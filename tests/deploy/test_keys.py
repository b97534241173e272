"""Private keys that SSH is given: each fault of a file is told, and no word of what is in it."""

import subprocess
from pathlib import Path

import pytest

from millpond.deploy.ssh import check_key
from millpond.ground.errors import InvalidError


def make_key(path: Path, passphrase: str = "") -> Path:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(words, check=True)
    return path


def test_a_key_that_can_be_used_is_good(tmp_path: Path) -> None:
    check_key(make_key(tmp_path / "key"))


def test_each_other_file_is_told_by_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="is not there"):
        check_key(tmp_path / "none")
    with pytest.raises(InvalidError, match="asks for a passphrase"):
        check_key(make_key(tmp_path / "locked", "a long passphrase"))
    key = make_key(tmp_path / "key")
    with pytest.raises(InvalidError, match="is no private key"):
        check_key(key.with_suffix(".pub"))
    key.chmod(0o644)
    with pytest.raises(InvalidError, match="can be read by other accounts") as caught:
        check_key(key)
    assert caught.value.next_step == f"chmod 600 {key}"


def test_nobody_is_told_to_shut_a_file_that_is_no_key(tmp_path: Path) -> None:
    other = tmp_path / "passwd"
    other.write_text("root:x:0:0:the secret of the house\n")
    with pytest.raises(InvalidError, match="is no private key") as caught:
        check_key(other)
    assert "chmod" not in caught.value.next_step
    assert "secret" not in f"{caught.value.message}{caught.value.next_step}"
