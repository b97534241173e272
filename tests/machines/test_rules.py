"""Names, versions, clocks, figures, states and guards: decided without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machines.conftest import FACTS, METERS

from millpond.ground.errors import ConflictError, InvalidError
from millpond.ground.room_settings import ClusterSettings
from millpond.machines import rules
from millpond.machines.findings import findings_of, scheduler_finding
from millpond.machines.guards import guard_reasons, read_meters
from millpond.machines.port import MachineOrder
from millpond.machines.requests import read_labels
from millpond.machines.values import DiskUse, Meters, Node, StoreState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMITS = ClusterSettings()


@pytest.mark.parametrize("name", ["a", "owl", "worker-1", "1", "a" * 40])
def test_names_that_host_names_can_hold_are_good(name: str) -> None:
    assert rules.faults_of_name(name) == []


@pytest.mark.parametrize(
    "name", ["", "Owl", "owl_1", "-owl", "owl-", "a.b", "a" * 41, "ö", "owl\n", "add", "local"]
)
def test_other_names_are_refused(name: str) -> None:
    assert rules.faults_of_name(name)


@given(st.text(max_size=80))
def test_a_name_made_of_a_machines_own_is_good_or_empty(text: str) -> None:
    made = rules.name_of(text)
    assert not made or not [
        fault for fault in rules.faults_of_name(made) if "kept" not in fault.message
    ]


def test_names_are_made_of_host_names_and_of_addresses() -> None:
    assert rules.name_of("Worker_1.lab.example") == "worker-1"
    assert rules.name_of("192.0.2.7") == "192-0-2-7"


@pytest.mark.parametrize(
    ("address", "is_good"),
    [
        ("owl.lab.example", True),
        ("192.0.2.7", True),
        ("fd00::7", True),
        ("::1", True),
        ("-oProxyCommand=x", False),
        ("user@owl", False),
        ("192.0.2.7:22", False),
        ("owl:22", False),
        ("owl;reboot", False),
        ("owl owl", False),
        ("", False),
    ],
)
def test_an_address_is_never_an_option_of_a_program(address: str, is_good: bool) -> None:
    assert (rules.faults_of_address(address) == []) is is_good


def test_labels_are_few_and_short() -> None:
    assert rules.faults_of_labels({"room": "cellar", "gpu/kind": "A100 80 GB"}) == []
    assert rules.faults_of_labels({"Room": "x"})
    assert rules.faults_of_labels({"room": "a\nb"})
    assert rules.faults_of_labels({"room": "x" * 81})
    assert rules.faults_of_labels({f"k{n}": "" for n in range(21)})


def test_labels_of_a_form_stand_one_a_line() -> None:
    assert read_labels("room = cellar\n\n lake=a=b ") == {"room": "cellar", "lake": "a=b"}
    with pytest.raises(InvalidError, match="cannot be read"):
        read_labels("room")


def test_a_token_ends_with_the_fingerprint() -> None:
    end = rules.end_of_token("0123456789ABCDEF" * 4)
    assert rules.fingerprint_in(f"mpj_a-b_c.{end.lower()}\n") == "0123456789ABCDEF"
    for wrong in ("", "mpj_abc", "mp_abc." + end, f"mpj_abc.{end[:-1]}", f"mpj_abc.{end}0"):
        assert rules.fingerprint_in(wrong) == ""


def test_the_version_must_be_the_very_same() -> None:
    rules.check_version("owl", "1.0", "1.0", is_node=True)
    with pytest.raises(ConflictError) as node:
        rules.check_version("owl", "0.9", "1.0", is_node=True)
    assert "millpond node upgrade owl" in node.value.next_step
    with pytest.raises(ConflictError) as machine:
        rules.check_version("owl", "1.1", "1.0", is_node=False)
    assert "pip install millpond==1.0" in machine.value.next_step


def test_other_code_of_the_same_number_is_another_version() -> None:
    with pytest.raises(ConflictError, match=r"1\.0\+aa, and the server runs 1\.0\+bb") as node:
        rules.check_version("owl", "1.0+aa", "1.0+bb", is_node=True)
    assert "millpond node upgrade owl" in node.value.next_step
    with pytest.raises(ConflictError) as machine:
        rules.check_version("owl", "1.0+aa", "1.0+bb", is_node=False)
    assert "pip install" not in machine.value.next_step  # An index knows the number alone.
    with pytest.raises(ConflictError) as machine:
        rules.check_version("owl", "0.9+aa", "1.0+bb", is_node=False)
    assert "`pip install millpond==1.0`" in machine.value.next_step


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, ""),
        (60, ""),
        (-60, ""),
        (61, "61 s ahead of"),
        (-3600, "60 min behind"),
        (86_400, "24 h ahead of"),
    ],
)
def test_a_clock_may_differ_by_a_minute(seconds: float, said: str) -> None:
    faults = rules.faults_of_clock(NOW + timedelta(seconds=seconds), NOW)
    assert (said in faults[0].message) if said else not faults


@pytest.mark.parametrize(
    ("version", "is_good"),
    [("3.11.2", True), ("3.14.0rc1", True), ("4.0", True), ("3.10.9", False), ("", False)],
)
def test_python_is_new_enough(version: str, is_good: bool) -> None:
    assert (rules.faults_of_python(version) == []) is is_good


@pytest.mark.parametrize(
    "lie",
    [
        {"slots": 17},
        {"slots": -1},
        {"slots": 1e9, "cores": 1e9},
        {"cores": 0},
        {"memory_bytes": 0},
        {"memory_bytes": 1 << 60},
        {"gpus": -1},
        {"gpus": 1000},
        {"address": ""},
        {"data_port": 70_000},
    ],
)
def test_figures_that_cannot_be_are_refused(lie: dict[str, Any]) -> None:
    assert rules.faults_of_facts(FACTS) == []
    assert rules.faults_of_facts(replace(FACTS, **lie))


@pytest.mark.parametrize(
    ("stage", "is_draining", "silent", "told", "state"),
    [
        ("joining", False, None, "joining", "joining"),
        ("joining", False, 1000.0, "joining", "joining"),
        ("joined", False, 0.0, "up", "up"),
        ("joined", True, 0.0, "up", "draining"),
        ("joined", False, 15.0, "up", "up"),
        ("joined", False, 15.1, "up", "suspect"),
        ("joined", True, 60.1, "up", "lost"),
        ("joined", False, None, "up", "up"),
        ("joined", False, None, "suspect", "suspect"),
        ("joined", False, None, "lost", "lost"),
        ("joined", False, 0.0, "lost", "up"),
        ("removed", True, 0.0, "up", "removed"),
    ],
)
def test_the_state_of_a_node(
    stage: str,
    is_draining: bool,
    silent: float | None,
    told: str,
    state: str,
) -> None:
    found = rules.state_of(
        stage, is_draining=is_draining, silent_seconds=silent, told=told, limits=LIMITS
    )
    assert found == state


# Guards ------------------------------------------------------------------------------------------


def meters(**more: Any) -> Meters:
    given: dict[str, Any] = {
        "load": 4.0,
        "cores": 4.0,
        "memory_total_bytes": 1000,
        "memory_used_bytes": 500,
        "disks": (DiskUse("/", 1000, 500), DiskUse("/data", 1000, 500)),
    }
    return Meters(**(given | more))


def test_a_guard_names_each_reason_with_its_figures() -> None:
    assert guard_reasons(meters(), LIMITS) == []
    full = meters(
        load=36.8, memory_used_bytes=970, disks=(DiskUse("/", 1000, 20), DiskUse("/data", 1000, 99))
    )
    assert [(each.kind, each.text) for each in guard_reasons(full, LIMITS)] == [
        ("load", "load 9.2 per core is above 2.0"),
        ("memory", "free memory, 3 %, is below 5 %"),
        ("disk", "free space of the disk at /, 2 %, is below 10 %"),
        ("disk", "free space of the disk at /data, 9.9 %, is below 10 %"),
    ]


@given(
    st.floats(0, 100),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_what_holds_a_free_node_holds_a_held_one_as_well(
    load: float, memory: int, disk: int
) -> None:
    seen = meters(load=load, memory_used_bytes=memory, disks=(DiskUse("/", 1000, disk),))
    free, held = guard_reasons(seen, LIMITS), guard_reasons(seen, LIMITS, is_paused=True)
    assert len(held) >= len(free)
    assert not held or seen.load > 6.3 or memory > 937 or disk < 126


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*METERS, "total", "free", "mount"]), inner, max_size=5
            )
        ),
        max_leaves=10,
    )
)
def test_whatever_a_node_sends_as_figures_is_read(sample: Any) -> None:
    if isinstance(sample, dict):
        found = read_meters(sample)
        assert found is None or guard_reasons(found, LIMITS) is not None


# Findings ----------------------------------------------------------------------------------------


def node(**more: Any) -> Node:
    given: dict[str, Any] = {
        "name": "owl",
        "state": "up",
        "address": "192.0.2.7",
        "version": "1.0",
        "slots": 4.0,
        "slots_most": 4,
        "gpus": 0,
        "gpus_most": -1,
        "slots_used": 1.0,
        "labels": {},
        "price_per_hour": 0.0,
        "paused": "",
        "refused": "",
        "is_draining": False,
        "facts": FACTS,
        "meters": meters(),
        "store": StoreState(is_ok=True),
        "running": ["r/s/0/1"],
        "serial": "AB",
        "certificate_expires_at": NOW + timedelta(days=300),
        "source": "",
        "host_key": "",
        "joined_at": NOW,
        "seen_at": NOW - timedelta(seconds=90),
        "removed_at": None,
    }
    return Node(**(given | more))


@pytest.mark.parametrize(
    ("more", "state", "said"),
    [
        ({}, "ok", "1 of 4 slots taken"),
        ({"state": "lost"}, "fault", "nothing was heard of it for 90 s"),
        ({"state": "suspect"}, "warning", "suspect"),
        ({"state": "joining"}, "warning", "never heard of"),
        ({"paused": "load 9.2"}, "warning", "gets no new tasks: load 9.2"),
        ({"refused": "Its clock is off."}, "fault", "clock is off"),
        ({"version": "0.9"}, "fault", "0.9"),
        ({"certificate_expires_at": NOW + timedelta(days=20)}, "warning", "ends at 2026-05-21"),
        ({"certificate_expires_at": NOW}, "fault", "ends at"),
        ({"facts": replace(FACTS, isolated=False)}, "warning", "without isolation"),
        ({"facts": replace(FACTS, slots=9)}, "warning", "tells 9 slots; 4 are taken"),
        ({"store": StoreState(reason="I/O error")}, "fault", "I/O error"),
    ],
)
def test_what_is_wrong_is_found_with_how_to_mend_it(
    more: dict[str, Any], state: str, said: str
) -> None:
    [found] = findings_of(node(**more), "1.0", NOW)
    assert (found.name, found.state) == ("node owl", state)
    assert said in found.meaning
    assert found.next_step or state == "ok" or "refused" in more


def test_a_scheduler_that_does_not_answer_is_a_fault() -> None:
    assert scheduler_finding("", Path("/d")).state == "ok"
    found = scheduler_finding("The scheduler does not answer.", Path("/d"))
    assert found.state == "fault"
    assert "--folder /d/cluster" in found.next_step


def test_an_order_is_read_back_as_it_was_written() -> None:
    order = MachineOrder("ssh", "add", "machine_1", "owl", "192.0.2.7", labels={"a": "b"})
    assert MachineOrder.from_json(order.to_json()) == order
