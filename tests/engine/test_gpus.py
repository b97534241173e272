"""Graphics processors, with device files of our own in the place of a driver's.

No machine of ours has one: what the driver and CUDA make of these files is not tested here.
"""

import os
import shutil
import stat
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest

from millpond.engine.ahead import Ahead
from millpond.engine.cluster.books import NodeLimits
from millpond.engine.dispatch import Dispatcher
from millpond.engine.gpus import Gpu, GpuPlaces, Gpus
from millpond.engine.local import LocalEngine
from millpond.engine.rules import Head, Unisolated
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Entry, Limits, NodeInfo, StagedInput, TaskReport
from millpond.ground.errors import BusyError, InvalidError

CONTRACTS = str(Path(__file__).parents[1] / "contracts")
sys.path.insert(0, CONTRACTS)
try:
    from cluster_rig import Cluster
    from test_engine import Bench, Running, run, wait_until
finally:
    sys.path.remove(CONTRACTS)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes device files, as root only can")
CHARACTER = stat.S_IFCHR
NULL, ZERO, FULL = os.makedev(1, 3), os.makedev(1, 5), os.makedev(1, 7)

CODE = b"""
import os, resource, sys, time
from pathlib import Path

def can_open(path):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as fault:
        return fault.strerror
    return True

def look(wait=0.0, code=0):
    found = [each for each in os.listdir("/dev") if each.startswith("nvidia") or each == "kfd"]
    found += ["dri/" + each for each in os.listdir("/dev/dri")] if os.path.isdir("/dev/dri") else []
    if wait:
        os.write(int(os.environ["MILLPOND_PROGRESS_FD"]), b'{"message": "began"}\\n')
        time.sleep(wait)
    try:
        Path("/sys/bus/mine").touch()
        can_write = True
    except OSError:
        can_write = False
    if code:
        sys.exit(code)
    return {
        "seen": {each: [os.stat("/dev/" + each).st_rdev, can_open("/dev/" + each)] for each in found},
        "visible": os.environ["CUDA_VISIBLE_DEVICES"],
        "hip": os.environ.get("HIP_VISIBLE_DEVICES"),
        "order": os.environ.get("CUDA_DEVICE_ORDER"),
        "system": sorted(os.listdir("/sys")) if os.path.isdir("/sys") else [],
        "can_write": can_write,
        "addresses": resource.getrlimit(resource.RLIMIT_AS)[0],
        "parent": os.getppid(),
        "started": Path("/proc/%d/stat" % os.getppid()).read_text().split()[21],
    }
"""

INFORMATION = """Model: \t\t Big Card 9000
IRQ:   \t\t 209
GPU UUID: \t {uuid}
Bus Type: \t PCIe
Bus Location: \t {bus}
Device Minor: \t {minor}
GPU Excluded:\t {excluded}
"""


class Rack:
    """A folder of device files, with what a driver tells of them."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.places = GpuPlaces(
            folder / "dev", folder / "proc", folder / "topology", str(folder / "modprobe")
        )
        for each in (self.places.devices, self.places.nvidia):
            each.mkdir()

    def file(self, name: str, number: int = NULL, mode: int = 0o666, gid: int = 0) -> None:
        path = self.places.devices / name
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, CHARACTER | mode, number)
        path.chmod(mode)
        os.chown(path, 0, gid)

    def tell(self, bus: str, minor: int, uuid: str, excluded: str = "No") -> None:
        facts = self.places.nvidia / bus
        facts.mkdir()
        told = INFORMATION.format(uuid=uuid, bus=bus, minor=minor, excluded=excluded)
        (facts / "information").write_text(told)

    def tell_amd(self, node: int, minor: int, units: int) -> None:
        facts = self.places.amd / str(node)
        facts.mkdir(parents=True)
        told = f"cpu_cores_count 0\nsimd_count {units}\ndrm_render_minor {minor}\n"
        (facts / "properties").write_text(told)

    def fill(self, count: int = 2) -> None:
        """Put cards of NVIDIA in."""
        for minor in range(count):
            self.file(f"nvidia{minor}", (NULL, ZERO, FULL)[minor])
            self.tell(f"0000:0{minor + 1}:00.0", minor, f"GPU-0000000{minor}-aaaa")
        for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"):
            self.file(name, FULL)


@pytest.fixture
def rack():
    """Lies where every uid can walk to, as /dev does."""
    folder = Path(tempfile.mkdtemp(prefix="gpus-", dir="/tmp"))
    try:
        yield Rack(folder)
    finally:
        shutil.rmtree(folder)


class GpuBench(Bench):
    """An engine over device files, and tasks that tell what they see."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.store.put("code/looks.py", CODE)
        self.code += (StagedInput("looks.py", "object:code/looks.py", len(CODE)),)

    def open(self, rack: Rack, **facts) -> LocalEngine:
        return LocalEngine(
            ObjectTransfer(self.store),
            self.root / "scratch",
            slots=4,
            memory_bytes=4 << 30,
            gpu_places=rack.places,
            **facts,
        )

    def look(self, gpus: int, *, seconds: float = 60.0, **facts):
        arguments = {name: facts.pop(name) for name in ("wait", "code") if name in facts}
        limits = Limits(gpus=gpus, seconds=seconds, memory_bytes=256 << 20, cpu_slots=0.5)
        entry = Entry("looks:look", arguments)
        return self.spec(**{"preload": ("looks",), "entry": entry, "limits": limits, **facts})


