"""The one tree of settings: from one TOML file, then ``MILLPOND_<ROOM>_<NAME>`` variables.

Every setting stands here with its default, its bounds and its one line of help; the documentation
is written from this table and tested against it.
"""

import difflib
import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from millpond.ground.errors import Fault, InvalidError

MASK = "********"
PREFIX = "MILLPOND_"
OTHER_VARIABLES = frozenset(
    {
        "MILLPOND_CONFIG",
        "MILLPOND_DATA",
        "MILLPOND_PROJECT",
        "MILLPOND_SETTINGS",
        "MILLPOND_TEST_STRICT",
        "MILLPOND_TOKEN",
        "MILLPOND_URL",
    }
)
"""Variables of the command line and the tests, which are no settings of the server."""

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_DAY = 86_400


def _setting(
    default: Any,
    help_text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    is_secret: bool = False,
) -> Any:
    facts = {"help": help_text, "least": least, "most": most, "choices": choices}
    return field(default=default, repr=not is_secret, metadata={**facts, "is_secret": is_secret})


@dataclass(frozen=True)
class ServerSettings:
    """Where the server listens and what it accepts."""

    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 for every network.")
    port: int = _setting(8787, "Port to listen on; 0 takes a free one.", least=0, most=65535)
    url: str = _setting("", "Address that others reach it by; empty: made of host and port.")
    data_folder: str = _setting("", "Folder of all data; empty: the user's data directory.")
    body_bytes: int = _setting(32 * _MIB, "Most bytes in a request's body.", least=64 * _KIB)
    stop_seconds: float = _setting(
        20.0, "Time that requests and jobs get when the server stops.", least=0, most=3600
    )
    connections: int = _setting(400, "Connections at the same time.", least=8, most=65_535)
    idle_seconds: float = _setting(
        30.0, "A connection without a request is closed after so long.", least=1, most=3600
    )
    header_seconds: float = _setting(
        15.0, "Time for a request's headers to come.", least=1, most=600
    )
    trusted_proxies: str = _setting(
        "",
        "Proxies whose X-Forwarded-For is believed: addresses or networks, comma-separated.",
    )
    accept_new_keys: bool = _setting(
        default=False,
        help_text="Take the keys of this data folder although the database knows others.",
    )
    log_level: str = _setting(
        "INFO", "Least level that is logged.", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )


@dataclass(frozen=True)
class DatabaseSettings:
    """Where facts are kept."""

    url: str = _setting(
        "",
        "postgresql://USER:PASSWORD@HOST/NAME; empty: SQLite in the data folder.",
        is_secret=True,
    )
    pool_size: int = _setting(20, "Connections kept open.", least=2, most=200)


@dataclass(frozen=True)
class ObjectsSettings:
    """Where bytes are kept."""

    kind: str = _setting("folder", "folder, or s3.", choices=("folder", "s3"))
    folder: str = _setting("", "Folder of the objects; empty: `objects` in the data folder.")
    bucket: str = _setting("", "S3: the bucket.")
    endpoint: str = _setting("", "S3: address of the service; empty: Amazon's.")
    region: str = _setting("us-east-1", "S3: the region.")
    access_key_id: str = _setting("", "S3: the key's name; empty: the machine's role.")
    secret_access_key: str = _setting("", "S3: the key.", is_secret=True)
    allow_http: bool = _setting(default=False, help_text="S3: allow an endpoint without TLS.")
    prefix: str = _setting("", "S3: keys begin with this, to share a bucket.")


@dataclass(frozen=True)
class PeopleSettings:
    """Signing in."""

    argon2_memory_kib: int = _setting(
        64 * _KIB, "Memory, in KiB, of one password hash.", least=8 * _KIB, most=4 * _MIB
    )
    argon2_passes: int = _setting(3, "Passes of one password hash.", least=1, most=20)
    hashes_at_once: int = _setting(2, "Password hashes at the same time.", least=1, most=64)


@dataclass(frozen=True)
class JobsSettings:
    """The queue of long work."""

    workers: int = _setting(8, "Jobs at the same time on this server.", least=1, most=256)
    lease_seconds: float = _setting(
        30.0, "A job whose server is silent for so long passes to another.", least=2, most=3600
    )
    poll_seconds: float = _setting(
        1.0, "How often the queue is asked for work put by other servers.", least=0.05, most=60
    )


