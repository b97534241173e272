"""Write the bubblewrap command of one sandbox: what it sees, what it may write, what it is."""

import compileall
import functools
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from millpond.engine.gpus import NOTHING, Given
from millpond.engine.seccomp import make_filter
from millpond.engine.starting import Launch
from millpond.engine.values import Limits
from millpond.ground.errors import InvalidError

KIT = Path(__file__).parent.parent / "kit"
UID_INSIDE = 1000
_PLACES = ("/mnt", "/media", "/srv", "/opt")
_SHM_MOST = 1 << 30
_PRIVATE = ["/tmp", "/dev/shm"]  # noqa: S108 - the sandbox's own, empty at each task.
_ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ld.so.cache", "alternatives", "R", "fonts")
_ETC_COPIED = ("localtime", "mime.types")
_ETC_NETWORK = ("resolv.conf", "ssl", "ca-certificates", "pki", "services", "gai.conf")
_ETC_OWN = {
    "passwd": f"task:x:{UID_INSIDE}:{UID_INSIDE}:task:/tmp:/bin/sh\n",
    "group": f"task:x:{UID_INSIDE}:\n",
    "hosts": "127.0.0.1 localhost task\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_BOOT = (
    "import sys; sys.path[:1] = sys.argv[2:4]; from millpond.runner import main; main(sys.argv[1])"
)


@dataclass(frozen=True)
class Shown:
    """The folders of this machine that one sandbox is shown.

    Attributes:
        environment: virtual environment, at /env.
        code: the pipeline version's files, at /code.
        folder: the sandbox's own; ``in`` and ``out`` below it are /task/in and /task/out.
        etc: small files of our own for /etc, made by ``write_etc``.
    """

    environment: Path
    code: Path
    folder: Path
    etc: Path


def write_etc(folder: Path) -> None:
    """Write a sandbox's whole /etc, for one mount: no account of this machine is in it.

    What is shown there from the machine itself, as it is by then, finds an empty place.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    texts = {name: text.encode() for name, text in _ETC_OWN.items()}
    texts["resolv.conf"] = b""  # It may come later, with the network.
    for name in (*_ETC_COPIED, *_ETC, *_ETC_NETWORK):
        path = Path("/etc", name)
        if path.is_dir():
            (folder / name).mkdir(mode=0o755, exist_ok=True)
        elif path.is_file():
            texts[name] = path.read_bytes() if name in _ETC_COPIED else b""
    for name, data in texts.items():
        path = folder / name
        path.write_bytes(data)
        path.chmod(0o644)


def compile_kit() -> None:
    """Compile the kit's bytecode where that can be written: a sandbox sees it read-only.

    It serves environments of this server's own version of Python; others read the source.
    """
    if os.access(KIT, os.W_OK):
        compileall.compile_dir(KIT, maxlevels=0, quiet=2)  # Quick when all is compiled.
        with suppress(OSError):
            (KIT / "__pycache__").chmod(0o755)  # Users' uids read it, whatever our umask.


def make_launch(
    shown: Shown,
    *,
    limits: Limits,
    preload: Sequence[str],
    network: bool,
    uid: int | None,
    can_mount: bool = True,
    groups: Sequence[str] = (),
    gateway: str = "",
    given: Given = NOTHING,
) -> Launch:
    """Write the launch of a sandbox; ``uid`` is None unless we are root.

    Raises:
        InvalidError: the environment's Python lies where a sandbox can't be shown it.
    """
    binds = _folders(shown, gateway)
    names = (*_ETC, *_ETC_NETWORK) if network else _ETC
    out, place, mounts = (f"{shown.folder}/out", "/task/out"), "", []
    if uid is not None and can_mount:
        place = choose_place()
        staged = [*binds, out]
        mounts = [(source, f"{place}/{number}") for number, (source, _) in enumerate(staged)]
        *binds, out = [
            (target, shown_at) for (_, target), (_, shown_at) in zip(mounts, staged, strict=True)
        ]
    command = [
        *_namespaces(network=network),
        *_system(limits),
        *given.arguments,
        *(part for source, target in binds for part in ("--ro-bind", source, target)),
        *_from_etc(names, shown.etc),
        *("--bind", *out, "--chdir", "/task/out", "--remount-ro", "/dev", "--remount-ro", "/"),
    ]
    allowed = make_filter()
    command += ["--seccomp", "{filter}"] if allowed else []
    command += ["--", *boot("/env/bin/python", ["/kit", "/code"], "/task/out", _PRIVATE, preload)]
    return Launch(
        command=command,
        environment={
            **variables(limits, "/env", "/kit", "/code", "/task", "/tmp"),  # noqa: S108 - its own.
            **given.variables,
        },
        place=place,
        mounts=mounts,
        groups=list(groups),
        uid=uid,
        gids=list(given.gids),
        filter=allowed.hex(),
    )


def _folders(shown: Shown, gateway: str) -> list[tuple[str, str]]:
    """Give what is shown read-only, and where."""
    return [
        (str(shown.etc), "/etc"),
        (str(shown.environment), "/env"),
        (str(KIT), "/kit/millpond"),
        (str(shown.code), "/code"),
        (f"{shown.folder}/in", "/task/in"),
        *(((gateway, "/task/gateway"),) if gateway else ()),
        *find_interpreter(shown.environment),
    ]


def _from_etc(names: Sequence[str], etc: Path) -> list[str]:
    """Show what this machine's /etc holds now, where ``write_etc`` has left a place for it."""
    parts = []
    for name in names:
        path = f"/etc/{name}"
        if os.path.exists(path) and os.path.exists(f"{etc}/{name}"):  # noqa: PTH110 - quicker.
            parts += ["--ro-bind", os.path.realpath(path), path]
    return parts


