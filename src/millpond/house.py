"""What a server has opened: database, objects, engine, keys; and how it opens and closes them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

from uv import find_uv_bin

from millpond.audit.keys import RotatingKey
from millpond.audit.opening import open_own_key
from millpond.engine.dispatch import Dispatcher
from millpond.engine.local import LocalEngine
from millpond.engine.rules import Unisolated
from millpond.engine.system import Installation
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Limits
from millpond.environments import tasks as environment_tasks
from millpond.environments.actions import BUILD_KIND
from millpond.environments.uv import UvBuilder, choose_interpreter
from millpond.ground.settings import Settings
from millpond.jobs.mail import open_post
from millpond.jobs.port import Ending
from millpond.machines.meters import Sampler
from millpond.machines.trust.host import HostTls
from millpond.machines.trust.rules import choose_way, finding_of
from millpond.people.accounts import store as account_store
from millpond.people.accounts.uses import LastUses
from millpond.people.letters import Post
from millpond.people.passwords import Passwords
from millpond.people.vault import SecretBox, open_own_box
from millpond.pipelines.runs import tasks as run_tasks
from millpond.pipelines.runs.actions import RUN_KIND
from millpond.pipelines.specs import tasks as spec_tasks
from millpond.pipelines.specs.actions import COMPILE_KIND
from millpond.storage import migrate
from millpond.storage.database import Database
from millpond.storage.nodes.repair import Repairer
from millpond.storage.opening import open_database, open_nodes, open_objects
from millpond.storage.port import ObjectStore
from millpond.watch.recording import Recorder
from millpond.web import metrics, sse


@dataclass(frozen=True)
class House:
    """What a server has opened, for the rooms to use."""

    settings: Settings
    data: Path
    url: str
    tls: HostTls
    database: Database
    objects: ObjectStore
    seal_key: RotatingKey
    box: SecretBox
    engine: LocalEngine
    dispatcher: Dispatcher
    builder: UvBuilder
    hub: sse.EventHub
    meters: metrics.Meters
    recorder: Recorder
    uses: LastUses
    passwords: Passwords
    post: Post | None


ENDINGS: Mapping[str, Ending] = {
    BUILD_KIND: environment_tasks.give_up,
    COMPILE_KIND: spec_tasks.give_up_compile,
    RUN_KIND: run_tasks.give_up_run,
}
"""By kind of job, what its room does when one is given up or cancelled."""


@contextmanager
def open_house(settings: Settings, data: Path, url: str) -> Iterator[House]:
    """Open everything, and close it in the reverse order at the end."""
    with ExitStack() as stack:
        way = choose_way(settings.server, is_near=is_loopback(settings.server.host))
        tls = HostTls(settings, data, way, datetime.now(UTC))
        database = open_database(settings.database, data)
        stack.callback(database.close)
        migrate.upgrade(database)
        keys, accept = data / "keys", settings.server.accept_new_keys
        objects = stack.enter_context(_opened_objects(settings, data, url, database, tls))
        engine = LocalEngine(
            ObjectTransfer(objects),
            _folder(settings.engine.scratch_folder, data / "scratch"),
            slots=settings.engine.slots or None,
            idle_most=settings.engine.idle_sandboxes,
            idle_seconds=settings.engine.idle_seconds,
            unisolated=lambda: _unisolated(settings, database),
        )
        stack.callback(engine.close)
        builder = UvBuilder(
            _folder(settings.environments.folder, data / "environments"),
            uv=Path(find_uv_bin()),
            interpreter=Path(settings.environments.python or choose_interpreter()),
            environment=index_variables(settings, os.environ),
            seconds=settings.environments.build_seconds,
            objects=objects,
        )
        builder.sweep()
        seal_key = open_own_key(database, keys, accept_new=accept)
        box = open_own_box(database, keys, accept_new=accept)
        yield House(
            settings=settings,
            data=data,
            url=url,
            tls=tls,
            database=database,
            objects=objects,
            seal_key=seal_key,
            box=box,
            engine=engine,
            dispatcher=Dispatcher(engine, caps_of(settings)),
            builder=builder,
            hub=sse.EventHub(database),
            meters=metrics.Meters(),
            recorder=Recorder(database, Sampler([Path("/"), data]).sample),
            uses=LastUses(),
            passwords=_passwords(settings),
            post=open_post(settings.mail, box),
        )


@contextmanager
def _opened_objects(
    settings: Settings, data: Path, url: str, database: Database, tls: HostTls
) -> Iterator[ObjectStore]:
    if settings.objects.kind != "nodes":
        yield open_objects(settings.objects, data, url)
        return
    identity = tls.identity(datetime.now(UTC))
    objects = open_nodes(
        settings.objects, settings.cluster, data, url, database=database, identity=identity
    )
    repairer = Repairer(objects)
    repairer.start()
    try:
        yield objects
    finally:
        repairer.stop()
        objects.close()


def _passwords(settings: Settings) -> Passwords:
    people = settings.people
    return Passwords(
        passes=people.argon2_passes,
        memory_kib=people.argon2_memory_kib,
        at_once=people.hashes_at_once,
    )


def _unisolated(settings: Settings, database: Database) -> Unisolated:
    return Unisolated(
        is_allowed=settings.engine.allow_unisolated,
        is_loopback=is_loopback(settings.server.host),
        accounts=database.read(account_store.count_users),
    )


def installation_of(house: House) -> Installation:
    """Give what those who look after the server are told of it."""
    names = ("settings", "data", "database", "objects", "engine")
    opened = {name: getattr(house, name) for name in names}
    reached = finding_of(house.tls.way, house.url, house.tls.authority.fingerprint)
    return Installation(
        version_of("millpond"), environ=os.environ, findings=lambda: [reached], **opened
    )


def caps_of(settings: Settings) -> Limits:
    """Give the most that one task may ask for."""
    names = ("memory_bytes", "disk_bytes", "processes", "seconds")
    return Limits(**{name: getattr(settings.engine, f"task_{name}") for name in names})


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    return host.startswith("127.") or host in ("::1", "localhost")


def _folder(chosen: str, default: Path) -> Path:
    return Path(chosen).expanduser().absolute() if chosen else default


def index_variables(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables by which uv finds the package index."""
    chosen = settings.environments
    variables = dict(environ)
    if chosen.index_url:
        variables["UV_DEFAULT_INDEX"] = chosen.index_url
    if not chosen.allow_network:
        variables["UV_OFFLINE"] = "1"
    return variables