@dataclass(frozen=True)
class EngineSettings:
    """Where users' code runs, and how much of the machine it may take."""

    slots: int = _setting(0, "Tasks at the same time on this machine; 0: its cores.", least=0)
    allow_unisolated: bool = _setting(
        default=False,
        help_text="Let several people run code where there is no sandbox: read the security page.",
    )
    idle_sandboxes: int = _setting(8, "Warm sandboxes kept for the next task.", least=0, most=256)
    idle_seconds: float = _setting(60.0, "How long an idle one is kept.", least=0, most=_DAY)
    scratch_folder: str = _setting("", "Folder of running tasks; empty: in the data folder.")
    task_memory_bytes: int = _setting(8 * _GIB, "Most memory of a task.", least=64 * _MIB)
    task_disk_bytes: int = _setting(32 * _GIB, "Most disk of a task.", least=_MIB)
    task_processes: int = _setting(512, "Most processes of a task.", least=8)
    task_seconds: float = _setting(float(_DAY), "Longest time of a task.", least=1)


@dataclass(frozen=True)
class EnvironmentsSettings:
    """Building users' environments."""

    folder: str = _setting("", "Folder of environments; empty: in the data folder.")
    allow_network: bool = _setting(
        default=True, help_text="Ask the package index; without it, the cache alone."
    )
    index_url: str = _setting("", "Package index; empty: what this machine is set up for.")
    python: str = _setting("", "Interpreter of environments; empty: the best one found.")
    build_seconds: float = _setting(1800.0, "Longest time of a build.", least=10, most=_DAY)
    builds_at_once: int = _setting(2, "Builds at the same time.", least=1, most=64)


@dataclass(frozen=True)
class LakeSettings:
    """What may be uploaded."""

    files: int = _setting(200_000, "Most files of a version or in an archive.", least=1)
    total_bytes: int = _setting(100 * _GIB, "Most bytes of a version, unpacked.", least=_MIB)
    file_bytes: int = _setting(100 * _GIB, "Most bytes of one file.", least=_MIB)
    ratio: int = _setting(200, "Most bytes unpacked for each byte of an archive.", least=2)
    pack_files: int = _setting(5_000, "Most small files sent in one pack.", least=1)
    pack_bytes: int = _setting(64 * _MIB, "Most bytes of one pack.", least=_MIB)
    open_uploads: int = _setting(1_000, "Most unfinished uploads of one person.", least=1)
    unfinished_bytes: int = _setting(
        400 * _GIB, "Most bytes of a project's unfinished uploads.", least=_MIB
    )
    upload_seconds: float = _setting(
        7.0 * _DAY, "How long an upload waits for its next piece.", least=60
    )


@dataclass(frozen=True)
class PipelinesSettings:
    """Compiling and running pipelines."""

    compile_seconds: float = _setting(60.0, "Longest time to read a pipeline.", least=1, most=3600)
    partitions: int = _setting(10_000, "Most partitions of a step.", least=1, most=1_000_000)
    tries: int = _setting(10, "Most tries of a task that a pipeline may ask for.", least=1)


@dataclass(frozen=True)
class AuditSettings:
    """The record."""

    seal_seconds: float = _setting(60.0, "The record is sealed this often.", least=1, most=_DAY)


