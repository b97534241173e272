"""What every test may ask for: a database, an object store, a clock; all real, all cleaned up."""

import asyncio
import ctypes
import importlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import httpx
import jinja2
import psycopg
import pytest
import sqlalchemy as sa
import uvicorn
from fastapi._compat.v2 import ModelField
from jinja2.bccache import Bucket
from playwright.sync_api import expect

import millpond
from millpond import main
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.clock import SetClock
from millpond.ground.settings import DatabaseSettings, load_settings
from millpond.house import House, open_house
from millpond.machines.authority import Authority
from millpond.people.accounts import actions as accounts
from millpond.people.actions import add_project, set_member
from millpond.people.values import NOWHERE
from millpond.storage import migrate
from millpond.storage.database import Database, metadata
from millpond.storage.folder import FolderStore
from millpond.storage.nodes.values import Pace
from millpond.storage.opening import open_database, open_objects
from millpond.storage.port import ObjectStore
from millpond.storage.s3 import S3Store
from millpond.web.serving import listen, url_of

STRICT = os.environ.get("MILLPOND_TEST_STRICT") == "1"
BUCKET = "millpond-tests"
expect.set_options(timeout=30_000)  # A busy machine takes longer than Playwright's five seconds.
_NEW_NETWORK = 0x40000000
_OWN_NETWORK = (
    "link set lo up",
    "link add near type veth peer name far",
    "addr add 192.0.2.2/24 dev near",
    "link set near up",
    "link set far up",
    "route add default dev near",
)
_STORES = {
    "folder_store": "folder",
    "ministack_store": "s3",
    "moto_store": "s3-moto",
    "swift": "swift",
    "swift_store": "swift",
    "nodes_store": "nodes",
}
_KINDS = ("database", "database_url", "objects")
_counts: dict[str, Counter[str]] = {"database": Counter(), "store": Counter()}


# Choosing and counting -------------------------------------------------------------------------

# A quick look sees every behaviour once, on SQLite, the folder and the local engine; only what
# speaks to databases itself is looked at on both.
_OTHERS = ("postgresql", "s3", "s3-moto", "nodes")
_OTHER_CLASSES = (
    "TestMinistack",
    "TestMoto",
    "TestSwift",
    "TestNodes",
    "TestPlainEngine",
    "TestDaskEngine",
)
_ON_BOTH = Path(__file__).parent / "storage"


