"""Bare machines in namespaces of this one: Debian with an SSH server, a cable to a switch, disks.

Each machine has network, process, mount, host-name and control-group namespaces of its own, a
system disk and a data disk that are really full when they are full (files mounted as ext4), and a
limit on memory. All hang on one bridge in a network namespace that has no way out: nothing here
can reach the Internet, nor can anything outside reach in. Whoever makes the network may run
programs on the bridge itself, as on a laptop that is plugged into the same switch.

A machine is started by a small shell, which is quick, or by systemd as Debian's own are.

Needs root, and of Debian: mmdebstrap, openssh-client, iproute2, e2fsprogs.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

MIB, GIB = 1 << 20, 1 << 30
NETWORK = "10.87.0"
LAPTOP = f"{NETWORK}.1"
PREFIX = "mprig-"
NEEDED = ("mmdebstrap", "ssh", "ssh-keygen", "ip", "mkfs.ext4", "unshare", "nsenter", "setpriv")
CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", "freezer")
PACKAGES = ("openssh-server", "systemd-sysv", "dbus", "libpam-systemd")
CGROUPS = Path("/sys/fs/cgroup")
START_SECONDS = 30.0

INIT = r"""
set -eu
place=$1 base=$2 name=$3 controllers=$4 init=$6
mount --make-rprivate /
mount -o loop,noatime "$place/system.img" "$place/system"
mkdir -p "$place/system/upper" "$place/system/work"
root=$place/root
mount -t overlay -o "lowerdir=$base,upperdir=$place/system/upper,workdir=$place/system/work" overlay "$root"
mkdir -p "$root/mnt/data" "$root/old"
mount -o loop,noatime "$place/data.img" "$root/mnt/data"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=1m tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for pair in "fd /proc/self/fd" "stdin /proc/self/fd/0" "stdout /proc/self/fd/1" "stderr /proc/self/fd/2"; do
    ln -s "${pair#* }" "$root/dev/${pair%% *}"
done
mount -t tmpfs -o mode=1777,size=512m tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755,size=64m tmpfs "$root/run"
mount -t tmpfs -o mode=1777,size=512m tmpfs "$root/tmp"
if [ "$controllers" = . ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
elif [ -n "$controllers" ]; then
    mount -t tmpfs -o mode=755,size=1m tmpfs "$root/sys/fs/cgroup"
    for each in $controllers; do
        mkdir "$root/sys/fs/cgroup/$each"
        case $each in
            unified) mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/$each" ;;
            systemd) mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/$each" ;;
            *) mount -t cgroup -o "$each" cgroup "$root/sys/fs/cgroup/$each" ;;
        esac
    done
fi
for pair in $5; do
    mkdir -p "$root${pair#*:}"
    mount --bind "${pair%%:*}" "$root${pair#*:}"
    mount -o remount,bind,ro "$root${pair#*:}"
done
hostname "$name"
echo "$name" >"$root/etc/hostname"
cd "$root"
pivot_root . old
umount -l /old
rmdir /old 2>/dev/null || true
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -A >/dev/null
mkdir -p /run/lock
if [ "$init" = systemd ]; then
    # The kernel and its settings are not this machine's own.
    for each in sysctl modules-load udevd; do
        ln -sf /dev/null "/etc/systemd/system/systemd-$each.service"
    done
    exec env -i container=rig /lib/systemd/systemd --system --log-target=console
