"""A company's bare machines, a host and its workers, and the one command that brings them up."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from millpond.deploy.packing import version_in
from millpond.deploy.wheelhouse import Wheelhouse

ROOT = Path(__file__).parents[2]
MILLPOND = "/usr/local/bin/millpond"


class Company:
    """A host and its workers, as a company has them: bare."""

    def __init__(
        self,
        lan: Any,
        key: Path,
        start: Callable[..., Any],
        workers: Sequence[str],
        *,
        with_systemd: Collection[str] = (),
    ) -> None:
        """Start them, and bring the host what its owner has there.

        Args:
            lan: the switch.
            key: private key that all of them know.
            start: makes a machine and switches it on.
            workers: their names; the host is called host.
            with_systemd: names of those that systemd starts.
        """
        self.host = start("host", memory_bytes=4 << 30, has_systemd="host" in with_systemd)
        self.workers = [start(name, has_systemd=name in with_systemd) for name in workers]
        self.list = Path("/root/machines.txt")
        clone = lan.folder / "checkout"
        subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(clone)], check=True)
        home = self.host.path("/root")
        shutil.copytree(clone, home / "millpond", symlinks=True)
        shutil.copytree(ROOT / ".dev" / "wheelhouse", home / "millpond" / ".dev" / "wheelhouse")
        shutil.copy(key, home / "company-key")
        (home / "company-key").chmod(0o600)
        # Two machines of which one dies cannot keep two copies: there, data lie on the host.
        data = " data=/mnt/data" if len(workers) > 2 else ""
        lines = [
            f"root@{each.address} name={each.name} slots=2 key=company-key{data}"
            for each in self.workers
        ]
        self.write("# The company's machines", *lines)

    def write(self, *lines: str) -> None:
        self.host.path(str(self.list)).write_text("\n".join(lines) + "\n")

    def bring_up(self, *more: str, code: int = 0) -> tuple[str, str]:
        # Load is counted for this whole machine, so that no guard may go by it here.
        given = f"MILLPOND_CLUSTER_LOAD_MOST=1000 ./dev cluster {self.list} {' '.join(more)}"
        command = f"cd /root/millpond && {given}"
        done = self.host.run("sh", "-c", command, check=False, seconds=900)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.host.run(MILLPOND, *words, "--json").stdout)

    def states(self) -> dict[str, str]:
        return {node["name"]: node["state"] for node in self.json("node", "list")}


def change_version(house: Path, version: str, more: bytes = b"", *, is_broken: bool = False) -> str:
    """Make Millpond's own wheel in a wheelhouse one of another version, or one that cannot start.

    Args:
        house: the wheelhouse.
        version: its number.
        more: code that it has beside.
        is_broken: whether its worker ends at once.

    Returns:
        Its number with its code.
    """
    manifest = json.loads((house / "manifest.json").read_text())
    before = house / "wheels" / manifest["wheel"]["name"]
    after = before.with_name(f"millpond-{version}-py3-none-any.whl")
    making = house / "making.whl"
    old, record = f"millpond-{manifest['version']}.dist-info/", []
    with zipfile.ZipFile(before) as source, zipfile.ZipFile(making, "w") as target:
        for name in source.namelist():
            data, kept = source.read(name), name.replace(old, f"millpond-{version}.dist-info/")
            if kept.endswith("dist-info/METADATA"):
                data = re.sub(rb"(?m)^Version: .*$", f"Version: {version}".encode(), data, count=1)
            elif kept == "millpond/worker.py" and is_broken:
                data = b"raise SystemExit('This version cannot start.')\n"
            elif kept == "millpond/ground/clock.py":
                data += more
            if not kept.endswith("/RECORD"):
                target.writestr(kept, data)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
                record.append(f"{kept},sha256={digest.decode()},{len(data)}")
        name = f"millpond-{version}.dist-info/RECORD"
        target.writestr(name, "\n".join([*record, f"{name},,"]) + "\n")
    making.replace(after)
    digest = hashlib.sha256(after.read_bytes()).hexdigest()
    manifest |= {"version": version, "wheel": {"name": after.name, "sha256": digest}}
    (house / "manifest.json").write_text(json.dumps(manifest))
    for key in manifest["targets"]:
        Wheelhouse(house)._write_lock(manifest, key)
    return version_in(after)


def until(is_so: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.3)
    return found
