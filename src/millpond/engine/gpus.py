"""This machine's graphics processors: find them, choose whole ones for a task, show only those.

A sandbox sees the device files of the processors that its task was given, and no other. CUDA and
HIP count what they can open, from 0 on. Without a sandbox all files can be opened: then a variable
names the processors, and keeping to it is up to the program.
"""

import logging
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Maker = Literal["nvidia", "amd"]

_SHARED: dict[Maker, tuple[str, ...]] = {
    "nvidia": ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"),
    "amd": ("kfd",),
}
# The drivers' libraries look machine and bus up; groups of other tasks lie in /sys/fs, not here.
_SYSTEM = ("/sys/bus", "/sys/class", "/sys/dev", "/sys/devices", "/sys/module")
_LIBRARIES = "/opt/rocm*"
_MAKE_SECONDS = 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuPlaces:
    """Where the processors of a machine are told of.

    Attributes:
        devices: folder of device files.
        nvidia: folder with a folder of facts for each of NVIDIA's, by its place on the bus.
        amd: folder with a folder of facts for each of AMD's, and for each processor of other kind.
        modprobe: program that makes the device files which NVIDIA's driver leaves to be made.
    """

    devices: Path = Path("/dev")
    nvidia: Path = Path("/proc/driver/nvidia/gpus")
    amd: Path = Path("/sys/class/kfd/kfd/topology/nodes")
    modprobe: str = "nvidia-modprobe"


@dataclass(frozen=True)
class Gpu:
    """One processor; a task has it whole, or not at all.

    Attributes:
        device: its device file, below the folder of device files.
        number: its place among all of this machine, as its maker's libraries count them.
        uuid: the name by which NVIDIA's libraries know it everywhere; empty when it is not told.
    """

    maker: Maker
    device: str
    number: int
    uuid: str = ""


@dataclass(frozen=True)
class Given:
    """What a task has of the processors.

    Attributes:
        gpus: those that are its own.
        variables: by which CUDA's and HIP's programs know them.
        arguments: of bubblewrap.
        gids: groups that may open their files, where not everybody may.
    """

    gpus: tuple[Gpu, ...] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: {"CUDA_VISIBLE_DEVICES": ""})
    arguments: tuple[str, ...] = ()
    gids: tuple[int, ...] = ()


NOTHING = Given()
"""Of a task that asked for none."""


class Gpus:
    """The processors that this machine gives away. It never changes once it is made."""

    def __init__(self, places: GpuPlaces | None = None, *, most: int | None = None) -> None:
        """Find them, at most ``most``; of two makers on one machine, NVIDIA's alone."""
        self._places = places or GpuPlaces()
        found = find_nvidia(self._places) or find_amd(self._places)
        self.all = tuple(found if most is None else found[: max(0, most)])

    def choose(self, count: int, taken: Collection[Gpu]) -> tuple[Gpu, ...]:
        """Choose so many of those that are not taken: the first, so that warm sandboxes fit again.

        Raises:
            ValueError: there are not so many.
        """
        free = [each for each in self.all if each not in taken]
        if count > len(free):
            raise ValueError(f"{count} processors were asked for, and {len(free)} are free")
        return tuple(free[:count])

    def give(self, gpus: Sequence[Gpu], *, is_isolated: bool) -> Given:
        """Tell what a sandbox, or a plain runner, needs for a task to have these and no others."""
        hides = bool(self.all) and self.all[0].maker == "amd" and not is_isolated
        if not gpus:
            return Given(variables=_HIDDEN_AMD) if hides else NOTHING
        maker = gpus[0].maker
        named = [*(each.device for each in gpus), *_SHARED[maker]]
        files = {f"/dev/{each}": f"{self._places.devices}/{each}" for each in named}
        there = {target: source for target, source in files.items() if _is_device(source)}
        arguments = [
            part for target, source in there.items() for part in ("--dev-bind", source, target)
        ]
        arguments += [part for path in _system_parts(maker) for part in ("--ro-bind", path, path)]
        return Given(
            gpus=tuple(gpus),
            variables=_name_them(gpus, is_isolated=is_isolated),
            arguments=tuple(arguments) if is_isolated else (),
            gids=tuple(sorted({gid for each in there.values() for gid in _group_of(each)})),
        )


_HIDDEN_AMD = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}  # HIP: empty means all.