@pytest.fixture
def bench(tmp_path):
    return GpuBench(tmp_path)


@pytest.fixture
def engine(bench, rack):
    """Give an engine with two processors."""
    rack.fill()
    made = bench.open(rack)
    try:
        yield made
    finally:
        made.close()


def found(report: TaskReport):
    assert report.outcome == "done", report.reason
    return report.result


# What is found.


@needs_root
def test_those_are_found_that_the_driver_knows_and_that_have_a_file(rack, caplog):
    rack.tell("0000:81:00.0", 0, "GPU-11111111-aaaa")
    rack.tell("0000:01:00.0", 1, "GPU-????????-????")
    rack.tell("0000:41:00.0", 2, "GPU-22222222-bbbb")
    rack.tell("0000:61:00.0", 3, "GPU-33333333-cccc", excluded="Yes")
    for minor in (0, 1, 3, 7):
        rack.file(f"nvidia{minor}")
    (rack.places.devices / "nvidia2").touch()
    gpus = Gpus(rack.places)
    assert gpus.all == (
        Gpu("nvidia", "nvidia1", 0, ""),
        Gpu("nvidia", "nvidia0", 2, "GPU-11111111-aaaa"),
    )
    assert "no device file" in caplog.text
    assert "nvidia2" in caplog.text
    assert Gpus(rack.places, most=1).all == gpus.all[:1]
    assert Gpus(rack.places, most=0).all == ()


def test_a_machine_without_a_driver_has_none(rack):
    assert Gpus(rack.places).all == ()
    assert Gpus(GpuPlaces(*[Path("/nowhere")] * 3)).all == ()
    assert Gpus(rack.places).give((), is_isolated=True).variables == {"CUDA_VISIBLE_DEVICES": ""}


@needs_root
def test_files_that_the_driver_leaves_to_be_made_are_made(rack):
    rack.tell("0000:01:00.0", 0, "GPU-11111111-aaaa")
    program, folder = Path(rack.places.modprobe), rack.places.devices
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/orders\n'
        f'[ "$1" = -u ] && mknod {folder}/nvidia-uvm c 1 3 || mknod {folder}/nvidia0 c 1 3\n'
    )
    program.chmod(0o755)
    assert len(Gpus(rack.places).all) == 1
    assert (folder / "orders").read_text() == "-c=0\n-u -c=0\n"
    assert len(Gpus(rack.places).all) == 1
    assert (folder / "orders").read_text() == "-c=0\n-u -c=0\n"


@needs_root
def test_of_two_makers_the_first_counts(rack):
    rack.file("kfd")
    rack.tell_amd(0, 0, 0)
    for node, minor in ((1, 129), (2, 128), (10, 130)):
        rack.tell_amd(node, minor, 256)
        if minor != 128:
            rack.file(f"dri/renderD{minor}")
    amd = Gpus(rack.places)
    assert amd.all == (Gpu("amd", "dri/renderD129", 0), Gpu("amd", "dri/renderD130", 2))
    rack.fill(1)
    assert [each.maker for each in Gpus(rack.places).all] == ["nvidia"]