@dataclass(frozen=True)
class Settings:
    """All settings of a server, by room."""

    server: ServerSettings = field(default_factory=ServerSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    objects: ObjectsSettings = field(default_factory=ObjectsSettings)
    people: PeopleSettings = field(default_factory=PeopleSettings)
    jobs: JobsSettings = field(default_factory=JobsSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    environments: EnvironmentsSettings = field(default_factory=EnvironmentsSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    pipelines: PipelinesSettings = field(default_factory=PipelinesSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)

    def shown(self) -> dict[str, dict[str, Any]]:
        """Give every setting, secrets masked, for people to look at."""
        return {
            room.name: {
                one.name: _masked(getattr(getattr(self, room.name), one.name), one.metadata)
                for one in fields(getattr(self, room.name))
            }
            for room in fields(self)
        }


@dataclass(frozen=True)
class SettingInfo:
    """What the documentation says of a setting.

    Attributes:
        key: ``room.name``, as in the TOML file.
        variable: the name in the environment.
        kind: the name of its type.
        default: what it is unless told otherwise.
        help: one line.
    """

    key: str
    variable: str
    kind: str
    default: Any
    help: str


def list_settings() -> Iterator[SettingInfo]:
    """Describe every setting, in the order of the tree."""
    for room in fields(Settings):
        kind = get_type_hints(Settings)[room.name]
        types = get_type_hints(kind)
        for one in fields(kind):
            key = f"{room.name}.{one.name}"
            yield SettingInfo(
                key, _variable(key), types[one.name].__name__, one.default, one.metadata["help"]
            )


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the file, if any, then the variables, which win.

    Raises:
        InvalidError: unknown keys or variables, wrong types, values out of bounds; all of them.
    """
    faults: list[Fault] = []
    given = dict(_from_file(path, faults) if path is not None else ())
    given |= _from_variables(environ, faults)
    changes: dict[str, dict[str, Any]] = {}
    for info in list_settings():
        if info.key in given:
            source, value = given[info.key]
            room, _, name = info.key.partition(".")
            checked = _check(room, name, value, source, faults)
            changes.setdefault(room, {})[name] = checked
    settings = Settings()
    if not faults:
        settings = replace(
            settings,
            **{room: replace(getattr(settings, room), **made) for room, made in changes.items()},
        )
        faults += _find_contradictions(settings)
    if faults:
        raise InvalidError(
            "The settings are wrong: "
            + "; ".join(f"{fault.field} {fault.message}" for fault in faults),
            next_step="Mend each of them in the settings file or the environment; start again.",
            faults=faults,
        )
    return settings


def _from_file(path: Path, faults: list[Fault]) -> Iterator[tuple[str, tuple[str, Any]]]:
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        faults.append(Fault(str(path), f"cannot be read: {fault}"))
        return
    known = {info.key for info in list_settings()}
    rooms = {key.partition(".")[0] for key in known}
    for room, inside in tree.items():
        if room not in rooms:
            faults.append(Fault(room, _unknown(room, rooms)))
        elif not isinstance(inside, dict):
            faults.append(Fault(room, f"is a table: write [{room}] and the settings below it"))
        else:
            for name, value in inside.items():
                key = f"{room}.{name}"
                if key in known:
                    yield key, (key, value)
                else:
                    faults.append(Fault(key, _unknown(key, known)))


def _from_variables(environ: Mapping[str, str], faults: list[Fault]) -> dict[str, tuple[str, Any]]:
    known = {info.variable: info for info in list_settings()}
    found: dict[str, tuple[str, Any]] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        if name not in known:
            faults.append(Fault(name, _unknown(name, known.keys() | OTHER_VARIABLES)))
            continue
        found[known[name].key] = (name, _from_text(text, known[name].kind))
    return found


def _from_text(text: str, kind: str) -> Any:
    """Read a variable as its setting's type; what cannot be read stays text and is refused."""
    if kind == "bool":
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            text.strip().lower(), text
        )
    if kind in ("int", "float"):
        try:
            return int(text.replace("_", "")) if kind == "int" else float(text)
        except ValueError:
            return text
    return text


def _check(room: str, name: str, value: Any, source: str, faults: list[Fault]) -> Any:
    kind = get_type_hints(Settings)[room]
    wanted = get_type_hints(kind)[name]
    facts = next(one.metadata for one in fields(kind) if one.name == name)
    if wanted is float and type(value) is int:
        value = float(value)
    shown = MASK if facts["is_secret"] else repr(value)
    if type(value) is not wanted:
        words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        faults.append(Fault(source, f"is {shown}, but must be {words[wanted]}"))
    elif facts["choices"] and value not in facts["choices"]:
        near = _nearest(str(value), facts["choices"])
        faults.append(
            Fault(source, f"is {shown}, but must be one of {', '.join(facts['choices'])}{near}")
        )
    elif facts["least"] is not None and not value >= facts["least"]:
        faults.append(Fault(source, f"is {shown}, but must be at least {facts['least']:,}"))
    elif facts["most"] is not None and not value <= facts["most"]:
        faults.append(Fault(source, f"is {shown}, but must be at most {facts['most']:,}"))
    return value


def _find_contradictions(settings: Settings) -> Iterator[Fault]:
    if settings.objects.kind == "s3" and not settings.objects.bucket:
        yield Fault("objects.bucket", 'is empty, but objects.kind = "s3" needs a bucket')
    if bool(settings.objects.access_key_id) != bool(settings.objects.secret_access_key):
        yield Fault("objects.secret_access_key", "and objects.access_key_id go together")
    url = settings.database.url
    if url and not url.startswith(("postgresql://", "postgresql+psycopg://", "sqlite:///")):
        yield Fault("database.url", "must begin with postgresql:// or sqlite:///")
    if settings.server.url and not settings.server.url.startswith(("http://", "https://")):
        yield Fault("server.url", "must begin with http:// or https://")
    yield from _find_wrong_proxies(settings.server.trusted_proxies)


def _find_wrong_proxies(text: str) -> Iterator[Fault]:
    for each in filter(None, (part.strip() for part in text.split(","))):
        try:
            ipaddress.ip_network(each)
        except ValueError:
            yield Fault(
                "server.trusted_proxies",
                f"{each!r} is neither an address nor a network such as 10.0.0.0/8",
            )


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _unknown(name: str, known: Any) -> str:
    return f"is no setting{_nearest(name, known)}"


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _masked(value: Any, facts: Mapping[str, Any]) -> Any:
    return MASK if facts["is_secret"] and value else value
