import hashlib
import io
import json
import socket
import subprocess
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uv

from millpond.engine.dispatch import Dispatcher
from millpond.engine.local import LocalEngine
from millpond.engine.transfer import ObjectTransfer
from millpond.environments import actions
from millpond.environments.built import Wheel, join_wheels, list_wheels, read_pins
from millpond.environments.indexes import Index, find_indexes
from millpond.environments.listings import read_page
from millpond.environments.logs import log_prefix, read_log
from millpond.environments.rules import list_packages, make_lock
from millpond.environments.sources import SandboxedSources
from millpond.environments.tasks import make_build
from millpond.environments.uv import UvBuilder, choose_interpreter
from millpond.ground.actor import Actor
from millpond.ground.errors import BusyError, InvalidError
from millpond.jobs import store as job_store
from millpond.jobs.lease import HeldLease
from millpond.storage.folder import FolderStore

ANA = Actor("user_ana", "ana")
P = "prj_pond"

PROJECT = """[build-system]
requires = []
build-backend = "back"
backend-path = ["."]
"""
WHEEL = """
import os, socket, subprocess, sys, time, urllib.request, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    filename = f"{NAME}-1.0-py3-none-any.whl"
    info = f"{NAME}-1.0.dist-info"
    files = {
        f"{NAME}.py": "seen = " + repr(work()),
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: 1.0\\n" + MORE,
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{each},,\\n" for each in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(f"{folder}/{filename}", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return filename
"""
LOOK = """
def ask(address, data=None, method=None):
    gate = os.environ["UV_DEFAULT_INDEX"].partition("/simple/")[0]
    try:
        request = urllib.request.Request(gate + address, data=data, method=method)
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as fault:
        return fault.code

def work():
    print("looking around")
    def reach(port):
        try:
            socket.create_connection(("127.0.0.1", port), 2).close()
            return True
        except OSError:
            return False
    tunnel = socket.create_connection(("127.0.0.1", int(os.environ["UV_DEFAULT_INDEX"].split("/")[2].split(":")[1])))
    tunnel.sendall(b"CONNECT 127.0.0.1:OTHER HTTP/1.1\\r\\n\\r\\n")
    tunnelled = int(tunnel.recv(99).split()[1])
    absolute = socket.create_connection(tunnel.getpeername())
    absolute.sendall(b"GET http://127.0.0.1:OTHER/ HTTP/1.1\\r\\n\\r\\n")
    try:
        private = open("PRIVATE").read()
    except OSError as fault:
        private = type(fault).__name__
    return {
        "uid": os.getuid(), "private": private, "other": reach(OTHER), "index": reach(INDEXPORT),
        "page": ask("/simple/0/alpha/"), "post": ask("/simple/0/alpha/", b"x"),
        "unknown": ask("/file/" + "0" * 64 + "/x"), "climb": ask("/simple/0/../../secret"),
        "tunnel": tunnelled, "absolute": int(absolute.recv(99).split()[1]),
        "names": sorted(name for name in os.environ if "SECRET" in name),
    }
"""