def choose_place() -> str:
    """Choose a folder over which a mount namespace of its own may be laid out."""
    return next(each for each in _PLACES if Path(each).is_dir())


def boot(
    python: str, paths: list[str], output: str, private: list[str], preload: Sequence[str]
) -> list[str]:
    """Write the runner's command; its facts come as JSON with ``{fd}`` for the socket."""
    facts = json.dumps({"output": output, "temporary": private, "preload": list(preload)})
    return [python, "-s", "-c", _BOOT, f'{{"fd": {{fd}}, {facts[1:]}', *paths]


def variables(
    limits: Limits, environment: str, kit: str, code: str, task: str, private: str
) -> dict[str, str]:
    """Give the variables every task starts with; nothing of the server's own is passed on."""
    threads = str(max(1, int(limits.cpu_slots)))
    return {
        "PATH": f"{environment}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": private,
        "TMPDIR": private,
        "USER": "task",
        "LANG": "C.UTF-8",
        "VIRTUAL_ENV": environment,
        "PYTHONPATH": f"{kit}:{code}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",
        "MILLPOND_CODE": code,
        "MILLPOND_INPUT": f"{task}/in",
        "MILLPOND_OUTPUT": f"{task}/out",
    }


def find_interpreter(environment: Path) -> list[tuple[str, str]]:
    """Find the folders outside of /usr that an environment's Python needs, and where to show them.

    ``bin/python`` is a link, perhaps to a link: the folder of each must be there by its own name.

    Raises:
        InvalidError: a Python lies in a folder that is not a Python installation of its own.
    """
    found: dict[str, str] = {}
    python, own = f"{environment}/bin/python", str(environment)
    for _ in range(40):
        if not os.path.islink(python):  # noqa: PTH114 - texts, for each start comes here.
            break
        python = os.path.normpath(os.path.join(python, "..", os.readlink(python)))  # noqa: PTH115, PTH118
        prefix = os.path.dirname(os.path.dirname(python))  # noqa: PTH120
        if f"{prefix}/".startswith(("//", "/usr/")) or prefix == own:
            continue
        if not any(Path(prefix).glob("lib/python3*/os.py")):
            raise InvalidError(
                f"The Python {python} does not lie in a folder of its own, so that a sandbox"
                " can't be shown it without showing what lies beside it.",
                next_step="Make the environment with a Python under /usr, or with one that uv or"
                " pyenv installed.",
            )
        found[prefix] = os.path.realpath(prefix)
    return [(real, shown_at) for shown_at, real in found.items()]


@functools.cache
def _bubblewrap() -> str:
    return shutil.which("bwrap") or "/usr/bin/bwrap"


def _namespaces(*, network: bool) -> list[str]:
    return [
        _bubblewrap(),
        *("--die-with-parent", "--as-pid-1", "--new-session", "--unshare-all"),
        *(("--share-net",) if network else ()),
        *("--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--hostname", "task"),
        *("--uid", str(UID_INSIDE), "--gid", str(UID_INSIDE)),
    ]


@functools.cache
def _root() -> tuple[str, ...]:
    parts = ["--ro-bind", "/usr", "/usr"]
    for name in _ROOT_LINKS:
        path = Path("/", name)
        if path.is_symlink():
            parts += ["--symlink", str(path.readlink()), f"/{name}"]
        elif path.is_dir():
            parts += ["--ro-bind", f"/{name}", f"/{name}"]
    return tuple(parts)


def _system(limits: Limits) -> list[str]:
    """The machine's programs and libraries, read-only; private devices, processes, /tmp."""
    parts = list(_root())
    memory = str(min(limits.memory_bytes, limits.disk_bytes))
    shared = str(min(limits.memory_bytes, _SHM_MOST))
    parts += ["--proc", "/proc", "--dev", "/dev"]
    parts += ["--perms", "1777", "--size", shared, "--tmpfs", "/dev/shm"]  # noqa: S108 - its own.
    parts += ["--perms", "1777", "--size", memory, "--tmpfs", "/tmp"]  # noqa: S108 - its own.
    return parts


def bubblewrap_version(text: str) -> tuple[int, ...]:
    """Read the version out of ``bwrap --version``; empty when it says none."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in match.groups(default="0")) if match else ()