@needs_root
def test_without_a_sandbox_they_are_named_as_the_whole_machine_counts_them(rack):
    rack.fill(2)
    gpus = Gpus(rack.places)
    second = gpus.give(gpus.all[1:], is_isolated=False)
    assert second.arguments == ()
    assert second.variables == {
        "CUDA_VISIBLE_DEVICES": "GPU-00000001-aaaa",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    nameless = (Gpu("nvidia", "nvidia1", 5),)
    assert gpus.give(nameless, is_isolated=False).variables["CUDA_VISIBLE_DEVICES"] == "5"
    with pytest.raises(ValueError, match="1 are free"):
        gpus.choose(2, gpus.all[:1])


# What a task sees.


@needs_root
def test_a_task_sees_and_opens_its_own_and_no_other(bench, engine):
    report = found(run(engine, bench.look(1)))
    assert report["seen"] == {
        "nvidia0": [NULL, True],
        "nvidiactl": [FULL, True],
        "nvidia-uvm": [FULL, True],
        "nvidia-uvm-tools": [FULL, True],
    }
    assert (report["visible"], report["order"]) == ("0", "PCI_BUS_ID")
    assert {"bus", "devices", "module"} <= set(report["system"])
    assert not {"fs", "firmware", "kernel"} & set(report["system"])
    assert not report["can_write"]


@needs_root
def test_who_asked_for_none_sees_none(bench, engine):
    report = found(run(engine, bench.look(0)))
    assert (report["seen"], report["visible"], report["system"]) == ({}, "", [])


@needs_root
def test_two_at_once_have_one_each_and_count_it_as_the_first(bench, engine):
    first = Running(engine, bench.look(1, wait=60))
    first.wait_began()
    assert (engine.nodes()[0].gpus, engine.nodes()[0].free_gpus) == (2, 1)
    second = found(run(engine, bench.look(1)))
    assert second["seen"]["nvidia1"] == [ZERO, True]
    assert "nvidia0" not in second["seen"]
    assert second["visible"] == "0"
    with pytest.raises(BusyError):
        Running(engine, bench.look(2))
    engine.cancel(first.spec.key)
    assert first.report().outcome == "cancelled"
    both = found(run(engine, bench.look(2)))
    assert {"nvidia0", "nvidia1"} <= set(both["seen"])
    assert both["visible"] == "0,1"


@needs_root
def test_those_are_free_again_whatever_became_of_the_task(bench, engine):
    ends = {
        "failed": bench.look(2, code=3),
        "timed_out": bench.look(2, wait=60, seconds=0.5),
        "lost": bench.look(2, environment="/usr"),
    }
    for outcome, task in ends.items():
        assert run(engine, task).outcome == outcome
        assert engine.nodes()[0].free_gpus == 2
    missing = (StagedInput("data/b", "object:in/nowhere", 8),)
    assert run(engine, bench.look(2, inputs=missing)).outcome == "lost"
    cancelled = Running(engine, bench.look(2, wait=60))
    cancelled.wait_began()
    assert engine.nodes()[0].free_gpus == 0
    engine.cancel(cancelled.spec.key)
    assert cancelled.report().outcome == "cancelled"
    assert engine.nodes()[0].free_gpus == 2


@needs_root
def test_more_than_there_are_is_refused_in_plain_words(bench, engine):
    with pytest.raises(InvalidError, match="gpus asks for 3, and the largest node has 2") as told:
        Running(engine, bench.look(3))
    assert [fault.field for fault in told.value.faults] == ["gpus"]


@needs_root
def test_no_more_are_given_away_than_was_allowed(bench, rack):
    rack.fill(3)
    engine = bench.open(rack, gpus=1)
    try:
        assert (engine.nodes()[0].gpus, engine.nodes()[0].free_gpus) == (1, 1)
        with pytest.raises(InvalidError, match="largest node has 1"):
            Running(engine, bench.look(2))
        assert "nvidia0" in found(run(engine, bench.look(1)))["seen"]
    finally:
        engine.close()


@needs_root
def test_a_warm_sandbox_serves_the_same_card_again_and_leaves_it_to_another(bench, engine):
    def whose(report):
        return report["parent"], report["started"]

    first = found(run(engine, bench.look(1)))
    assert whose(found(run(engine, bench.look(1)))) == whose(first)
    holder = Running(engine, bench.look(1, wait=60, user_id="user_2"))
    holder.wait_began()
    assert len(engine._shelf) == 0  # What was warm on that card has ended.
    other = found(run(engine, bench.look(1)))
    assert "nvidia1" in other["seen"]
    assert "nvidia0" not in other["seen"]
    engine.cancel(holder.spec.key)
    assert holder.report().outcome == "cancelled"
    again = found(run(engine, bench.look(1)))
    assert "nvidia0" in again["seen"]
    assert "nvidia1" not in again["seen"]


@needs_root
def test_without_a_sandbox_a_variable_tells_which(bench, rack):
    rack.fill()
    engine = bench.open(rack, isolate=False, unisolated=lambda: Unisolated(is_allowed=True))
    try:
        holder = Running(engine, bench.look(1, wait=60))
        holder.wait_began()
        assert found(run(engine, bench.look(1)))["visible"] == "GPU-00000001-aaaa"
        assert found(run(engine, bench.look(0)))["visible"] == ""
    finally:
        engine.close()


@needs_root
def test_without_control_groups_the_addresses_that_cuda_reserves_are_not_limited(
    bench, rack, monkeypatch
):
    rack.fill()
    monkeypatch.setattr("millpond.engine.probe.find_groups", lambda: (None, "none are here"))
    engine = bench.open(rack)
    try:
        assert 256 << 20 <= found(run(engine, bench.look(0)))["addresses"] < 1 << 30
        assert found(run(engine, bench.look(1)))["addresses"] == -1
    finally:
        engine.close()


@needs_root
def test_a_card_of_amd_is_opened_through_its_group(bench, rack):
    rack.file("kfd", FULL, 0o660, 4242)
    for node, minor in ((1, 128), (2, 129)):
        rack.file(f"dri/renderD{minor}", (NULL, ZERO)[minor - 128], 0o660, 4242)
        rack.tell_amd(node, minor, 256)
    engine = bench.open(rack)
    try:
        holder = Running(engine, bench.look(1, wait=60))
        holder.wait_began()
        report = found(run(engine, bench.look(1)))
        assert report["seen"] == {"kfd": [FULL, True], "dri/renderD129": [ZERO, True]}
        assert (report["visible"], report["hip"], report["order"]) == ("0", "0", None)
        assert found(run(engine, bench.look(0)))["seen"] == {}
    finally:
        engine.close()


def test_where_an_empty_variable_would_mean_all_it_says_none():
    amd = Gpus.__new__(Gpus)
    amd.all = (Gpu("amd", "dri/renderD128", 0),)
    assert amd.give((), is_isolated=False).variables["HIP_VISIBLE_DEVICES"] == "-1"
    assert "HIP_VISIBLE_DEVICES" not in amd.give((), is_isolated=True).variables


# The queue.


@needs_root
def test_a_third_task_waits_in_the_queue_until_a_card_is_free(bench, engine):
    dispatcher = Dispatcher(engine)
    reports: list[TaskReport] = []
    try:
        for _ in range(5):
            task = bench.look(1, wait=0.2)
            dispatcher.submit(task, "project_1/user_1", lambda _news: None, reports.append)
        assert wait_until(lambda: len(reports) == 5, 60)
    finally:
        dispatcher.close()
    held: dict[str, list[tuple[float, float]]] = {}
    for report in reports:
        card, *others = {"nvidia0", "nvidia1"} & set(found(report)["seen"])
        assert not others
        began = report.started_at.timestamp()
        held.setdefault(card, []).append((began, began + report.wall_seconds))
    assert len(held) == 2
    for times in map(sorted, held.values()):
        assert all(before[1] <= after[0] for before, after in pairwise(times))


def test_a_task_with_a_card_never_waits_in_the_slot_of_another(bench):
    node = NodeInfo(
        "n1",
        4,
        0,
        1 << 40,
        isolated=True,
        reason="",
        free_memory_bytes=1 << 40,
        gpus=2,
        free_gpus=2,
        takes_ahead=True,
    )
    ahead = Ahead()
    done = TaskReport("run/step/0/1", "done", 0, "", None, "n1", isolated=True, wall_seconds=1)
    for number in range(2):
        task = bench.look(0, key=f"run/step/{number}/1")
        ahead.begin(task, "n1", waits=False)
    ahead.end(done)
    plain, carded = (bench.look(gpus, key="run/step/2/1") for gpus in (0, 1))
    assert ahead.choose([Head("p", "u", carded, 0, 0)], [node], {}) is None
    assert ahead.choose([Head("p", "u", plain, 0, 0)], [node], {}) is not None


# Nodes.


@needs_root
@pytest.mark.slow
def test_a_node_gives_what_its_own_engine_has_up_to_what_the_host_allows(tmp_path, rack):
    rack.fill(3)
    cluster = Cluster(tmp_path)
    bench = GpuBench(tmp_path / "bench")
    try:
        cluster.start_scheduler()
        places = rack.places
        cluster.start_node("n1", 2, gpus=f"{places.devices}:{places.nvidia}:{places.amd}")
        cluster.start_node("n2", 2)
        engine = cluster.make_engine(2, limits=lambda _name: NodeLimits(gpus=2))
        try:
            assert [(each.gpus, each.free_gpus) for each in engine.nodes()] == [(2, 2), (0, 0)]
            holder = Running(engine, bench.look(2, wait=60))
            holder.wait_began()
            assert engine.nodes()[0].free_gpus == 0
            with pytest.raises(BusyError):
                Running(engine, bench.look(1))
            with pytest.raises(InvalidError, match="gpus asks for 3, and the largest node has 2"):
                Running(engine, bench.look(3))
            engine.cancel(holder.spec.key)
            assert holder.report().outcome == "cancelled"
            report = run(engine, bench.look(2))
            assert report.node == "n1"
            assert {"nvidia0", "nvidia1"} <= set(found(report)["seen"])
            assert "nvidia2" not in found(report)["seen"]
        finally:
            engine.close()
    finally:
        cluster.close()
