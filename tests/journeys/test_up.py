"""The server in the foreground: it says where it is, is found, and ends in order."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millpond.client.local import read_server


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_up_tells_its_address_and_stops_in_order(
    make_shell: Any, tmp_path: Path, stop: signal.Signals
) -> None:
    shell = make_shell(tmp_path, {"MILLPOND_CONFIG": str(tmp_path / "c.toml"), "HOME": "/none"})
    command = [sys.executable, "-m", "millpond", "up", "--data", "d", "--port", "0", "--json"]
    with (tmp_path / "said").open("w") as said:
        up = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=shell.environ,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            # A shell's background job ignores SIGINT, and so would what the tests start from there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
    try:
        assert up.stdout is not None
        told = json.loads("".join(iter(up.stdout.readline, "}\n")) + "}")
        assert told["url"].startswith("http://127.0.0.1:")
        code = re.search(r"The code[^:]*: (\S+)", (tmp_path / "said").read_text())
        assert code
        words = ("login", told["url"], "--setup", "--user", "ann")
        wrong = shell.fault(*words, code=4, told="AAAA-AAAA-AAAA-AAAA\ncorrect horse battery\n")
        assert wrong["message"]
        shell.run(*words, told=f"{code.group(1)}\ncorrect horse battery\n")
        assert shell.json("user", "me")["user"]["name"] == "ann"
        shell.run("logout")
        assert shell.json("user", "me")["user"]["name"] == "ann", "found by its data folder"
        again = shell.fault("up", "--data", "d", code=5)
        assert told["url"] in again["message"]
    finally:
        up.send_signal(stop)
        assert up.wait(30) == 0
        up.stdout.close()
    assert read_server(tmp_path / "d") is None


def test_up_says_why_it_could_not_start(make_shell: Any, tmp_path: Path) -> None:
    shell = make_shell(tmp_path, {"MILLPOND_CONFIG": str(tmp_path / "c.toml")})
    (tmp_path / "s.toml").write_text("[server]\nprot = 1\n")
    done = shell.run("up", "--data", "d", "--settings", "s.toml", code=6)
    assert "did you mean server.port?" in done.stderr
