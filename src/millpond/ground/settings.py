"""The one tree of settings: from one TOML file, then ``MILLPOND_<ROOM>_<NAME>`` variables.

Every setting stands in ``room_settings`` with its default, its bounds and its one line of help; the
documentation is written from these tables and tested against them. Places to sign in through have
a table each, ``[oidc.NAME]``, as many as one likes.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from millpond.ground.errors import Fault, InvalidError
from millpond.ground.room_settings import (
    AuditSettings,
    ClusterSettings,
    DatabaseSettings,
    EngineSettings,
    EnvironmentsSettings,
    JobsSettings,
    LakeSettings,
    MailSettings,
    ObjectsSettings,
    PeopleSettings,
    PipelinesSettings,
    ProviderSettings,
    ServerSettings,
)

__all__ = [
    "MASK",
    "OTHER_VARIABLES",
    "PREFIX",
    "AuditSettings",
    "ClusterSettings",
    "DatabaseSettings",
    "EngineSettings",
    "EnvironmentsSettings",
    "JobsSettings",
    "LakeSettings",
    "MailSettings",
    "ObjectsSettings",
    "PeopleSettings",
    "PipelinesSettings",
    "ProviderSettings",
    "ServerSettings",
    "SettingInfo",
    "Settings",
    "list_settings",
    "load_settings",
]

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


@dataclass(frozen=True)
class Settings:
    """All settings of a server, by room."""

    server: ServerSettings = field(default_factory=ServerSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    objects: ObjectsSettings = field(default_factory=ObjectsSettings)
    people: PeopleSettings = field(default_factory=PeopleSettings)
    jobs: JobsSettings = field(default_factory=JobsSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    environments: EnvironmentsSettings = field(default_factory=EnvironmentsSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    pipelines: PipelinesSettings = field(default_factory=PipelinesSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    mail: MailSettings = field(default_factory=MailSettings)
    oidc: Mapping[str, ProviderSettings] = field(default_factory=dict)

    def tables(self) -> Iterator[tuple[str, Any]]:
        """Give each table of the settings file by name: the rooms', then one per provider."""
        yield from ((room, getattr(self, room)) for room in _ROOMS)
        yield from ((f"{_PROVIDERS}.{name}", self.oidc[name]) for name in sorted(self.oidc))

    def shown(self) -> dict[str, dict[str, Any]]:
        """Give every setting, secrets masked, for people to look at."""
        return {
            name: {
                one.name: _masked(getattr(table, one.name), one.metadata) for one in fields(table)
            }
            for name, table in self.tables()
        }