class IndexServer(ThreadingHTTPServer):
    """A package index of simple pages; it asks for a password."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Page)
        self.files = {}
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://ana:geheim@127.0.0.1:{self.server_port}/simple"

    def add_source(self, name, backend, requires="", project=PROJECT):
        files = {
            "pyproject.toml": project,
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            "back.py": f"NAME, MORE = {name!r}, {requires!r}\n{WHEEL}{backend}",
        }
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path, text in files.items():
                facts = tarfile.TarInfo(f"{name}-1.0/{path}")
                facts.size = len(text.encode())
                archive.addfile(facts, io.BytesIO(text.encode()))
        self.files[f"{name}-1.0.tar.gz"] = packed.getvalue()


class _Page(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.asked.append(self.path)
        parts = self.path.strip("/").split("/")
        if self.headers.get("Authorization") is None:
            data, status = b"", 401
        elif parts[0] == "simple" and len(parts) == 2:
            links = [
                f'<a href="../../files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
                for name, data in self.server.files.items()
                if name.partition("-")[0] == parts[1]
            ]
            data, status = "\n".join(links).encode(), 200 if links else 404
        else:
            data = self.server.files.get(parts[-1], b"")
            status = 200 if data else 404
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def index():
    with IndexServer() as server:
        yield server
        server.shutdown()


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "data", "http://localhost", b"k" * 32)


@pytest.fixture
def engine(tmp_path, store):
    engine = LocalEngine(ObjectTransfer(store), tmp_path / "scratch")
    yield engine
    engine.close()


class Yard:
    """All that builds environments, on one index."""

    def __init__(self, folder, database, store, engine, url):
        variables = {"HOME": str(folder), "UV_DEFAULT_INDEX": url, "PATH": "/usr/bin:/bin"}
        variables |= {"UV_CACHE_DIR": str(folder / "cache"), "MY_SECRET": "geheim"}
        program = Path(uv.find_uv_bin())
        self.builder = UvBuilder(
            folder / "environments",
            uv=program,
            interpreter=choose_interpreter(),
            environment=variables,
            objects=store,
        )
        self.dispatcher = Dispatcher(engine)
        self.facts = {
            "builder": self.builder,
            "dispatcher": self.dispatcher,
            "objects": store,
            "uv": program,
            "environment": variables,
        }
        self.folder, self.database, self.store, self.engine = folder, database, store, engine

    def build(self, requirements, names, *, seconds=120, is_isolated=None):
        """Ask for a version and build it; give it, its lock and its log."""
        self.database.change(
            lambda tx: actions.add_version(
                tx, ANA, P, "made", requirements, build_from_source=names
            )
        )
        (job,) = self.database.change(
            lambda tx: job_store.claim(
                tx, [actions.BUILD_KIND], 1, holder="h", lease_seconds=60, limits={}
            )
        )
        lease = HeldLease(
            job, lease_seconds=60, monotonic=time.monotonic, stopping=threading.Event()
        )
        sources = SandboxedSources(
            self.folder / "gateways",
            seconds=seconds,
            is_isolated=lambda: (
                self.engine.nodes()[0].isolated if is_isolated is None else is_isolated
            ),
            **self.facts,
        )
        make_build(self.database, self.store, self.builder, sources)(lease)
        version = self.database.read(lambda tx: actions.get_version(tx, P, "made"))
        log = read_log(self.store, log_prefix(P, version.id), 0, has_ended=True).text
        assert list((self.folder / "gateways").iterdir()) == []
        return version, log


@pytest.fixture
def yard(tmp_path, people, store, engine, index):
    if not engine.nodes()[0].isolated:
        pytest.skip("there is no sandbox on this machine")
    return Yard(tmp_path, people, store, engine, index.url)


def run(place, code):
    command = [str(place.path / "bin" / "python"), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
class TestBuilding:
    def test_a_back_end_runs_in_the_sandbox_and_reaches_the_index_alone(self, yard, index):
        private = yard.folder / "private"
        private.write_text("not for the sandbox")
        with socket.create_server(("127.0.0.1", 0)) as other:
            look = LOOK.replace("OTHER", str(other.getsockname()[1]))
            look = look.replace("PRIVATE", str(private))
            index.add_source("alpha", look.replace("INDEXPORT", str(index.server_port)))
            version, log = yard.build("alpha\n", ["Alpha"])
        assert (version.state, version.reason) == ("ready", ""), log
        assert version.build_from_source == ("alpha",)
        assert "looking around" in log
        assert "Refused by the gateway: 'CONNECT 127.0.0.1:" in log
        assert "geheim" not in log
        lock = yard.database.read(lambda tx: actions.lock_text(tx, P, "made@1"))
        assert "://" not in lock
        (wheel,) = list_wheels(lock)
        digest = hashlib.sha256(yard.store.get(wheel.key)).hexdigest()
        assert lock.count("--hash=") == lock.count(f"--hash=sha256:{digest}") == 1
        place = yard.builder.find(lock)
        seen = json.loads(run(place, "import alpha, json; print(json.dumps(alpha.seen))"))
        assert seen == {
            "uid": 1000,
            "private": "FileNotFoundError",
            "other": False,
            "index": False,
            "page": 200,
            "post": 403,
            "unknown": 403,
            "climb": 403,
            "tunnel": 403,
            "absolute": 403,
            "names": [],
        }

    def test_only_named_packages_come_as_source(self, yard, index):
        index.add_source("alpha", "def work(): return 1", requires="Requires-Dist: beta\n")
        index.add_source("beta", "def work(): return 2")
        refused, _ = yard.build("alpha\n", ["alpha"])
        assert refused.state == "failed"
        assert "beta" in refused.reason
        version, log = yard.build("alpha\n", ["beta", "alpha"])
        assert version.state == "ready", log
        assert [one.name for one in version.packages] == ["alpha", "beta"]

    def test_build_requirements_are_built_only_when_named(self, yard, index):
        needing = PROJECT.replace("requires = []", 'requires = ["beta"]')
        index.add_source("alpha", "def work(): import beta; return beta.seen", project=needing)
        index.add_source("beta", "def work(): return 'from beta'")
        refused, _ = yard.build("alpha\n", ["alpha"])
        assert refused.state == "failed"
        assert "beta" in refused.reason

    def test_the_last_lines_of_a_back_end_that_fails_are_the_reason(self, yard, index):
        index.add_source("alpha", "def work(): raise SystemExit('the compiler is missing')")
        version, log = yard.build("alpha\n", ["alpha"])
        assert version.state == "failed"
        assert "the compiler is missing" in version.reason
        assert "the compiler is missing" in log

    def test_a_back_end_that_hangs_is_ended(self, yard, index):
        index.add_source("alpha", "def work(): print('hanging', flush=True); time.sleep(600)")
        began = time.monotonic()
        version, _ = yard.build("alpha\n", ["alpha"], seconds=4)
        assert version.state == "failed"
        assert "4 seconds" in version.reason
        assert time.monotonic() - began < 30

    def test_a_lock_that_a_back_end_has_forged_is_refused(self, yard, index):
        forge = """