def is_repeated(item: pytest.Item, uses: Iterable[str]) -> bool:
    """Tell whether a test does again elsewhere what another does on the default."""
    kind = item.getparent(pytest.Class)
    if kind is not None and kind.name in _OTHER_CLASSES:
        return True
    return not item.path.is_relative_to(_ON_BOTH) and not set(_OTHERS).isdisjoint(uses)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        chosen: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        names = getattr(item, "fixturenames", [])
        if "database" in chosen or "database_url" in chosen:
            which = chosen.get("database") or chosen["database_url"]
            item.user_properties.append(("database", which))
        stores = {store for fixture, store in _STORES.items() if fixture in names}
        if "objects" in chosen:
            stores.add(_STORES.get(chosen["objects"], chosen["objects"]))
        item.user_properties.extend(("store", store) for store in sorted(stores))
        params = {name: value for name, value in chosen.items() if name in _KINDS}
        if is_repeated(item, map(str, params.values())):
            item.add_marker(pytest.mark.slow)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name in _counts:
                _counts[name][str(value)] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, counter in _counts.items():
        shown = ", ".join(f"{which} {number}" for which, number in sorted(counter.items()))
        terminalreporter.write_line(f"Tests passed per {name}: {shown or 'none'}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where nothing may be skipped and something was."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if STRICT and skipped and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line("")
        for report in skipped:
            reporter.write_line(f"SKIPPED where nothing may be: {report.nodeid}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def missing(what: str, how: str) -> NoReturn:
    """Skip visibly, or fail where nothing may be skipped."""
    text = f"{what} is not installed: `{how}`"
    if STRICT:
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def missing_here() -> Callable[[str, str], NoReturn]:
    """Give what skips visibly, or fails where nothing may be skipped."""
    return missing


@contextmanager
def own_network() -> Iterator[None]:
    """Move this thread, and what it starts, into a network of its own, with an address of its own.

    What listens on every network there is heard by nobody outside.
    """
    if os.geteuid() != 0:
        missing("a network namespace", "run the tests as root")
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(_NEW_NETWORK):
            missing("a network namespace", os.strerror(ctypes.get_errno()))
        try:
            for words in _OWN_NETWORK:
                subprocess.run(["ip", *words.split()], check=True)
            yield
        finally:
            if libc.setns(before.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "the thread is lost in the test's network")


@pytest.fixture(scope="module")
def module_network() -> Iterator[None]:
    """Run a module's tests in a network of their own."""
    with own_network():
        yield


@pytest.fixture
def test_network() -> Iterator[None]:
    """Run a test in a network of its own."""
    with own_network():
        yield


# Programs --------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def program(
    command: list[str],
    is_ready: Callable[[], bool],
    log: Path,
    stop: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; it also ends when this process is killed."""
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", stop.name.removeprefix("SIG"), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
    try:
        end = time.monotonic() + 60
        while not is_ready():
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{command} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=2)
    except httpx.TransportError:
        return False
    return True


# Databases -------------------------------------------------------------------------------------


def import_tables() -> None:
    """Import every room's tables, so that the schema is whole."""
    root = Path(millpond.__file__).parent
    for path in sorted([*root.rglob("tables.py"), root / "storage" / "events.py"]):
        importlib.import_module(
            ".".join(["millpond", *path.relative_to(root).with_suffix("").parts])
        )


class PostgreSQL:
    """A server of this test session, on a loopback port and a Unix socket."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._has_template = False
        self._maker: ThreadPoolExecutor | None = None
        self._next: Future[str] | None = None
        self._dropped: Future[None] | None = None
        self._running = ExitStack()
        self._begin: Callable[[], AbstractContextManager[object]] = nullcontext

    def start(self) -> None:
        self._running.enter_context(self._begin())

    def stop(self) -> None:
        """Stop it as an administrator would who does not wait for anybody."""
        self._running.close()

    def starts_by(self, begin: Callable[[], AbstractContextManager[object]]) -> None:
        self._begin = begin

    def is_ready(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def url(self, name: str) -> str:
        return f"postgresql://millpond@127.0.0.1:{self.port}/{name}"

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def works_ahead(self) -> Iterator[None]:
        """Make databases while tests run that have theirs; for a server that no test stops."""
        with ThreadPoolExecutor(1, "postgresql") as self._maker:
            yield
        if self._dropped:
            self._dropped.result()

    @contextmanager
    def database(self, *, empty: bool) -> Iterator[str]:
        """Make a database, with the schema or empty, and drop it at the end."""
        if empty:
            name = self._make("template0")
        elif self._next:
            name = self._next.result()
        else:
            name = self._make_whole()
        if self._maker and not empty:
            self._next = self._maker.submit(self._make_whole)
        try:
            yield self.url(name)
        finally:
            self._end(name)

    def _make(self, template: str) -> str:
        name = f"test_{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")
        return name

    def _make_whole(self) -> str:
        if not self._has_template:
            self.run("CREATE DATABASE millpond_template")
            create_schema(self.url("millpond_template"))
            self._has_template = True
        return self._make("millpond_template")

    def _end(self, name: str) -> None:
        drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
        if self._maker is None:
            self.run(drop)
            return
        if self._dropped:
            self._dropped.result()
        self._dropped = self._maker.submit(self.run, drop)


def create_schema(url: str) -> None:
    database = Database(url)
    try:
        migrate.upgrade(database)
    finally:
        database.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Start PostgreSQL."""
    with new_postgresql() as server, server.works_ahead():
        yield server


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """Start a PostgreSQL that the test may stop and start again."""
    with new_postgresql() as server:
        yield server


@contextmanager
def new_postgresql() -> Iterator[PostgreSQL]:
    """Start PostgreSQL, as an unprivileged user also where the tests run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    if not found:
        missing("PostgreSQL", "apt-get install postgresql")
    programs = found[-1].parent
    home = Path(tempfile.mkdtemp(prefix="millpond-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(home, "nobody")
        as_user = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home)}
    port = free_port()
    server = PostgreSQL(port)
    initdb_options = ["-D", str(home / "data"), "-U", "millpond", "-A", "trust", "-E", "UTF8"]
    initdb_options += ["--no-sync", "--no-instructions"]

    try:
        subprocess.run(
            [*as_user, str(programs / "initdb"), *initdb_options],
            check=True,
            capture_output=True,
            env=environment,
            cwd=home,
        )
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": home,
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "shared_buffers": "32MB",
        }
        command = [str(programs / "postgres"), "-D", str(home / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        server.starts_by(
            lambda: program(
                [*as_user[1:], *command] if as_user else command,
                server.is_ready,
                home / "log",
                signal.SIGINT,
                env=environment,
                cwd=home,
            )
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def whole_schema() -> sa.MetaData:
    """Give the tables of every room."""
    import_tables()
    return metadata


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    create_schema(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the address of an empty database, without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    with request.getfixturevalue("postgresql").database(empty=True) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Open a database with the whole schema and no rows."""
    if request.param == "sqlite":
        path = tmp_path / "millpond.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        opened = Database(f"sqlite:///{path}")
        yield opened
        opened.close()
        return
    with request.getfixturevalue("postgresql").database(empty=False) as url:
        opened = Database(url)
        yield opened
        opened.close()


# Object stores ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an S3 server; give its address."""
    port, folder = free_port(), tmp_path_factory.mktemp("ministack")
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    command = [sys.executable, "-m", "ministack"]
    with program(command, lambda: answers(url), folder / "log", env=environment, cwd=folder):
        httpx.put(f"{url}/{BUCKET}").raise_for_status()
        yield url


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start another S3 server, which fails in other places; give its address."""
    port, folder = free_port(), tmp_path_factory.mktemp("moto")
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with program(command, lambda: answers(url), folder / "log", cwd=folder):
        httpx.put(f"{url}/{BUCKET}").raise_for_status()
        yield url


def s3_store(url: str) -> S3Store:
    """Open a store in a corner of its own."""
    return S3Store(
        bucket=BUCKET,
        endpoint=url,
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
        allow_http=True,
        prefix=secrets.token_hex(8),
    )


@pytest.fixture(scope="session")
def swift() -> Iterator[Any]:
    """Start a third S3 server, which checks every signature."""
    module = load_module(Path(__file__).with_name("swift_server.py"))
    home = Path(tempfile.mkdtemp(prefix="millpond-swift-"))
    try:
        if not module.keeps_attributes(home):
            missing(
                f"A file system with extended attributes under {home.parent}",
                "TMPDIR=/var/tmp ./dev test",
            )
        with module.Swift(home, BUCKET, program, free_port).runs() as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def raced_swift(
    swift: Any, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Give a database that remembers what the first start has found out about Swift."""
    folder = tmp_path_factory.mktemp("raced")
    shutil.copy(sqlite_template, folder / "millpond.db")
    with closing(open_database(DatabaseSettings(), folder)) as remembers:
        open_objects(swift.settings(), folder, "http://m", remembers)
    return folder / "millpond.db"


@pytest.fixture
def swift_store(swift: Any, raced_swift: Path, tmp_path: Path) -> Iterator[ObjectStore]:
    """Open a store as an installation does that has been started before."""
    shutil.copy(raced_swift, tmp_path / "millpond.db")
    with closing(open_database(DatabaseSettings(), tmp_path)) as remembers:
        yield open_objects(swift.settings(), tmp_path, "http://m", remembers)


@pytest.fixture
def folder_store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects", "http://127.0.0.1:8787", b"k" * 32)


@pytest.fixture
def ministack_store(ministack: str) -> S3Store:
    return s3_store(ministack)


@pytest.fixture
def moto_store(moto: str) -> S3Store:
    return s3_store(moto)


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    """Open an empty object store."""
    name = "folder_store" if request.param == "folder" else "ministack_store"
    store: ObjectStore = request.getfixturevalue(name)
    return store


def load_module(path: Path) -> Any:
    """Load a module that tests of several folders share."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def nodes_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority that signs the certificates of nodes."""
    return Authority(tmp_path_factory.mktemp("authority"), datetime.now(UTC))


@pytest.fixture(scope="session")
def data_nodes_module() -> Any:
    """Give the module that makes nodes with data disks."""
    return load_module(Path(__file__).parent / "storage" / "data_nodes.py")


@pytest.fixture(scope="session")
def three_nodes(
    tmp_path_factory: pytest.TempPathFactory, nodes_authority: Authority, data_nodes_module: Any
) -> Iterator[Any]:
    """Start three nodes in this process, for all tests that do no harm to them."""
    nodes = data_nodes_module.DataNodes(tmp_path_factory.mktemp("nodes"), nodes_authority)
    for name in ("n1", "n2", "n3"):
        nodes.add(name)
    yield nodes
    nodes.stop()


@pytest.fixture
def nodes_store(three_nodes: Any, database: Database, tmp_path: Path) -> Iterator[Any]:
    """Open an empty store on three nodes, its names in a database of each kind."""
    opened = three_nodes.store(database, tmp_path, pace=Pace(suspect=600, lost=900))
    yield opened
    opened.close()


# Time ------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> SetClock:
    """Stand still at noon on the first of May 2026, until moved."""
    return SetClock(datetime(2026, 5, 1, 12, tzinfo=UTC))


# The whole house -----------------------------------------------------------------------------


_TLS = ssl.create_default_context()  # Made once: each takes as long as some ten pages.


class PortalSite:
    """A server with its portal, and people in every role of the project ``birds``.

    ``root`` administers the site; ``owner``, ``editor`` and ``viewer`` are members; ``stranger``
    is signed up and no member.
    """

    people = ("root", "owner", "editor", "viewer", "stranger")

    def __init__(self, url: str, app: Any, house: House) -> None:
        self.url, self.app, self.house, self.database = url, app, house, house.database
        with self.database.transaction() as tx:
            self.users = {
                name: accounts.add_user(tx, SYSTEM, name, is_admin=name == "root")
                for name in self.people
            }
            owner = self.actor("owner")
            self.project_id = add_project(tx, owner, "birds").id
            for role in ("editor", "viewer"):
                set_member(tx, owner, "birds", role, role)

    def actor(self, who: str) -> Actor:
        return Actor(self.users[who].id, who, is_admin=who == "root")

    def token(self, who: str) -> str:
        user = self.users[who]
        return self.database.change(lambda tx: accounts.add_session(tx, user, "test", NOWHERE)).text

    def cookie(self, who: str) -> tuple[str, str]:
        return self.app.state.session_cookie, self.token(who)

    @contextmanager
    def browser(self, who: str = "") -> Iterator[httpx.Client]:
        """Give a client that behaves as a browser's page does: cookie, and where it comes from."""
        headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=_TLS) as http:
            if who:
                http.cookies.set(*self.cookie(who))
            yield http


# Passwords as cheap as a server allows: no test waits for how hard they are to guess.
_FRUGAL = {
    "MILLPOND_ENGINE_SLOTS": "2",
    "MILLPOND_PEOPLE_ARGON2_MEMORY_KIB": "8192",
    "MILLPOND_PEOPLE_ARGON2_PASSES": "1",
}


class _Later:
    """What checks a field of a route, made when a request first needs it.

    A server makes all of them when it starts, some 1,800, which is most of what its start costs;
    a test has a server of its own and asks a few routes. The journeys start whole servers.
    """

    def __init__(self, make: Callable[[ModelField], None]) -> None:
        self._make = make

    def __get__(self, field: ModelField | None, _: type[ModelField]) -> object:
        if field is None:
            return self
        self._make(field)
        return vars(field)["_type_adapter"]


class _Compiled(jinja2.BytecodeCache):
    """Templates that one server of a test has compiled, for the next."""

    def __init__(self) -> None:
        self._codes: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._codes:
            bucket.bytecode_from_string(self._codes[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def frugal_pages() -> Iterator[None]:
    """Let servers of this process compile each template once; jinja looks whether it is the same."""
    with pytest.MonkeyPatch.context() as patch:
        kept = partial(jinja2.Environment, bytecode_cache=_Compiled())
        patch.setattr(jinja2, "Environment", kept)
        yield


@pytest.fixture(scope="session", autouse=True)
def frugal_routes() -> Iterator[None]:
    """Let servers of this process start in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        later = _Later(ModelField.__post_init__)
        patch.setattr(ModelField, "__post_init__", lambda _: None)
        patch.setattr(ModelField, "_type_adapter", later, raising=False)
        yield


@contextmanager
def serve_portal(
    settings: dict[str, str], data: Path, change: Callable[[House], House] = lambda house: house
) -> Iterator[PortalSite]:
    chosen = load_settings(None, {**_FRUGAL, **settings})
    with (
        listen("127.0.0.1", 0) as listening,
        open_house(chosen, data, url_of(listening)) as opened,
    ):
        house = change(opened)
        app, pool = main.build_app(house), main.build_pool(house)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        pool.start()
        house.recorder.start()
        try:
            yield PortalSite(url_of(listening), app, house)
        finally:
            pool.stop(20)
            house.recorder.stop()
            house.hub.is_closed = True
            server.should_exit = server.force_exit = True
            thread.join(20)
            house.dispatcher.close()


@pytest.fixture
def portal_site(database: Database, tmp_path: Path) -> Iterator[PortalSite]:
    """Give a served house with its portal on each kind of database."""
    url = database.engine.url.render_as_string(hide_password=False)
    with serve_portal({"MILLPOND_DATABASE_URL": url}, tmp_path / "data") as site:
        yield site
