"""On a host, its own commands find its data; nobody else's are led there."""

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

import millpond.client
from millpond.client.local import DATA_FILE, default_data_folder, own_data_folder

SOURCES = Path(millpond.client.__file__).parents[2]
HOME = {"HOME": "/home/ana"}
OWN = Path("/home/ana/.local/share/millpond")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make what ``./dev cluster`` leaves: installations, and the folder of all data elsewhere."""
    made = tmp_path / "var" / "all data"
    made.mkdir(parents=True, mode=0o711)
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / DATA_FILE).write_text(f"{made}\n")
    return made


def test_the_installation_says_where_its_data_is(tmp_path: Path, data: Path) -> None:
    prefix = tmp_path / "opt" / "current"
    assert default_data_folder(HOME, prefix) == data
    assert default_data_folder({**HOME, "MILLPOND_DATA": "/srv/x"}, prefix) == Path("/srv/x")
    assert own_data_folder(HOME) == OWN
    assert default_data_folder(HOME, tmp_path / "elsewhere" / ".venv") == OWN


@pytest.mark.parametrize("told", ["", "\n", "relative/folder", "/not/there", "\0", "/"])
def test_what_leads_nowhere_is_passed_over(tmp_path: Path, data: Path, told: str) -> None:
    (tmp_path / "opt" / DATA_FILE).write_text(told)
    found = default_data_folder(HOME, tmp_path / "opt" / "current")
    assert found == (Path("/") if told == "/" and os.geteuid() == 0 else OWN)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away: run it as root")
def test_who_does_not_own_the_data_has_a_folder_of_their_own(tmp_path: Path, data: Path) -> None:
    os.chown(data, 65534, 65534)
    assert default_data_folder(HOME, tmp_path / "opt" / "current") == OWN


def test_doctor_and_server_of_an_installation_look_at_its_data(tmp_path: Path, data: Path) -> None:
    made = tmp_path / "opt" / "0.1.0-abc"
    venv.create(made, symlinks=True)
    (tmp_path / "opt" / "current").symlink_to(made.name)
    python = tmp_path / "opt" / "current" / "bin" / "python"
    bare = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    bare["PYTHONPATH"] = f"{SOURCES}{os.pathsep}{sysconfig.get_path('purelib')}"

    def run(*words: str) -> str:
        done = subprocess.run(
            [python, *words], env=bare, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    findings: list[dict[str, Any]] = json.loads(
        run("-m", "millpond", "doctor", "--offline", "--json")
    )
    found = {each["name"]: each for each in findings}
    assert f"free for {data}" in found["disk"]["meaning"]
    assert found["data folder"]["state"] == "ok"
    find = "import argparse; from millpond.deploy.given import find_settings as find;"
    given = "argparse.Namespace(data=None, settings=None, host=None, port=None, tls=0, insecure=0)"
    assert run("-c", f"{find} print(find({given}, {bare})[1])").strip() == str(data)