def work():
    if os.path.exists("/task/out/lock.txt"):
        with open("/task/out/lock.txt", "a") as file:
            file.write("--find-links http://127.0.0.1:9/\\n")
"""
        index.add_source("alpha", forge)
        version, _ = yard.build("alpha\n", ["alpha"])
        assert version.state == "failed"
        assert "'--find-links http://127.0.0.1:9/' is no package with hashes" in version.reason

    def test_an_index_that_is_away_is_tried_again(self, yard, index):
        index.shutdown()
        index.server_close()
        with pytest.raises(BusyError, match="can't be reached") as caught:
            yard.build("alpha\n", ["alpha"])
        assert "geheim" not in caught.value.message

    def test_what_nothing_needs_is_told(self, yard, index):
        index.add_source("alpha", "def work(): return 1")
        version, _ = yard.build("alpha\n", ["alpha", "gamma"])
        assert version.state == "failed"
        assert "nothing needs them: gamma" in version.reason

    def test_without_a_sandbox_nothing_is_built(self, yard, index):
        index.add_source("alpha", "def work(): return 1")
        version, _ = yard.build("alpha\n", ["alpha"], is_isolated=False)
        assert version.state == "failed"
        assert "no sandbox" in version.reason
        assert index.asked == []


def test_the_names_are_part_of_what_is_asked(people):
    def ask(names=()):
        return people.change(
            lambda tx: actions.add_version(tx, ANA, P, "made", "six", build_from_source=names)
        )

    assert ask().build_from_source == ()
    assert ask(["Six", "six"]).build_from_source == ("six",)
    assert ask(["six"]).unchanged
    assert ask().number == 3
    with pytest.raises(InvalidError) as caught:
        ask(["six==1", "../x", "fine"])
    assert len(caught.value.faults) == 2


HASH = "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        "six==1.17.0",
        "six>=1 --hash=sha256:" + HASH,
        "six==1 --hash=md5:00",
        "-r /etc/passwd",
        "-e .",
        "six @ http://127.0.0.1/six.whl --hash=sha256:" + HASH,
        "./six.whl --hash=sha256:" + HASH,
        "# millpond-wheel projects/other/key six-1-py3-none-any.whl",
        "six==1 --hash=sha256:" + HASH + " --index-url x",
        "six==1 ; python_version > '3' # x --hash=sha256:" + HASH,
        "six==1" + " " * 100_000 + ";" + "a" * 100_000,
    ],
)
def test_anything_but_a_pin_with_hashes_is_refused_in_a_lock(line):
    began = time.monotonic()
    with pytest.raises(InvalidError, match="can't be used"):
        read_pins(f"good==1 --hash=sha256:{HASH}\n{line}\n")
    assert time.monotonic() - began < 2


def test_a_lock_pins_the_built_wheel_alone_and_names_where_it_lies():
    text = f"Al.pha[x]==1.0 ; python_version < '4' \\\n    --hash=sha256:{HASH}\n"
    text += f"six==1.17.0 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{'1' * 64}\n"
    wheel = Wheel("al_pha-1.0-cp311-cp311-linux_x86_64.whl", "projects/p/key", "2" * 64)
    body = join_wheels(read_pins(text), ("al-pha",), {wheel.filename: wheel})
    lock = make_lock(body, "3.11")
    assert lock.splitlines() == [
        "# millpond-lock 1 python=3.11",
        "# millpond-wheel projects/p/key al_pha-1.0-cp311-cp311-linux_x86_64.whl",
        "Al.pha[x]==1.0 ; python_version < '4' \\",
        f"    --hash=sha256:{'2' * 64}",
        "six==1.17.0 \\",
        f"    --hash=sha256:{HASH} \\",
        f"    --hash=sha256:{'1' * 64}",
    ]
    assert [one.name for one in list_packages(lock)] == ["al-pha", "six"]
    assert list_wheels(lock) == (Wheel(wheel.filename, wheel.key),)
    for other in ("al_pha-2.0-py3-none-any.whl", "../al_pha-1.0-py3-none-any.whl"):
        with pytest.raises(InvalidError, match="left no wheel"):
            join_wheels(read_pins(text), ("al-pha",), {other: wheel})


def test_indexes_are_those_of_uv_without_their_passwords(tmp_path):
    config = tmp_path / ".config" / "uv" / "uv.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        '[[index]]\nname = "own"\nurl = "https://packages.example/own/"\n'
        '[[index]]\nname = "rare"\nurl = "https://rare.example"\nexplicit = true\n'
        '[[index]]\nurl = "https://main.example/simple"\ndefault = true\n'
    )
    (tmp_path / ".netrc").write_text("machine main.example login ana password aus-netrc\n")
    variables = {
        "HOME": str(tmp_path),
        "UV_INDEX": "first=https://ana:p%40ss@first.example/simple file:///srv/wheels",
        "UV_INDEX_OWN_USERNAME": "bo",
        "UV_INDEX_OWN_PASSWORD": "pw",
    }
    found = find_indexes(variables)
    assert found == (
        Index("https://first.example/simple", ("ana", "p@ss")),
        Index("https://packages.example/own", ("bo", "pw")),
        Index("https://main.example/simple", ("ana", "aus-netrc")),
    )
    assert "p@ss" not in repr(found)
    assert find_indexes({**variables, "UV_NO_INDEX": "1"}) == ()
    alone = find_indexes({"UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": "https://one.example/simple"})
    assert [each.url for each in alone] == ["https://one.example/simple"]


def test_pages_of_both_forms_give_the_same_files():
    html = f"""<base href="https://files.example/a/"><a href="x-1.tar.gz#sha256={HASH}"
        data-requires-python="&gt;=3.9" data-yanked="bad" data-core-metadata="sha256={HASH}">x</a>
        <a href="file:///etc/passwd">y</a>"""
    listed = {
        "filename": "x-1.tar.gz",
        "url": "../../files/x-1.tar.gz",
        "hashes": {"sha256": HASH},
    }
    page = read_page(html.encode(), "text/html", "https://index.example/simple/x/")
    facts = {"requires-python": ">=3.9", "yanked": "bad", "core-metadata": {"sha256": HASH}}
    url = {"url": "https://files.example/a/x-1.tar.gz"}
    assert page["files"] == [{**listed, **url, **facts}]
    data = json.dumps({"files": [listed]}).encode()
    page = read_page(data, "application/json", "https://index.example/simple/x/")
    assert page["files"] == [{**listed, "url": "https://index.example/files/x-1.tar.gz"}]
    for bad in (b"[]", b"{}", b"x"):
        with pytest.raises(ValueError, match=r"."):
            read_page(bad, "application/json", "https://index.example/simple/x/")
