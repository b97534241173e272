"""The cluster's processes: who may call whom, and what becomes of tasks when one of them goes."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from millpond.engine.cluster.books import NodeLimits
from millpond.engine.cluster.engine import DaskEngine
from millpond.engine.cluster.joined import JoinedEngine
from millpond.engine.cluster.scheduler import main as run_scheduler
from millpond.engine.dispatch import Dispatcher
from millpond.engine.local import LocalEngine
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Entry, Grants, Limits, TaskReport, TaskSpec
from millpond.ground.errors import BusyError, InvalidError
from millpond.ground.tls import Identity
from millpond.machines.authority import Authority
from millpond.storage.folder import FolderStore

CONTRACTS = str(Path(__file__).parents[1] / "contracts")
sys.path.insert(0, CONTRACTS)
try:
    from cluster_rig import Cluster, wait_until
finally:
    sys.path.remove(CONTRACTS)


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    try:
        made.start_scheduler()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Give a cluster with one node for tests that leave it as it is."""
    made = Cluster(tmp_path_factory.mktemp("quiet"))
    try:
        made.start_scheduler()
        made.start_node("n1")
        made.make_engine().leave()
        yield made
    finally:
        made.close()


class Heard:
    """What became of tasks, each told once."""

    def __init__(self):
        self.reports: list[TaskReport] = []
        self.began = threading.Event()

    def on_progress(self, _news):
        self.began.set()

    def outcomes(self):
        return [report.outcome for report in self.reports]

    def wait(self, count=1, seconds=30):
        assert wait_until(lambda: len(self.reports) >= count, seconds), self.reports
        return self.reports[-1]


def make_task(script, key="", **facts):
    """Give a task that is a line of shell; it can say that it began by `$SAY`."""
    key = key or f"run/step/0/{uuid4().hex}"
    say = """say() { echo '{"message": "began"}' >&$MILLPOND_PROGRESS_FD; }; """
    limits = facts.pop("limits", Limits(seconds=120, memory_bytes=128 << 20))
    entry = Entry(command=("sh", "-c", say + script))
    return TaskSpec(key, "u", "p", entry, f"projects/p/{key}", limits=limits, **facts)


def submit(engine, task, node=""):
    heard = Heard()
    engine.submit(task, on_progress=heard.on_progress, on_done=heard.reports.append, node=node)
    return heard


def ask(address, identity, message):
    """Say one thing to a scheduler or worker, as Dask does; give its answer."""
    from distributed.comm import connect

    from millpond.engine.cluster.security import make_security

    async def talk():
        args = make_security(identity).get_connection_args("scheduler")
        comm = await connect(address, timeout=5, **args)
        try:
            await comm.write({**message, "reply": True})
            return await asyncio.wait_for(comm.read(), 5)
        finally:
            comm.abort()

    return asyncio.run(talk())


