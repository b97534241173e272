"""Loops keep their logs within bounds, whatever their services say."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from millpond.machines.supervising import own_log, put_aside

MOST, KEPT = 20_000, 2
CHATTER = """
import sys, time
for number in range(20_000):
    print(f"line {number:08d}", flush=True)
    if number % 200 == 0:
        time.sleep(0.02)
while True:
    print("the end", flush=True)
    time.sleep(0.05)
"""
LOOP = f"""
import sys
from millpond.machines.supervising import LogBounds, supervise
bounds = LogBounds(most_bytes={MOST}, kept={KEPT}, seconds=0.01)
supervise([sys.executable, "-c", {CHATTER!r}], bounds)
"""


def parts_of(log: Path) -> list[Path]:
    """Give a log and what was put aside of it, the oldest first."""
    return [Path(f"{log}.{number}") for number in range(KEPT, 0, -1)] + [log]


def read_all(log: Path) -> list[str]:
    """Read what is there of a log, while it is put aside under our eyes."""
    found = []
    for part in parts_of(log):
        with suppress(FileNotFoundError, IsADirectoryError):
            found.append(part.read_text())
    return found


def test_a_log_is_put_aside_and_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writer:
        for text in (b"one", b"two", b"three", b"four"):
            writer.write(text)
            assert log.read_bytes() == text
            put_aside(log, KEPT)
        writer.write(b"five")
    assert [each.read_bytes() for each in parts_of(log)] == [b"three", b"four", b"five"]
    assert len(list(tmp_path.iterdir())) == KEPT + 1


def test_only_a_file_is_a_log(tmp_path: Path) -> None:
    code = "from millpond.machines.supervising import own_log; import sys; print(own_log(), file=sys.stderr)"
    command = [sys.executable, "-c", code]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == "None\n"
    with (tmp_path / "x.log").open("ab") as file:
        filed = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=True)
    assert filed.stderr == f"{tmp_path / 'x.log'}\n"
    assert own_log() is None or own_log() != tmp_path / "x.log"


@pytest.mark.parametrize("is_full", [False, True])
def test_a_service_that_chatters_fills_no_disk(tmp_path: Path, is_full: bool) -> None:
    log = tmp_path / "worker.log"
    if is_full:  # Nothing can be put aside: its place is taken by a folder that is not empty.
        (tmp_path / "worker.log.1" / "x").mkdir(parents=True)
        (tmp_path / "worker.log.2" / "x").mkdir(parents=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP], stdout=file, stderr=subprocess.DEVNULL
        )
    try:
        wanted = 1 if is_full else KEPT + 1
        while len(read_all(log)) != wanted or "the end" not in "".join(read_all(log)):
            assert process.poll() is None
        assert sum(map(len, read_all(log))) < 7 * MOST, "of 280,000 bytes that were said"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == os.EX_OK