def _name_them(gpus: Sequence[Gpu], *, is_isolated: bool) -> dict[str, str]:
    """Name them as programs find them: counted from 0 where no other can be opened.

    Many programs take numbers only, so that a UUID stands just where a number might mean another.
    """
    if is_isolated:
        names = [str(number) for number in range(len(gpus))]
    elif all(each.uuid for each in gpus):
        names = [each.uuid for each in gpus]
    else:
        names = [str(each.number) for each in gpus]
    named = {"CUDA_VISIBLE_DEVICES": ",".join(names)}
    if gpus[0].maker == "amd":
        return named | {"HIP_VISIBLE_DEVICES": ",".join(names)}
    return named | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # Else it counts the fastest first.


def _system_parts(maker: Maker) -> list[str]:
    """Give the folders beside the device files that a maker's libraries need."""
    parts = [each for each in _SYSTEM if Path(each).is_dir()]
    if maker == "amd":
        parts += sorted(str(each) for each in Path("/").glob(_LIBRARIES.lstrip("/")))
    return parts


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)  # noqa: PTH116 - texts, for each start comes here.
    except OSError:
        return False


def _group_of(path: str) -> list[int]:
    """Give the group that may open a file which not everybody may; never root's."""
    facts = os.stat(path)  # noqa: PTH116 - as above.
    others, group = facts.st_mode & 0o006, facts.st_mode & 0o060
    return [facts.st_gid] if others != 0o006 and group == 0o060 and facts.st_gid else []  # noqa: PLR2004


def find_nvidia(places: GpuPlaces) -> list[Gpu]:
    """Find NVIDIA's processors that the driver knows and that have a device file here."""
    try:
        folders = sorted(places.nvidia.iterdir())
    except OSError:
        return []
    told = [each for each in map(_read_nvidia, folders) if each is not None]
    _make_files(places, [minor for minor, _ in told])
    found = []
    for number, (minor, uuid) in enumerate(told):
        device = f"nvidia{minor}"
        if _is_device(f"{places.devices}/{device}"):
            found.append(Gpu("nvidia", device, number, uuid))
        else:
            _log.warning(
                "The driver knows a GPU that has no device file %s/%s, so no task gets it. Install"
                " nvidia-modprobe, or run nvidia-smi as root, and start Millpond again.",
                places.devices,
                device,
            )
    return found


def _read_nvidia(folder: Path) -> tuple[int, str] | None:
    """Read a processor's number of device file and its UUID; None when it is shut out."""
    try:
        lines = (folder / "information").read_text(errors="replace").splitlines()
    except OSError:
        return None
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    minor = facts.get("Device Minor", "")
    if not minor.isdecimal() or "Yes" in (facts.get("GPU Excluded"), facts.get("Blacklisted")):
        return None
    uuid = facts.get("GPU UUID", "")
    return int(minor), uuid if re.fullmatch(r"GPU-[0-9a-fA-F-]+", uuid) else ""


def _make_files(places: GpuPlaces, minors: Sequence[int]) -> None:
    """Have the driver's own program make the device files that it makes at the first use only."""
    program = shutil.which(places.modprobe)
    missing = [n for n in minors if not _is_device(f"{places.devices}/nvidia{n}")]
    orders = [[f"-c={number}"] for number in missing]
    if minors and not _is_device(f"{places.devices}/nvidia-uvm"):
        orders.append(["-u", "-c=0"])
    for order in orders if program else ():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [str(program), *order],
                timeout=_MAKE_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )


def find_amd(places: GpuPlaces) -> list[Gpu]:
    """Find AMD's processors that ROCm can compute on and that have a device file here."""
    if not _is_device(f"{places.devices}/kfd"):
        return []
    devices = [f"dri/renderD{minor}" for minor in _read_amd(places.amd)]
    return [
        Gpu("amd", device, number)
        for number, device in enumerate(devices)
        if _is_device(f"{places.devices}/{device}")
    ]


def _read_amd(folder: Path) -> Iterator[int]:
    """Read the numbers of AMD's device files, in the order in which ROCm counts them."""
    with suppress(OSError):
        nodes = [each for each in folder.iterdir() if each.name.isdecimal()]
        for node in sorted(nodes, key=lambda each: int(each.name)):
            with suppress(OSError):
                text = (node / "properties").read_text()
                facts = dict(each.split() for each in text.splitlines() if each.count(" ") == 1)
                minor = facts.get("drm_render_minor", "0")
                if minor.isdecimal() and int(minor) and facts.get("simd_count", "0") != "0":
                    yield int(minor)