fi
exec env -i PATH="$PATH" HOME=/root /bin/bash -c '
set -eu
mkdir -p /run/sshd
/usr/sbin/sshd
: >/run/booted
while :; do sleep infinity & wait || true; done
'
"""


class RigError(Exception):
    """The rig itself could not do something."""


def sh(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program of this machine; raise with its words when it fails."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **more
    )
    if done.returncode:
        raise RigError(f"{words}: code {done.returncode}: {done.stdout}{done.stderr}")
    return done


def why_not() -> str:
    """Say why there can be no rig here; empty when there can."""
    if os.geteuid() != 0:
        return "The rig of bare machines needs root."
    missing = [each for each in NEEDED if shutil.which(each) is None]
    if missing:
        return f"The rig of bare machines needs {', '.join(missing)} (Debian: mmdebstrap, openssh-client, iproute2, e2fsprogs)."
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"Namespaces cannot be made here: {tried.stderr.strip()}" if tried.returncode else ""


def make_base(folder: Path) -> Path:
    """Make the root file system that all machines begin as, once: Debian's least, systemd and sshd.

    It knows a package mirror that it cannot reach, as a machine behind a closed door does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"base-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:8]}"
    archive = base.with_suffix(".tar")
    with (folder / "base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (base / ".complete").exists():
            return base
        shutil.rmtree(base, ignore_errors=True)
        if not archive.exists():
            making = archive.with_suffix(".new.tar")
            skipped = [
                f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("man", "doc", "locale")
            ]
            sh("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", *skipped,
               _codename(), making, "/etc/apt/sources.list.d/debian.sources")  # fmt: skip
            making.rename(archive)
        base.mkdir()
        sh("tar", "-C", base, "--numeric-owner", "--exclude=./dev/*", "-xf", archive)
        for path in (base / "etc/apt/sources.list.d").iterdir():
            path.unlink()
        sources = f"deb http://mirror.example.org/debian {_codename()} main\n"
        (base / "etc/apt/sources.list").write_text(sources)
        for path in (base / "etc/ssh").glob("ssh_host_*"):
            path.unlink()  # Each machine makes its own at first start.
        (base / "etc/resolv.conf").write_text("")
        (base / "etc/machine-id").write_text("")  # The same.
        (base / ".complete").touch()
    return base


def _codename() -> str:
    text = Path("/etc/os-release").read_text()
    return next(
        line.split("=", 1)[1].strip('"')
        for line in text.splitlines()
        if line.startswith("VERSION_CODENAME=")
    )


def sweep(folder: Path) -> list[str]:
    """Remove what runs left behind that did not end by themselves; give their names."""
    swept = []
    for place in sorted(folder.glob("run-*")):
        with (place / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # It is alive.
            _remove_all(place.name.removeprefix("run-"))
            shutil.rmtree(place, ignore_errors=True)
            swept.append(place.name)
    return swept


def _remove_all(run: str) -> None:
    """End every process of a run and remove its namespaces and groups."""
    name = f"{PREFIX}{run}-*"
    for group in sorted([*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]):
        _empty(group)
    listed = sh("ip", "netns", "list").stdout.splitlines()
    for name in (line.split()[0] for line in listed if line.startswith(f"{PREFIX}{run}-")):
        for pid in sh("ip", "netns", "pids", name).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        sh("ip", "netns", "del", name)


def _empty(group: Path) -> None:
    """Kill all in a group and the groups below it, and remove them."""
    folders = [Path(at) for at, _, _ in os.walk(group, topdown=False)]
    end = time.monotonic() + START_SECONDS
    while any(folder.exists() for folder in folders) and time.monotonic() < end:
        for folder in folders:
            with suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with suppress(OSError):
                folder.rmdir()


class Machine:
    """One bare machine; off until it is started."""

    def __init__(
        self, lan: "Lan", number: int, name: str, memory_bytes: int, *, has_systemd: bool = False
    ) -> None:
        self.has_systemd = has_systemd
        self.lan, self.number, self.name = lan, number, name
        self.address = f"{NETWORK}.{10 + number}"
        self.namespace = f"{PREFIX}{lan.run_id}-{name}"
        self.folder = lan.folder / name
        self.memory_bytes = memory_bytes
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.shown: dict[str, str] = {}
        self._log: IO[bytes] | None = None

    # Making -----------------------------------------------------------------------------------

    def make(self, system_bytes: int, data_bytes: int) -> None:
        """Make its disks and its cable."""
        for each in ("system", "root"):
            (self.folder / each).mkdir(parents=True)
        for name, size in (("system", system_bytes), ("data", data_bytes)):
            image = self.folder / f"{name}.img"
            with image.open("wb") as file:
                file.truncate(size)
            sh(
                "mkfs.ext4",
                "-q",
                "-m",
                "0",
                "-O",
                "^has_journal",
                "-E",
                "lazy_itable_init=1",
                image,
            )
        sh("ip", "netns", "add", self.namespace)
        own, other = ["ip", "-n", self.namespace], ["ip", "-n", self.lan.namespace]
        sh(*own, "link", "set", "lo", "up")
        sh(*other, "link", "add", self.cable, "type", "veth", "peer", "name", "eth0",
           "netns", self.namespace)  # fmt: skip
        sh(*other, "link", "set", self.cable, "master", "br0", "up")
        sh(*own, "addr", "add", f"{self.address}/24", "dev", "eth0")
        sh(*own, "link", "set", "eth0", "up")

    @property
    def cable(self) -> str:
        """Name of the bridge's end of its cable."""
        return f"v{self.number}"

    @property
    def hierarchies(self) -> tuple[str, ...]:
        """Give the hierarchies of control groups in which it has a group of its own.

        Systemd makes groups in all there are, and none of them may come to lie beside ours.
        """
        if (CGROUPS / "cgroup.controllers").exists():  # Version 2 has one, for all controllers.
            return (".",) if self.has_systemd else ()
        if not self.has_systemd:
            return CONTROLLERS
        return tuple(sorted(each.parent.name for each in CGROUPS.glob("*/cgroup.procs")))

    # Power ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Switch it on, and wait until its SSH server runs."""
        controllers = self._join_groups()
        self._log = (self.folder / "console").open("ab")
        binds = " ".join(f"{source}:{inside}" for inside, source in self.shown.items())
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL",  # All of it ends with whoever started it.
             *self._joining(), "nsenter", f"--net=/run/netns/{self.namespace}",
             "unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork",
             "--kill-child=KILL",
             "sh", "-c", INIT, "init", self.folder, self.lan.base, self.name,
             " ".join(controllers), binds, "systemd" if self.has_systemd else "shell"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        booted = "run/sshd.pid" if self.has_systemd else "run/booted"
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            self.pid = self._find_init()
            if self.pid and Path(f"/proc/{self.pid}/root/{booted}").exists():
                return
            time.sleep(0.02)
        raise RigError(f"{self.name} does not start: {(self.folder / 'console').read_text()}")

    def _join_groups(self) -> list[str]:
        """Make its control groups, with its memory; give the controllers that can be had."""
        found = []
        for each in self.hierarchies:
            group = CGROUPS / each / self.namespace
            if not (CGROUPS / each / "cgroup.procs").exists():
                continue
            group.mkdir(exist_ok=True)
            limit = group / ("memory.max" if each == "." else "memory.limit_in_bytes")
            if limit.exists():
                limit.write_text(str(self.memory_bytes))
            if each == "cpuset":  # It takes nobody in before it says which cores.
                for kind in ("cpuset.cpus", "cpuset.mems"):
                    (group / kind).write_text((CGROUPS / each / kind).read_text())
            found.append(each)
        return found

    def _joining(self) -> list[str]:
        """Give the words that make a program a member of its control groups, from its start on."""
        files = (CGROUPS / each / self.namespace / "cgroup.procs" for each in self.hierarchies)
        listed = " ".join(str(file) for file in files if file.exists())
        join = 'for file in $1; do echo $$ >"$file"; done; shift; exec "$@"'
        return ["sh", "-c", join, "join", listed]

    def _find_init(self) -> int:
        """Give the number, here, of its first process."""
        assert self.process
        with suppress(OSError, IndexError):
            path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            return int(path.read_text().split()[0])
        return 0

    def stop(self) -> None:
        """Pull the plug: everything on it is gone at once; its disks stay."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        for each in self.hierarchies:
            group = CGROUPS / each / self.namespace
            if group.exists():
                _empty(group)
        if self._log:
            self._log.close()

    def reboot(self) -> None:
        """Let systemd end everything in order, and switch it on again."""
        assert self.process
        self.run("systemctl", "reboot", check=False)  # It may be cut off while it says so.
        self.process.wait(START_SECONDS)
        self.stop()
        self.start()

    def cut(self) -> None:
        """Pull the cable."""
        sh("ip", "-n", self.lan.namespace, "link", "set", self.cable, "down")

    def mend(self) -> None:
        """Plug the cable in again."""
        sh("ip", "-n", self.lan.namespace, "link", "set", self.cable, "up")

    # Looking ----------------------------------------------------------------------------------

    def show(self, source: Path, inside: str) -> None:
        """Let it see a folder of this machine, for reading, from its next start on."""
        self.shown[inside] = str(source)

    def run(
        self, *words: object, check: bool = True, seconds: float = 120, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on it as root, as somebody who sits before it."""
        root = f"/proc/{self.pid}/root"
        done = subprocess.run(
            [*self._joining(), "nsenter", f"--target={self.pid}", "--all", f"--root={root}",
             f"--wd={root}/root", "env", "-i", "HOME=/root", "LANG=C.UTF-8",
             "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
             *(str(word) for word in words)],
            capture_output=True, text=True, check=False, timeout=seconds, input=text,
        )  # fmt: skip
        if check and done.returncode:
            raise RigError(
                f"{self.name}: {words}: code {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done

    def path(self, inside: str) -> Path:
        """Give where a file of it lies, as seen from here; only while it is on."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def trust(self, public_key: str, user: str = "root") -> None:
        """Let the holder of a key sign in."""
        home = "/root" if user == "root" else f"/home/{user}"
        self.run("sh", "-c",
                 f"install -d -m 700 -o {user} {home}/.ssh && cat >>{home}/.ssh/authorized_keys"
                 f" && chown {user} {home}/.ssh/authorized_keys", text=public_key + "\n")  # fmt: skip


class Lan:
    """A switch with machines on it."""

    def __init__(self, folder: Path, base: Path) -> None:
        """Make the switch; ``folder`` holds the disks of this run and goes with ``close``."""
        self.run_id = secrets.token_hex(3)
        self.folder = folder / f"run-{self.run_id}"
        self.folder.mkdir(parents=True)
        self._lock = (self.folder / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.base = base
        self.namespace = f"{PREFIX}{self.run_id}-lan"
        self.machines: dict[str, Machine] = {}
        own = ["ip", "-n", self.namespace]
        sh("ip", "netns", "add", self.namespace)
        sh(*own, "link", "set", "lo", "up")
        sh(*own, "link", "add", "br0", "type", "bridge")
        sh(*own, "addr", "add", f"{LAPTOP}/24", "dev", "br0")
        sh(*own, "link", "set", "br0", "up")

    def add(
        self,
        name: str,
        *,
        memory_bytes: int = 3 * GIB,
        system_bytes: int = 6 * GIB,
        data_bytes: int = 2 * GIB,
        has_systemd: bool = False,
    ) -> Machine:
        """Make a machine; it is off."""
        number = len(self.machines) + 1
        machine = Machine(self, number, name, memory_bytes, has_systemd=has_systemd)
        self.machines[name] = machine
        machine.make(system_bytes, data_bytes)
        return machine

    def on_laptop(self, words: Sequence[object]) -> list[str]:
        """Give the command that runs a program of this machine on the switch's network."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *(str(word) for word in words)]

    def close(self) -> None:
        """Remove everything."""
        for machine in self.machines.values():
            machine.stop()
        _remove_all(self.run_id)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


@contextmanager
def open_lan(folder: Path) -> Iterator[Lan]:
    """Make a switch, after removing what dead runs left; remove all of it at the end."""
    base = make_base(folder)
    sweep(folder)
    lan = Lan(folder, base)
    try:
        yield lan
    finally:
        lan.close()


def fetch_package(folder: Path, name: str) -> Path:
    """Give a Debian package as a file, for a machine that has one more thing than the others."""
    kept = folder / "packages"
    kept.mkdir(parents=True, exist_ok=True)
    if not list(kept.glob(f"{name}_*.deb")):
        sh("apt-get", "-q", "download", name, cwd=kept)
    return next(kept.glob(f"{name}_*.deb"))
