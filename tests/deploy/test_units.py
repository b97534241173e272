"""The services' units: systemd itself says whether they are sound."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from millpond.deploy import units
from millpond.deploy.places import CURRENT_PYTHON, SCHEDULER_UNIT, SERVER_UNIT, WORKER_UNIT
from millpond.ground.settings import Settings

TEXTS = {
    WORKER_UNIT: units.worker_unit("/mnt/data"),
    SERVER_UNIT: units.server_unit("/srv/millpond", ["/mnt/objects", '/mnt/100 % "own"']),
    SCHEDULER_UNIT: units.scheduler_unit("/srv/millpond"),
}


def verify(folder: Path, texts: dict[str, str]) -> str:
    if shutil.which("systemd-analyze") is None:
        reason = "systemd-analyze is not here (Debian: apt-get install systemd)"
        if os.environ.get("MILLPOND_TEST_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    for name, text in texts.items():  # It also looks whether the program is there.
        (folder / name).write_text(text.replace(CURRENT_PYTHON, "/usr/bin/env"))
    words = ["systemd-analyze", "verify", "--man=no", *(str(folder / name) for name in texts)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stderr


def test_systemd_finds_every_unit_sound(tmp_path: Path) -> None:
    assert verify(tmp_path, TEXTS) == ""


def test_systemd_would_tell_of_a_fault(tmp_path: Path) -> None:
    broken = TEXTS[WORKER_UNIT].replace("Delegate=yes", "Delegat=yes")
    assert "Delegat" in verify(tmp_path, {WORKER_UNIT: broken})


def test_units_name_their_places_and_nothing_is_left_open() -> None:
    assert all("$" not in text for text in TEXTS.values())
    assert "ReadWritePaths=/var/lib/millpond-node -/mnt/data\n" in TEXTS[WORKER_UNIT]
    assert "ReadWritePaths=/var/lib/millpond-node\n" in units.worker_unit()
    assert (
        f"After=network-online.target local-fs.target time-sync.target {SCHEDULER_UNIT}"
        in (TEXTS[SERVER_UNIT])
    )
    assert (
        'ReadWritePaths=/srv/millpond -/mnt/objects "-/mnt/100 %% \\"own\\""\n'
        in TEXTS[SERVER_UNIT]
    )
    assert "--folder /srv/millpond/cluster" in TEXTS[SCHEDULER_UNIT]
    for name in (WORKER_UNIT, SERVER_UNIT):
        # What the sandbox is made of must not be forbidden.
        for forbidden in ("RestrictNamespaces", "ProtectControlGroups", "SystemCallFilter",
                          "ProtectKernelTunables", "ProtectHostname", "PrivateUsers"):  # fmt: skip
            assert forbidden not in TEXTS[name]
        assert "Delegate=yes" in TEXTS[name]
        assert "UMask=0022" in TEXTS[name]  # Or users' code could not read what is made for it.


def test_the_folders_of_settings_are_those_that_the_settings_know() -> None:
    held = {room: {name: f"/mnt/{room}"} for room, name in units._FOLDERS}
    assert units.folders_elsewhere(held) == tuple(f"/mnt/{room}" for room, _ in units._FOLDERS)
    assert units.folders_elsewhere({"objects": {"kind": "folder", "folder": ""}}) == ()
    for room, name in units._FOLDERS:
        assert hasattr(getattr(Settings(), room), name)