def listening_ports(pid):
    return sorted(
        each.laddr.port
        for each in psutil.Process(pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    )


# Who may call whom.


@pytest.mark.parametrize(
    "message",
    [
        {"op": "register-client", "client": "evil", "versions": {}},
        {"op": "run_function", "function": b"x"},
        {"op": "broadcast", "msg": {"op": "terminate"}},
        {"op": "retire_workers", "workers": []},
        {"op": "terminate"},
        {"op": "millpond_cancel", "key": "k", "worker": "w"},
        {"op": "millpond_recall", "keys": ["k"]},
        {"op": "millpond_look", "is_fresh": False},
        {"op": "connection_stream"},
        {"op": "get_logs"},
    ],
    ids=lambda message: message["op"],
)
def test_a_nodes_certificate_is_no_clients(quiet, message):
    answer = ask(quiet.url, quiet.node_identity("n1"), message)
    assert answer["status"] == "uncaught-error"
    assert "node's certificate can't be used as a client's" in answer["exception_text"]
    said = quiet.log("scheduler")
    assert "refused node n1" in said
    assert "can't be used as a client's" in said


def test_a_node_registers_under_its_own_name_only(quiet):
    engine = quiet.make_engine()
    try:
        facts = {"op": "register-worker", "name": "n1", "address": "tls://127.0.0.1:9"}
        answer = ask(quiet.url, quiet.node_identity("n2"), facts)
        assert "no certificate of the node 'n1'" in answer["message"]
        address = engine._books.find("n1").address
        for op in ("heartbeat_worker", "unregister"):
            answer = ask(quiet.url, quiet.node_identity("n2"), {"op": op, "address": address})
            assert "speaks for itself only" in answer["exception_text"]
        assert [node.name for node in engine.nodes()] == ["n1"]
    finally:
        engine.leave()


def test_a_host_is_no_worker(quiet):
    facts = {"op": "register-worker", "name": "here", "address": "tls://127.0.0.1:9"}
    assert "only a node" in ask(quiet.url, quiet.host, facts)["message"]


def test_objects_from_a_node_are_never_unpickled(quiet, tmp_path):
    from distributed.protocol.serialize import ToPickle, to_serialize

    mark = tmp_path / "was_run"
    for bad in (ToPickle(Bomb(mark)), to_serialize(Bomb(mark))):
        answer = ask(quiet.url, quiet.node_identity("n1"), {"op": "identity", "x": bad})
        assert answer["status"] == "uncaught-error"
    assert not mark.exists()
    assert ask(quiet.url, quiet.host, {"op": "identity"})["type"] == "ClusterScheduler"


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_only_the_host_calls_a_worker(quiet):
    engine = quiet.make_engine()
    address = engine._books.find("n1").address
    engine.leave()
    for identity in (quiet.node_identity("n1"), quiet.node_identity("n2")):
        answer = ask(address, identity, {"op": "identity"})
        assert "only the host may call" in answer["exception_text"]
    assert ask(address, quiet.host, {"op": "identity"})["type"] == "NodeWorker"
    answer = ask(address, quiet.host, {"op": "millpond_describe"})
    assert (answer["name"], answer["running"]) == ("n1", {})
    assert ask(address, quiet.host, {"op": "run", "function": b"x"}) is None
    assert "No handler run found" in quiet.log("n1")  # Not even the host runs functions there.


def test_strangers_do_not_get_in(quiet, tmp_path):
    other = Authority(tmp_path / "other", quiet.now)
    foreign = other.open_identity(tmp_path / "foreign", "host", "evil", [], quiet.now)
    ours = Identity(foreign.certificate, foreign.key, quiet.authority.path)
    with pytest.raises(OSError):
        ask(quiet.url, ours, {"op": "identity"})
    context = ssl.create_default_context(cafile=str(quiet.authority.path))
    with (
        socket.create_connection(("127.0.0.1", quiet.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="host.millpond") as bare,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        bare.recv(1)  # TLS 1.3 tells of a missing certificate at first use.
    with socket.create_connection(("127.0.0.1", quiet.port), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.settimeout(5)
        with suppress(ConnectionResetError):
            assert b"HTTP/" not in plain.recv(100)


@pytest.mark.slow
@pytest.mark.parametrize("names", [[], ["host.millpond"]], ids=["own name", "host's name"])
def test_a_client_talks_to_the_host_only(cluster, names):
    """A node that takes the scheduler's address is not taken for it, whatever its names are."""
    folder, own = cluster.root / "cluster", cluster.root / "own"
    node = cluster.authority.open_identity(cluster.root / "n1", "node", "n1", names, cluster.now)
    host = cluster.authority.open_identity(own, "host", "here", [], cluster.now)
    cluster.kill("scheduler")
    (folder / "host.crt").write_bytes(node.certificate.read_bytes())
    (folder / "host.key").write_bytes(node.key.read_bytes())
    cluster.start_scheduler()
    engine = DaskEngine(cluster.url, host)
    try:
        assert wait_until(lambda: "certificate" in engine.reason, 15), engine.reason
        assert engine.nodes() == []
    finally:
        engine.leave()


def test_no_http_is_answered_and_no_other_port_is_open(quiet):
    assert listening_ports(quiet.processes["scheduler"].pid) == [quiet.port]
    assert len(listening_ports(quiet.processes["n1"].pid)) == 1


@pytest.mark.slow
def test_a_revoked_node_is_cut_off_and_kept_out(cluster):
    from millpond.machines.authority import serial_of

    cluster.start_node("n1")
    cluster.start_node("n2")
    engine = cluster.make_engine(2)
    try:
        heard = submit(engine, make_task("say; sleep 60"), "n1")
        assert heard.began.wait(20)
        identity = cluster.node_identity("n1")
        listed = cluster.root / "cluster" / "revoked.json"
        listed.write_text(json.dumps([serial_of(identity.certificate.read_bytes())]))
        assert heard.wait(seconds=10).outcome == "lost"
        assert "n1" in heard.reports[0].reason
        assert [node.name for node in engine.nodes()] == ["n2"]
        assert cluster.processes["n1"].wait(20) is not None
        assert "revoked" in cluster.log("scheduler")
        answer = ask(cluster.url, identity, {"op": "identity"})
        assert "was revoked" in answer["exception_text"]
    finally:
        engine.close()


# What a node may say.


@pytest.mark.slow
def test_a_node_that_lies_about_its_slots_is_held_to_its_limits(cluster):
    cluster.start_node("n1", lies={"slots": 512, "memory_bytes": 1 << 60, "gpus": 8})
    most = NodeLimits(slots=1, memory_bytes=1 << 30, gpus=0, labels={"disk": "fast"})
    engine = cluster.make_engine(limits=lambda _name: most)
    try:
        node = engine.nodes()[0]
        assert (node.slots, node.memory_bytes, node.gpus) == (1, 1 << 30, 0)
        assert node.labels == {"disk": "fast"}
        first = submit(engine, make_task("say; sleep 60"))
        with pytest.raises(BusyError):
            submit(engine, make_task("true"))
        with pytest.raises(InvalidError, match="largest node has 1"):
            submit(engine, make_task("true", limits=Limits(cpu_slots=2)))
        assert first.began.wait(20)
    finally:
        engine.close()
    assert first.outcomes() == ["cancelled"]


@pytest.mark.slow
def test_a_node_that_says_nonsense_is_none(cluster):
    cluster.start_node("n1", lies={"slots": "many"})
    cluster.start_node("n2")
    engine = cluster.make_engine(1)
    try:
        assert wait_until(lambda: "Register" in cluster.log("scheduler"), 20)
        assert [node.name for node in engine.nodes()] == ["n2"]
    finally:
        engine.leave()


# What becomes of tasks.


def test_a_killed_worker_loses_its_tasks_once_and_they_go_elsewhere(cluster):
    cluster.start_node("n1")
    cluster.start_node("n2")
    engine = cluster.make_engine(2)
    dispatcher = Dispatcher(engine)
    mark = f"mark{uuid4().hex}"
    tries: dict[str, list[TaskReport]] = {}

    def give(number, attempt=1):
        key = f"run/step/{number}/{attempt}"

        def on_done(report):
            tries.setdefault(str(number), []).append(report)
            if report.outcome == "lost":
                give(number, attempt + 1)

        wait = "say; sleep 300" if attempt == 1 and number < 4 else "echo $$ > made"
        task = make_task(f"{wait}; : {mark}", key)
        dispatcher.submit(task, "p/u", lambda _: None, on_done)

    try:
        for number in range(4):
            give(number)
        assert wait_until(lambda: all(n.free_slots == 0 for n in engine.nodes()), 10)
        assert wait_until(lambda: len(living_with(mark, "sleep 300")) >= 4, 20)
        on_n1 = {
            p.pid for p in psutil.Process(cluster.processes["n1"].pid).children(recursive=True)
        }
        cluster.kill("n1")
        assert wait_until(lambda: len(engine.nodes()) == 1, 5)
        assert wait_until(lambda: sum(each[0].outcome == "lost" for each in tries.values()) == 2, 5)
        assert wait_until(lambda: not on_n1 & set(living_with(mark)), 2), "a process is left"
        for number in range(4):
            if str(number) not in tries:
                dispatcher.cancel(f"run/step/{number}/1")
        assert wait_until(
            lambda: len(tries) == 4 and all(e[-1].outcome != "lost" for e in tries.values()), 30
        )
    finally:
        dispatcher.close()
        engine.close()
    again = [each for each in tries.values() if len(each) == 2]
    assert [[r.outcome for r in each] for each in again] == [["lost", "done"]] * 2
    assert {each[0].node for each in again} == {"n1"}
    assert {each[1].node for each in again} == {"n2"}
    assert "The node n1 was lost" in again[0][0].reason


def living_with(*marks):
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if all(mark in line for mark in marks):
            found.append(process.pid)
    return found


@pytest.mark.slow
def test_a_scheduler_that_is_killed_loses_what_runs_and_comes_back(cluster):
    cluster.start_node("n1")
    engine = cluster.make_engine()
    changes = threading.Event()
    engine.watch(changes.set)
    try:
        heard = submit(engine, make_task("say; sleep 60"))
        assert heard.began.wait(20)
        cluster.kill("scheduler")
        assert wait_until(lambda: engine.reason and not engine.nodes(), 10)
        assert "does not answer" in engine.reason
        with pytest.raises(BusyError):
            submit(engine, make_task("true"))
        assert cluster.processes["n1"].wait(20) is not None  # Its restart loop starts it anew.
        cluster.start_scheduler()
        assert heard.wait(seconds=30).outcome == "lost"
        assert "n1" in heard.reports[0].reason
        changes.clear()
        cluster.start_node("n1")
        assert wait_until(lambda: len(engine.nodes()) == 1, 20)
        assert changes.wait(5)
        assert engine.reason == ""
        assert submit(engine, make_task("true")).wait().outcome == "done"
    finally:
        engine.close()
    assert heard.outcomes() == ["lost"]


@pytest.mark.slow
def test_a_worker_that_falls_silent_is_lost_and_its_late_word_is_dropped(cluster):
    cluster.start_node("n1")
    engine = cluster.make_engine()
    try:
        heard = submit(engine, make_task("say; sleep 5; echo late > made"))
        assert heard.began.wait(20)
        stopped = psutil.Process(cluster.processes["n1"].pid)
        stopped.send_signal(signal.SIGSTOP)
        assert heard.wait(seconds=45).outcome == "lost"
        assert engine.nodes() == []
        stopped.send_signal(signal.SIGCONT)
        assert cluster.processes["n1"].wait(30) is not None
        cluster.start_node("n1")
        assert wait_until(lambda: len(engine.nodes()) == 1, 20)
        assert submit(engine, make_task("true")).wait().outcome == "done"
    finally:
        engine.close()
    assert heard.outcomes() == ["lost"]


@pytest.mark.slow
def test_a_short_cut_costs_nothing(cluster):
    cluster.start_node("n1")
    engine = cluster.make_engine()
    try:
        heard = submit(engine, make_task("say; sleep 1; echo fine > made"))
        assert heard.began.wait(20)
        stopped = psutil.Process(cluster.processes["n1"].pid)
        stopped.send_signal(signal.SIGSTOP)
        threading.Event().wait(3)  # The cut itself.
        stopped.send_signal(signal.SIGCONT)
        assert heard.wait(seconds=20).outcome == "done"
    finally:
        engine.close()
    assert heard.outcomes() == ["done"]


@pytest.mark.slow
def test_a_worker_started_anew_at_the_same_port_is_another(cluster):
    port = 0
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    cluster.start_node("n1", port=port)
    engine = cluster.make_engine()
    try:
        heard = submit(engine, make_task("say; sleep 60"))
        assert heard.began.wait(20)
        boot = engine._books.find("n1").boot
        cluster.kill("n1")
        cluster.start_node("n1", port=port)
        assert heard.wait(seconds=10).outcome == "lost"
        assert wait_until(
            lambda: (found := engine._books.find("n1")) is not None and found.boot != boot, 20
        )
        assert engine.nodes()[0].free_slots == 2
        assert submit(engine, make_task("true")).wait().outcome == "done"
    finally:
        engine.close()
    assert heard.outcomes() == ["lost"]


@pytest.mark.slow
def test_a_second_process_of_a_node_is_refused_while_the_first_lives(cluster):
    cluster.start_node("n1")
    engine = cluster.make_engine()
    try:
        cluster.processes["first"] = cluster.processes.pop("n1")
        (cluster.root / "n1" / "scratch").rename(cluster.root / "n1" / "of_first")
        cluster.start_node("n1")
        assert cluster.processes["n1"].wait(30) == 1
        assert "another process of the node n1 is joined, at" in cluster.log("n1").splitlines()[-1]
        assert submit(engine, make_task("true")).wait().outcome == "done"
    finally:
        engine.close()


@pytest.mark.slow
def test_a_node_that_comes_back_takes_the_place_of_its_dead_worker(cluster):
    """As after a power cut: the scheduler has not missed the old one yet."""
    cluster.start_node("n1")
    engine = cluster.make_engine()
    try:
        heard = submit(engine, make_task("say; sleep 300"))
        assert heard.began.wait(20)
        dead = cluster.processes["dead"] = cluster.processes.pop("n1")
        dead.send_signal(signal.SIGSTOP)
        (cluster.root / "n1" / "scratch").rename(cluster.root / "n1" / "of_dead")

        def is_joined():
            """Be the restart loop of its service."""
            if "n1" not in cluster.processes or cluster.processes["n1"].poll() is not None:
                cluster.start_node("n1")
            return heard.reports

        assert wait_until(is_joined, 14), "it had to wait until the old one was missed"
        assert heard.reports[0].outcome == "lost"
        assert wait_until(lambda: [node.free_slots for node in engine.nodes()] == [2], 20)
        assert submit(engine, make_task("true")).wait().outcome == "done"
    finally:
        engine.close()


@pytest.mark.slow
def test_what_is_cancelled_on_its_way_never_runs_on(cluster):
    cluster.start_node("n1", slots=8)
    engine = cluster.make_engine()
    try:
        tasks = [submit(engine, make_task("sleep 300", f"r/s/{n}/1")) for n in range(8)]
        for number in range(8):
            engine.cancel(f"r/s/{number}/1")
        assert {each.wait(seconds=10).outcome for each in tasks} == {"cancelled"}
        assert submit(engine, make_task("true", "r/s/0/1")).wait().outcome == "done"
    finally:
        engine.close()


@pytest.mark.slow
def test_a_cancel_of_what_another_server_started_reaches_the_node(cluster):
    cluster.start_node("n1")
    engine = cluster.make_engine()
    heard = submit(engine, make_task("say; sleep 300", "run/step/0/1"))
    assert heard.began.wait(20)
    engine.leave()
    other = cluster.make_engine()
    try:
        assert other.nodes()[0].free_slots == 1
        other.cancel("run/step/0/1")
        assert wait_until(lambda: other.nodes()[0].free_slots == 2, 10)
    finally:
        other.close()
    assert heard.reports == []


@pytest.mark.slow
def test_the_host_runs_what_has_a_gateway_and_its_share(cluster, tmp_path):
    cluster.start_node("n1", slots=1)
    store = FolderStore(cluster.store, "http://localhost", b"k" * 32)
    local = LocalEngine(ObjectTransfer(store), tmp_path / "scratch", slots=4)
    engine = JoinedEngine(local, cluster.make_engine(), 1)
    gateway = tmp_path / "gateway"
    gateway.mkdir(mode=0o755)
    try:
        host, node = engine.nodes()
        assert (host.name, host.is_host, host.free_ordinary_slots) == ("local", True, 1)
        assert (node.name, node.is_host) == ("n1", False)
        tasks = [submit(engine, make_task("say; sleep 60", f"r/s/{n}/1")) for n in range(2)]
        assert engine.nodes()[0].free_ordinary_slots == 0
        with pytest.raises(BusyError):
            submit(engine, make_task("true"))
        with_gateway = make_task("test -d /task/gateway", grants=Grants(gateway=str(gateway)))
        report = submit(engine, with_gateway).wait()
        assert (report.outcome, report.node) == ("done", "local"), report
        assert engine.reattach(["r/s/0/1", "r/s/1/1"]) == {"r/s/0/1", "r/s/1/1"}
        for number, each in enumerate(tasks):
            engine.cancel(f"r/s/{number}/1")
            assert each.wait().outcome == "cancelled"
        assert {each.reports[0].node for each in tasks} == {"local", "n1"}
        assert engine.nodes()[0].free_ordinary_slots == 1
    finally:
        engine.close()


@pytest.mark.slow
def test_a_scheduler_says_what_it_lacks(cluster, tmp_path, capsys):
    assert run_scheduler(["--folder", str(tmp_path / "none")]) == 1
    assert "There is no certificate" in capsys.readouterr().err
    arguments = [
        sys.executable, "-m", "millpond.engine.cluster.scheduler",
        "--folder", str(cluster.root / "cluster"),
        "--authority", str(cluster.authority.path),
        "--host", "127.0.0.1", "--port", str(cluster.port),
    ]  # fmt: skip
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert f"The port {cluster.port} of 127.0.0.1 is taken" in ended.stderr
    cluster.processes["scheduler"].terminate()
    assert cluster.processes["scheduler"].wait(10) == 0