_PROVIDERS = "oidc"
_PROVIDER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_ROOMS = {
    room.name: get_type_hints(Settings)[room.name]
    for room in fields(Settings)
    if room.name != _PROVIDERS
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


def list_settings(providers: Iterable[str] = ()) -> Iterator[SettingInfo]:
    """Describe every setting, in the order of the tree, also those of the providers named."""
    tables = {**_ROOMS, **{f"{_PROVIDERS}.{name}": ProviderSettings for name in providers}}
    for name, kind in tables.items():
        types = get_type_hints(kind)
        for one in fields(kind):
            key = f"{name}.{one.name}"
            yield SettingInfo(
                key, _variable(key), types[one.name].__name__, one.default, one.metadata["help"]
            )


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the file, if any, then the variables, which win.

    Raises:
        InvalidError: unknown keys or variables, wrong types, values out of bounds; all of them.
    """
    faults: list[Fault] = []
    tables = dict(_from_file(path, faults) if path is not None else ())
    providers = sorted(name[len(_PROVIDERS) + 1 :] for name in tables if name not in _ROOMS)
    known = {info.key: info for info in list_settings(providers)}
    given = _known_ones(tables, known, faults) | _from_variables(environ, known, faults)
    changes: dict[str, dict[str, Any]] = {name: {} for name in tables}
    for key in known:
        if key in given:
            source, value = given[key]
            table, _, name = key.rpartition(".")
            changes.setdefault(table, {})[name] = _check(table, name, value, source, faults)
    settings = Settings()
    if not faults:
        made = {room: replace(getattr(settings, room), **changes.get(room, {})) for room in _ROOMS}
        chosen = {n: ProviderSettings(**changes[f"{_PROVIDERS}.{n}"]) for n in providers}
        settings = Settings(**made, oidc=chosen)
        faults += _find_contradictions(settings)
    if faults:
        raise InvalidError(
            "The settings are wrong: "
            + "; ".join(f"{fault.field} {fault.message}" for fault in faults),
            next_step="Mend each of them in the settings file or the environment; start again.",
            faults=faults,
        )
    return settings


def _from_file(path: Path, faults: list[Fault]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the file's tables by name; a provider's is called ``oidc.NAME``."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        faults.append(Fault(str(path), f"cannot be read: {fault}"))
        return
    for room, inside in tree.items():
        if room not in {*_ROOMS, _PROVIDERS}:
            faults.append(Fault(room, _unknown(room, {*_ROOMS, _PROVIDERS})))
        elif not isinstance(inside, dict):
            faults.append(Fault(room, f"is a table: write [{room}] and the settings below it"))
        elif room != _PROVIDERS:
            yield room, inside
        else:
            for name, provider in inside.items():
                if not isinstance(provider, dict):
                    message = f"is a table: write [{room}.NAME] and the settings below it"
                    faults.append(Fault(f"{room}.{name}", message))
                elif not _PROVIDER_NAME.fullmatch(name):
                    message = "is no name of a provider: up to 40 of a to z, 0 to 9 and dash"
                    faults.append(Fault(f"{room}.{name}", message))
                else:
                    yield f"{room}.{name}", provider


def _known_ones(
    tables: Mapping[str, Mapping[str, Any]], known: Mapping[str, SettingInfo], faults: list[Fault]
) -> dict[str, tuple[str, Any]]:
    found = {}
    for table, inside in tables.items():
        for name, value in inside.items():
            key = f"{table}.{name}"
            if key in known:
                found[key] = (key, value)
            else:
                faults.append(Fault(key, _unknown(key, known)))
    return found


def _from_variables(
    environ: Mapping[str, str], known: Mapping[str, SettingInfo], faults: list[Fault]
) -> dict[str, tuple[str, Any]]:
    variables = {info.variable: info for info in known.values()}
    found: dict[str, tuple[str, Any]] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        if name not in variables:
            faults.append(Fault(name, _unknown(name, variables.keys() | OTHER_VARIABLES)))
            continue
        info = variables[name]
        found[info.key] = (name, _from_text(text, info.kind))
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


def _check(table: str, name: str, value: Any, source: str, faults: list[Fault]) -> Any:
    kind = _ROOMS.get(table, ProviderSettings)
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
    yield from _find_wrong_tls(settings.server)
    yield from _find_wrong_proxies(settings.server.trusted_proxies)
    mail = settings.mail
    if mail.host and not re.fullmatch(r"[^@\s,]+@[^@\s,]+", mail.sender):
        yield Fault("mail.sender", "must be an address for mail, since mail.host is set")
    if bool(mail.user) != bool(mail.password):
        yield Fault("mail.password", "and mail.user go together")
    if mail.password and mail.tls == "none" and mail.host not in ("localhost", "127.0.0.1"):
        yield Fault("mail.tls", "must not be none where a password is sent")
    for name, provider in settings.oidc.items():
        yield from _find_wrong_provider(f"{_PROVIDERS}.{name}", provider)


def _find_wrong_tls(server: ServerSettings) -> Iterator[Fault]:
    if bool(server.certificate) != bool(server.certificate_key):
        yield Fault("server.certificate_key", "and server.certificate go together")
    if server.insecure and (server.certificate or server.tls):
        yield Fault("server.insecure", "contradicts server.certificate and server.tls")


def _find_wrong_provider(table: str, provider: ProviderSettings) -> Iterator[Fault]:
    issuer = urlsplit(provider.issuer)
    is_near = issuer.scheme == "http" and issuer.hostname in ("localhost", "127.0.0.1", "::1")
    if not issuer.hostname or not (issuer.scheme == "https" or is_near):
        yield Fault(f"{table}.issuer", "must begin with https:// and name the provider")
    if issuer.query or issuer.fragment:
        yield Fault(f"{table}.issuer", "must hold neither ? nor #")
    if not provider.client_id:
        yield Fault(f"{table}.client_id", "is empty; the provider gives it out")
    if "openid" not in provider.scopes.split():
        yield Fault(f"{table}.scopes", "must hold openid")


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
    return PREFIX + key.replace(".", "_").replace("-", "_").upper()


def _unknown(name: str, known: Any) -> str:
    return f"is no setting{_nearest(name, known)}"


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _masked(value: Any, facts: Mapping[str, Any]) -> Any:
    return MASK if facts["is_secret"] and value else value
