"""What a server has opened: database, objects, engine, keys; and how it opens and closes them."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp
from uv import find_uv_bin

from millpond.audit import actions as audit
from millpond.audit.keys import RotatingKey
from millpond.audit.opening import open_own_key
from millpond.deploy.ssh_source import SshSource
from millpond.deploy.wheelhouse import Wheelhouse
from millpond.engine.cluster.joined import JoinedEngine
from millpond.engine.dispatch import Dispatcher
from millpond.engine.footprint import TaskMeter
from millpond.engine.local import LocalEngine
from millpond.engine.rules import Unisolated
from millpond.engine.system import Installation
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Limits
from millpond.environments import tasks as environment_tasks
from millpond.environments.actions import BUILD_KIND, lock_of
from millpond.environments.indexes import find_indexes
from millpond.environments.on_nodes import wheels_of
from millpond.environments.packages import PackageCache
from millpond.environments.packages import routes as package_routes
from millpond.environments.port import LOCK_SCHEME
from millpond.environments.uv import UvBuilder, choose_interpreter
from millpond.ground.findings import Finding
from millpond.ground.settings import Settings
from millpond.ground.versions import code_version
from millpond.jobs import actions as jobs
from millpond.jobs.mail import open_post
from millpond.jobs.port import Ending
from millpond.machines import census
from millpond.machines import tasks as machine_tasks
from millpond.machines.actions import find_faults
from millpond.machines.cluster import Cluster, open_cluster
from millpond.machines.door.app import build_door
from millpond.machines.door.data import LockText
from millpond.machines.door.opening import data_routers, make_hearing, open_engine, open_secret
from millpond.machines.findings import scheduler_finding
from millpond.machines.meters import Sampler
from millpond.machines.trust.addresses import first_address
from millpond.machines.trust.host import HostTls
from millpond.machines.trust.rules import choose_way
from millpond.machines.work import MACHINE_KIND
from millpond.people.accounts import store as account_store
from millpond.people.accounts.uses import LastUses
from millpond.people.letters import Post
from millpond.people.passwords import Passwords
from millpond.people.vault import SecretBox, open_own_box
from millpond.pipelines.runs import tasks as run_tasks
from millpond.pipelines.runs.actions import RUN_KIND
from millpond.pipelines.runs.owners import owners_of
from millpond.pipelines.runs.tries import find_over
from millpond.pipelines.specs import tasks as spec_tasks
from millpond.pipelines.specs.actions import COMPILE_KIND
from millpond.storage import migrate
from millpond.storage.database import Database, Transaction
from millpond.storage.looking import look_at_old_copy
from millpond.storage.moving.home import check_home
from millpond.storage.nodes.counting import Copies, CopyCount
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.receipts import ReceiptChecker
from millpond.storage.nodes.removal import forget, why_not_removed
from millpond.storage.nodes.repair import Repairer
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.tokens import open_signer
from millpond.storage.opening import folder_of, open_database, open_nodes, open_objects
from millpond.storage.port import ObjectStore
from millpond.watch.gauges import Gauges, Sources, Told
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
    engine: LocalEngine | JoinedEngine
    cluster: Cluster
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
    MACHINE_KIND: machine_tasks.give_up,
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
        seal_key = open_own_key(database, keys, accept_new=accept)
        box = open_own_box(database, keys, accept_new=accept)
        cluster = _open_cluster(settings, data, database, tls, url)
        objects = stack.enter_context(_opened_objects(settings, data, database, tls, cluster))
        builder = _open_builder(settings, data, objects)
        local = _local_engine(settings, data, database, objects, builder)
        engine = _join_nodes(settings, data, database, local, tls)
        stack.callback(engine.leave)
        dispatcher = Dispatcher(
            engine,
            caps_of(settings),
            guard=cluster.presence.guard,
            holds=objects.holds if isinstance(objects, NodeStore) else None,
            hindrance=objects.shortage if isinstance(objects, NodeStore) else None,
        )
        house = House(
            settings=settings,
            data=data,
            url=url,
            tls=tls,
            database=database,
            objects=objects,
            seal_key=seal_key,
            box=box,
            engine=engine,
            cluster=replace(cluster, held_back=dispatcher.held_back),
            dispatcher=dispatcher,
            builder=builder,
            hub=sse.EventHub(database),
            meters=metrics.Meters(),
            recorder=Recorder(database, _make_sample(data, local, cluster)),
            uses=LastUses(),
            passwords=_passwords(settings),
            post=open_post(settings.mail, box),
        )
        house.meters.registry.register(_gauges_of(house))
        yield house


def _make_sample(
    data: Path, local: LocalEngine, cluster: Cluster
) -> Callable[[], Mapping[str, Any]]:
    """Make what measures the host, and tells what the tasks on it take."""
    sampler = Sampler([Path("/"), data], tasks=TaskMeter(local.held).sample)

    def sample() -> Mapping[str, Any]:
        told = sampler.sample()
        cluster.tasks.hear(local.name, told["tasks"])
        return told

    return sample


@contextmanager
def _opened_objects(
    settings: Settings, data: Path, database: Database, tls: HostTls, cluster: Cluster
) -> Iterator[ObjectStore]:
    folder = folder_of(settings.objects, data)
    if settings.objects.kind != "nodes":
        plain = open_objects(settings.objects, data, cluster.url, database)
        check_home(database, settings.objects, folder, plain)
        yield plain
        return
    objects = open_nodes(
        settings.objects,
        settings.cluster,
        data,
        cluster.url,
        database=database,
        identity=tls.identity(datetime.now(UTC)),
        is_revoked=cluster.revoked.holds,
        is_other_version=cluster.presence.is_other_version,
    )
    repairer = Repairer(objects)
    try:
        check_home(database, settings.objects, folder, objects)
        repairer.start()
        yield objects
    finally:
        repairer.stop()
        objects.close()


def _open_cluster(
    settings: Settings, data: Path, database: Database, tls: HostTls, url: str
) -> Cluster:
    opened = open_cluster(
        settings,
        data,
        database,
        tls.authority,
        version=code_version(),
        url=url,
        address=first_address(),
    )
    ssh = SshSource(
        data / "ssh",
        Wheelhouse(data / "wheelhouse"),
        version=opened.version,
        installation=lambda: tls.authority.fingerprint,
    )
    if settings.objects.kind == "nodes":
        opened = replace(opened, may_remove=why_not_removed)
    return replace(
        opened,
        token_key=lambda: open_signer(data / "keys").public,
        sources={"ssh": ssh},
        forget_data=forget,
        whose=owners_of,
    )


def _open_builder(settings: Settings, data: Path, objects: ObjectStore) -> UvBuilder:
    builder = UvBuilder(
        _folder(settings.environments.folder, data / "environments"),
        uv=Path(find_uv_bin()),
        interpreter=Path(settings.environments.python or choose_interpreter()),
        environment=index_variables(settings, os.environ),
        seconds=settings.environments.build_seconds,
        objects=objects,
    )
    builder.sweep()
    return builder


def _passwords(settings: Settings) -> Passwords:
    people = settings.people
    return Passwords(
        passes=people.argon2_passes,
        memory_kib=people.argon2_memory_kib,
        at_once=people.hashes_at_once,
    )


def _local_engine(
    settings: Settings, data: Path, database: Database, objects: ObjectStore, builder: UvBuilder
) -> LocalEngine:
    def prepare(environment: str) -> str:
        """Make here what a task names that could as well have gone to a node."""
        if not environment.startswith(LOCK_SCHEME):
            return environment
        digest = environment.removeprefix(LOCK_SCHEME)
        text = database.read(lambda tx: lock_of(tx, digest))
        return str(builder.ensure(text, lambda _: None).path)

    return LocalEngine(
        ObjectTransfer(objects),
        _folder(settings.engine.scratch_folder, data / "scratch"),
        slots=settings.engine.slots or None,
        gpus=None if settings.engine.gpus < 0 else settings.engine.gpus,
        idle_most=settings.engine.idle_sandboxes,
        idle_seconds=settings.engine.idle_seconds,
        unisolated=lambda: _unisolated(settings, database),
        prepare=prepare,
    )


def _join_nodes(
    settings: Settings, data: Path, database: Database, local: LocalEngine, tls: HostTls
) -> LocalEngine | JoinedEngine:
    if settings.engine.kind != "dask":
        return local
    identity = tls.identity(datetime.now(UTC))

    def over(keys: Collection[str]) -> Collection[str]:
        return database.read(lambda tx: find_over(tx, keys))

    return open_engine(settings, local, identity, open_secret(data / "keys"), over)


def open_door(house: House) -> ASGIApp:
    """Build what nodes come in by."""
    engine, settings = house.engine, house.settings
    assert isinstance(engine, JoinedEngine)  # noqa: S101 - asked where there are nodes only.

    def find_lock(digest: str) -> LockText | None:
        text = house.database.read(lambda tx: lock_of(tx, digest))
        return LockText(text, wheels_of(text)) if text else None

    indexes = find_indexes(index_variables(settings, os.environ))
    most = settings.environments.cache_bytes
    packages = PackageCache(house.data / "packages", indexes, most_bytes=most)
    secret = open_secret(house.data / "keys")
    return build_door(
        house.database,
        house.cluster,
        listeners=[make_hearing(settings, _ledger_of(house), house.recorder.note)],
        routers=[
            *data_routers(engine, house.objects, secret, find_lock),
            package_routes(packages),
        ],
        meters=house.meters,
    )


def _ledger_of(house: House) -> Ledger:
    if isinstance(house.objects, NodeStore):
        return house.objects.ledger
    checker = ReceiptChecker(house.tls.authority.path, house.cluster.revoked.holds)
    return Ledger(open_signer(house.data / "keys"), checker)


def _gauges_of(house: House) -> Gauges:
    """Give what Prometheus is told of machines, tasks, the queue and the record."""
    objects = house.objects
    count = CopyCount(objects.ledger) if isinstance(objects, NodeStore) else None

    def look(tx: Transaction) -> Told:
        ends = dict(census.node_certificate_ends(tx))
        own = census.server_certificate_end(house.tls, datetime.now(UTC))
        return Told(
            nodes=census.count_nodes(tx, house.cluster),
            paused=census.paused_nodes(tx, house.cluster),
            copies=Copies() if count is None else count.look(tx),
            jobs=asdict(jobs.count_jobs(tx)),
            wait_seconds=jobs.longest_wait(tx),
            unsealed_seconds=audit.unsealed_seconds(tx),
            certificates=ends if own is None else {"server": own, **ends},
        )

    sources = Sources(
        house.recorder.newest, house.engine.nodes, house.dispatcher.waiting_count, look
    )
    return Gauges(house.database, sources)


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

    def find() -> list[Finding]:
        found = [house.tls.find(house.url, datetime.now(UTC))]
        if isinstance(house.engine, JoinedEngine):
            found.append(scheduler_finding(house.engine.reason, house.data))
        found += house.database.read(lambda tx: [*look_at_old_copy(tx)])
        return [*found, *house.database.read(lambda tx: find_faults(tx, house.cluster))]

    return Installation(version_of("millpond"), environ=os.environ, findings=find, **opened)


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
