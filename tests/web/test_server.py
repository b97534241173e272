"""The server as a process: it starts, answers, refuses a second one, and stops in order."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest

from millpond.ground.errors import ConflictError
from millpond.storage.chores import Chore, Housekeeper
from millpond.web.serving import listen, url_of


@contextmanager
def server(data, *options, **environ):
    command = [sys.executable, "-m", "millpond.main", "--data", str(data), *options]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MILLPOND_")
    }
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "MILLPOND_PEOPLE_ARGON2_MEMORY_KIB": "8192", **environ},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_ready(process):
    line = process.stdout.readline()
    assert line.startswith("Millpond is ready at "), process.stderr.read()
    return line.split()[-1]


def end(process, number=signal.SIGTERM):
    process.send_signal(number)
    rest, errors = process.communicate(timeout=30)
    return process.returncode, rest, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_starts_answers_and_stops_in_order(tmp_path, number):
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with server(data, "--port", "0") as process:
        url = wait_ready(process)
        facts = json.loads((data / "server.json").read_text())
        assert facts["url"] == url
        assert facts["pid"] == process.pid
        assert (data / "server.json").stat().st_mode & 0o777 == 0o600
        for name in ("millpond.db", "millpond.db-wal", "objects", "keys"):
            assert (data / name).stat().st_mode & 0o077 == 0
        health = httpx.get(f"{url}/healthz")
        assert health.json()["status"] == "ok"
        described = httpx.get(f"{url}/api/v1/openapi.json").json()
        assert all(
            "x-permission" in operation
            for path in described["paths"].values()
            for operation in path.values()
        )
        assert httpx.get(f"{url}/api/v1/system").status_code == 401
        assert "millpond_http_requests_total" in httpx.get(f"{url}/metrics").text
        code, rest, errors = end(process, number)
    assert code == 0, errors
    assert not (data / "server.json").exists()
    assert re.search(r"/setup\?code=\S+", rest)
    assert "Traceback" not in errors
    entries = [json.loads(line) for line in errors.splitlines()]
    assert any(entry.get("path") == "/healthz" for entry in entries)


def test_the_code_makes_the_administrator_who_sees_the_system(tmp_path):
    with server(tmp_path, "--port", "0") as process:
        url = wait_ready(process)
        code = process.stdout.readline().strip().rpartition("code=")[2]
        body = {"code": code, "name": "ana", "password": "a long enough secret"}
        made = httpx.post(f"{url}/api/v1/setup", json=body)
        assert made.status_code in (200, 201), made.text
        token = next(value for value in made.json().values() if str(value).startswith("mp"))
        headers = {"Authorization": f"Bearer {token}"}
        system = httpx.get(f"{url}/api/v1/system", headers=headers).json()
        assert system["database"] == "sqlite"
        assert system["settings"]["people"]["argon2_memory_kib"] == 8192
        assert system["nodes"][0]["slots"] > 0
        assert end(process)[0] == 0
    with server(tmp_path, "--port", "0") as process:
        wait_ready(process)
        assert end(process)[1] == ""


def test_a_second_server_on_the_folder_is_refused_with_the_first_ones_address(tmp_path):
    with server(tmp_path, "--port", "0") as first:
        url = wait_ready(first)
        with server(tmp_path, "--port", "0") as second:
            assert second.wait(30) == 5
            said = second.stderr.read()
        assert f"process {first.pid} at {url}" in said
        assert "--data" in said
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert (tmp_path / "server.json").exists()


def test_a_killed_server_leaves_nothing_that_keeps_the_next_from_starting(tmp_path):
    with server(tmp_path, "--port", "0") as process:
        wait_ready(process)
        process.kill()
        process.wait()
    with server(tmp_path, "--port", "0") as process:
        url = wait_ready(process)
        assert json.loads((tmp_path / "server.json").read_text())["url"] == url
        assert end(process)[0] == 0


def test_wrong_settings_are_all_told(tmp_path):
    (tmp_path / "settings.toml").write_text("[server]\nprot = 1\n")
    with server(tmp_path, MILLPOND_JOBS_WORKERS="many") as process:
        assert process.wait(30) == 6
        said = process.stderr.read()
    assert "server.prot is no setting; did you mean server.port?" in said
    assert "MILLPOND_JOBS_WORKERS is 'many'" in said


def test_a_taken_port_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with server(tmp_path, "--port", str(port)) as process:
            assert process.wait(30) == 5
            said = process.stderr.read()
    assert f"port {port}: another program listens there" in said


@pytest.mark.usefixtures("test_network")
def test_addresses_are_told_as_this_machine_reaches_them():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert url_of(taken) == f"http://127.0.0.1:{port}"
    with listen("0.0.0.0", 0) as everywhere:
        assert url_of(everywhere).startswith("http://127.0.0.1:")
    with pytest.raises(ConflictError, match="no address of this machine"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_chores_are_done_again_and_again_and_a_failure_stops_none(database, caplog):
    done, enough = [], threading.Event()

    def work(tx):
        done.append(tx)
        if len(done) == 3:
            enough.set()

    def fail(tx):
        raise RuntimeError

    last = []
    keeper = Housekeeper(
        database,
        [Chore(0.01, fail), Chore(0.01, work), Chore(3600, last.append, at_end=True)],
    )
    keeper.start()
    assert enough.wait(20)
    assert last == []
    keeper.stop()
    assert len(last) == 1
    assert "A chore failed" in caplog.text
