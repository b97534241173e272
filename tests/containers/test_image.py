"""The image, made by buildah on a base that mmdebstrap makes, with no network; needs root."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version as version_of
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from millpond.deploy.wheelhouse import Wheelhouse

ROOT = Path(__file__).parents[2]
NEEDED = ("buildah", "runc", "mmdebstrap")
_CONTAINERS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{0}/graph"
runroot = "{0}/run"
"""


class Builder:
    """Buildah with storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "containers.conf").write_text(_CONTAINERS)
        (folder / "storage.conf").write_text(_STORAGE.format(folder))
        self.environ = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *words: str) -> str:
        """Run buildah; give what it says."""
        done = subprocess.run(
            ["buildah", *words], env=self.environ, cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr[-3000:]}"
        return done.stdout.strip()


@pytest.fixture
def builder(tmp_path: Path, missing_here: Callable[[str, str], NoReturn]) -> Iterator[Builder]:
    """Give buildah, which can make images here."""
    lacking = [name for name in NEEDED if not shutil.which(name)]
    if lacking:
        missing_here(", ".join(lacking), f"apt-get install {' '.join(lacking)}")
    if os.geteuid() != 0:
        missing_here("root's rights to unpack a base image", "sudo ./dev test tests/containers")
    made = Builder(tmp_path)
    try:
        yield made
    finally:
        made.run("rm", "--all")
        made.run("rmi", "--all", "--force")
        subprocess.run(
            ["umount", str(tmp_path / "graph" / "overlay")], check=False, capture_output=True
        )


def copy_context(folder: Path) -> Path:
    """Give the files that the build takes, as they are now, whoever makes the wheel anew."""
    machine = os.uname().machine
    house = Wheelhouse(ROOT / ".dev" / "wheelhouse")
    house.gather_wheel()
    house.gather(machine, "3.11")
    shutil.copytree(ROOT / "containers", folder / "containers")
    wheels = folder / ".dev" / "wheelhouse" / "wheels"
    wheels.mkdir(parents=True)
    for name, path in house.kit(machine, "3.11").files.items():
        if name == "lock.txt":
            shutil.copy(path, wheels.parent / f"lock-{machine}-3.11.txt")
        elif name.endswith(".whl"):
            shutil.copy(path, wheels / name)
    return folder


def look_by_runc(root: Path, bundle: Path) -> str:
    """Run ``millpond doctor`` with no more rights than the compose file gives a node."""
    node = yaml.safe_load((ROOT / "containers" / "compose.yaml").read_text())["services"]["node-1"]
    assert node["cap_drop"] == ["ALL"]
    bundle.mkdir()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["root"] = {"path": str(root), "readonly": True}
    process, system = spec["process"], spec["linux"]
    process |= {"terminal": False, "user": {"uid": 10001, "gid": 10001}, "rlimits": []}
    process["args"] = ["/opt/millpond/bin/millpond", "doctor"]
    process["env"] = [
        "PATH=/opt/millpond/bin:/usr/bin:/bin",
        "HOME=/tmp",
        "MILLPOND_DATA=/tmp/data",
    ]
    process["capabilities"] = {kind: [] for kind in process["capabilities"]}
    process["noNewPrivileges"] = False
    system.pop("seccomp", None)
    assert "seccomp=unconfined" in node["security_opt"]
    if "systempaths=unconfined" in node["security_opt"]:
        system |= {"maskedPaths": [], "readonlyPaths": []}
    temporary = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    spec["mounts"].append(temporary | {"options": ["mode=1777"]})
    (bundle / "config.json").write_text(json.dumps(spec))
    done = subprocess.run(
        ["runc", "--root", str(bundle / "state"), "run", f"millpond-{os.getpid()}"],
        cwd=bundle, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_image_is_made_without_a_network_and_runs(builder: Builder, tmp_path: Path) -> None:
    context = copy_context(tmp_path / "context")
    base = tmp_path / "base.tar"
    subprocess.run(
        [
            "mmdebstrap", "--quiet", "--variant=minbase",
            "--include=ca-certificates,python3,python3-venv,bubblewrap", "bookworm", str(base),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    scratch = builder.run("from", "scratch")
    builder.run("add", "--quiet", scratch, str(base), "/")
    base.unlink()
    builder.run("commit", "--quiet", "--rm", scratch, "localhost/base")
    builder.run(
        "bud", "--quiet", "--isolation=oci", "--network=none", "--format=docker",
        "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--build-arg=BASE=localhost/base",
        "--ignorefile=containers/Dockerfile.dockerignore", "--file=containers/Dockerfile",
        "--tag=localhost/millpond", str(context),
    )  # fmt: skip
    made = builder.run("from", "--pull-never", "localhost/millpond")

    def inside(*words: str) -> str:
        return builder.run("run", "--isolation=oci", "--network=none", made, "--", *words)

    assert inside("millpond", "--version") == f"millpond {version_of('millpond')}"
    assert inside("id", "-u") == "10001"
    assert inside("stat", "-c", "%U %a", "/data", "/node", "/tokens") == "\n".join(
        ["millpond 700"] * 3
    )
    inside(
        "python", "-c", "import millpond.main, millpond.worker, millpond.engine.cluster.scheduler"
    )
    assert "bubblewrap" in inside("bwrap", "--version")
    assert inside("sh", "-c", "command -v pip gcc curl || echo none") == "none"
    isolating = look_by_runc(Path(builder.run("mount", made)), tmp_path / "bundle")
    assert re.search(r"^ok +isolation of programs +bubblewrap", isolating, re.MULTILINE), isolating
    facts = builder.run("inspect", "--type=image", "localhost/millpond")
    for word in ("PASSWORD", "SECRET", "TOKEN"):
        assert word not in facts, "no secret is part of the image"
    assert "check.py" in facts, "the health check came with it"
