"""Who may run without a sandbox, who is next, what an end is called."""

import errno
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.engine import rules
from millpond.engine.rules import Head, Unisolated
from millpond.engine.values import Entry, Grants, Limits, NodeInfo, TaskSpec, log_key, output_key
from millpond.ground.errors import InvalidError, NotAllowedError


def make_task(key: str = "k", **limits: float) -> TaskSpec:
    return TaskSpec(
        key=key,
        user_id="u",
        project_id="p",
        entry=Entry("m:f"),
        output_prefix="o",
        limits=Limits(**{"memory_bytes": 1, **limits}),
    )


def make_node(name: str = "n", slots: float = 4, free: float = 4, **facts: object) -> NodeInfo:
    return NodeInfo(
        name, slots, free, 100, isolated=True, reason="", **{"free_memory_bytes": 100, **facts}
    )


@pytest.mark.parametrize(
    ("facts", "may"),
    [
        (Unisolated(), False),
        (Unisolated(is_loopback=True, accounts=1), True),
        (Unisolated(is_loopback=True, accounts=0), True),
        (Unisolated(is_loopback=True, accounts=2), False),
        (Unisolated(is_loopback=False, accounts=1), False),
        (Unisolated(is_allowed=True, accounts=20), True),
    ],
)
def test_only_a_single_account_on_loopback_runs_without_a_sandbox(
    facts: Unisolated, may: bool
) -> None:
    assert rules.may_run_unisolated(facts) is may
    bare = NodeInfo("n", 1, 1, 1, isolated=False, reason="bubblewrap is not installed")
    if may:
        rules.check_isolation(bare, facts)
    else:
        with pytest.raises(NotAllowedError, match="bubblewrap is not installed") as told:
            rules.check_isolation(bare, facts)
        assert "millpond doctor" in told.value.next_step
        assert "engine.allow_unisolated" in told.value.next_step
    rules.check_isolation(make_node(), facts)


@given(st.text())
def test_a_users_uid_is_steady_and_in_its_range(user: str) -> None:
    uid = rules.choose_uid(user)
    assert rules.UIDS[0] <= uid <= rules.UIDS[1]
    assert uid == rules.choose_uid(user)


@pytest.mark.parametrize(
    ("code", "why", "kills", "outcome", "words"),
    [
        (0, "", 0, "done", ""),
        (0, "", 1, "done", ""),
        (0, "cancelled", 0, "cancelled", "cancelled"),
        (None, "timed_out", 0, "timed_out", "3600 seconds"),
        (-9, "limit", 0, "failed", "too much"),
        (-9, "", 1, "failed", "memory"),
        (None, "", 0, "failed", "went down"),
        (-25, "", 0, "failed", "file longer"),
        (-11, "", 0, "failed", "SIGSEGV"),
        (-60, "", 0, "failed", "60"),
        (3, "", 0, "failed", "exit code 3"),
    ],
)
def test_ends_are_told_in_words(
    code: int | None, why: str, kills: int, outcome: str, words: str
) -> None:
    told = rules.tell_end(code, why, "too much", kills, Limits())
    assert told[0] == outcome
    assert words in told[1]


@pytest.mark.parametrize(
    ("code", "why", "cpu", "fresh"),
    [
        (-11, "", 1.0, True),
        (None, "", 1.0, True),
        (-9, "timed_out", 0.001, True),
        (-9, "timed_out", 5.0, False),
        (-9, "cancelled", 0.0, False),
        (1, "", 0.0, False),
        (0, "", 0.0, False),
    ],
)
def test_what_looks_like_a_fork_gone_wrong(
    code: int | None, why: str, cpu: float, fresh: bool
) -> None:
    assert rules.needs_fresh(code, why, cpu, 10.0) is fresh


def test_every_limit_that_no_node_has_is_named() -> None:
    with pytest.raises(InvalidError) as told:
        rules.check_can_ever_fit(
            make_task(cpu_slots=5, memory_bytes=101, gpus=1), [make_node(), make_node("m", 2)]
        )
    assert [fault.field for fault in told.value.faults] == ["slots", "memory_bytes", "gpus"]
    rules.check_can_ever_fit(make_task(cpu_slots=4, memory_bytes=100), [make_node()])


def test_what_only_several_nodes_have_together_is_refused() -> None:
    wide, carded = make_node("wide", 8), make_node("carded", 2, gpus=2)
    rules.check_can_ever_fit(make_task(cpu_slots=8), [wide, carded])
    rules.check_can_ever_fit(make_task(cpu_slots=2, gpus=2), [wide, carded])
    with pytest.raises(InvalidError, match=r"No one node has all .* 8 slots, .* 1 graphics"):
        rules.check_can_ever_fit(make_task(cpu_slots=8, gpus=1), [wide, carded])


def test_processors_of_a_host_that_takes_no_tasks_of_steps_do_not_count() -> None:
    host = make_node("host", is_host=True, ordinary_slots=0, gpus=4)
    with pytest.raises(InvalidError, match="gpus asks for 1, and the largest node has 0"):
        rules.check_can_ever_fit(make_task(gpus=1), [host, make_node("n1")])


def test_every_limit_above_its_cap_is_named() -> None:
    caps = Limits(memory_bytes=100, disk_bytes=10, seconds=60)
    with pytest.raises(InvalidError) as told:
        rules.check_caps(make_task(memory_bytes=101, disk_bytes=11, seconds=61), caps)
    fields = [fault.field for fault in told.value.faults]
    assert fields == ["memory_bytes", "disk_bytes", "seconds"]
    assert "engine.task_*" in told.value.next_step
    rules.check_caps(make_task(memory_bytes=100, disk_bytes=10, seconds=60), caps)


def test_projects_take_turns_and_users_within_them() -> None:
    heads = [Head(p, u, make_task(), 0, n) for n, (p, u) in enumerate(["aa", "ab", "ba"])]
    served: dict[str, int] = {}
    order = []
    for moment in range(1, 7):
        choice = rules.choose_next(heads, [make_node()], served)
        assert choice is not None
        head = choice[0]
        order.append(head.project + head.user)
        served[head.project] = served[f"{head.project}/{head.user}"] = moment
    assert order == ["aa", "ba", "ab", "ba", "aa", "ba"]


def test_a_large_task_is_passed_over_only_so_often() -> None:
    large = Head("a", "a", make_task(cpu_slots=4), rules.PASSES_MOST, 1)
    small = Head("b", "b", make_task(cpu_slots=1), 0, 2)
    assert rules.choose_next([large, small], [make_node(free=3)], {}) is None
    patient = Head("a", "a", make_task(cpu_slots=4), rules.PASSES_MOST - 1, 1)
    choice = rules.choose_next([patient, small], [make_node(free=3)], {})
    assert choice is not None
    assert choice[0] is small


def test_a_large_task_goes_where_it_leaves_least() -> None:
    nodes = [make_node("a", free=4), make_node("b", free=2), make_node("c", free=1)]
    chosen = rules.choose_node(make_task(cpu_slots=2), nodes)
    assert chosen is not None
    assert chosen.name == "b"


def names_of(tasks: int, nodes: list[NodeInfo], held: dict[str, int] | None = None) -> list[str]:
    """Place small tasks one after the other, as the dispatcher does."""
    chosen = []
    for _ in range(tasks):
        node = rules.choose_node(make_task(cpu_slots=1), nodes, held)
        assert node is not None
        chosen.append(node.name)
        nodes = [
            replace(each, free_slots=each.free_slots - (each.name == node.name)) for each in nodes
        ]
    return chosen


def test_small_tasks_spread_over_the_nodes() -> None:
    nodes = [make_node(name) for name in "abc"]
    assert names_of(6, nodes) == ["a", "b", "c", "a", "b", "c"]


def test_the_host_is_the_last_choice() -> None:
    nodes = [make_node("local", is_host=True), make_node("z", free=1)]
    assert names_of(2, nodes) == ["z", "local"]


def test_a_task_goes_where_its_data_is_while_there_is_room() -> None:
    nodes = [make_node("a"), make_node("b", free=2)]
    assert names_of(3, nodes, {"b": 1 << 30}) == ["b", "b", "a"]
    assert names_of(1, nodes, {"b": rules.NEAR_BYTES}) == ["a"]


def test_a_gateway_is_only_on_the_host_and_the_rest_keeps_to_its_share() -> None:
    gateway = replace(make_task(), grants=Grants(gateway="/somewhere"))
    host = make_node("local", is_host=True, ordinary_slots=1, free_ordinary_slots=0)
    node = make_node("n1")
    assert rules.choose_node(gateway, [node, host]) is host
    assert not rules.fits(gateway, node)
    assert not rules.fits(make_task(), host)
    assert rules.fits(make_task(), replace(host, free_ordinary_slots=1))
    small = make_node("small", 1, 1)
    with pytest.raises(InvalidError, match="largest node has 1"):
        rules.check_can_ever_fit(make_task(cpu_slots=2), [host, small])
    # Without any node, as when the scheduler is started anew, the task waits for them.
    rules.check_can_ever_fit(make_task(cpu_slots=2), [host])
    with pytest.raises(InvalidError, match="own machine only"):
        rules.check_can_ever_fit(gateway, [node])


def test_why_nothing_starts_is_told() -> None:
    assert rules.tell_waiting([]) == "No node is joined."
    busy, hot = make_node("a", free=0), make_node("b", paused="its load is 9")
    assert rules.tell_waiting([busy, hot]) == ""
    told = rules.tell_waiting([hot, make_node("c", is_draining=True)])
    assert told == "Every node is held back. b: its load is 9; c: it drains"


@pytest.mark.parametrize(
    "facts", [{"is_draining": True}, {"free_memory_bytes": 0}, {"free": 0.5}, {"paused": "hot"}]
)
def test_what_does_not_fit(facts: dict[str, object]) -> None:
    assert not rules.fits(make_task(), make_node(**facts))


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=1, max_size=300))
def test_one_path_has_one_key_and_every_key_is_sound(one: bytes, two: bytes) -> None:
    first, second = (
        output_key("p/k", raw.decode("utf-8", "surrogateescape")) for raw in (one, two)
    )
    assert (first == second) == (one == two)
    assert first.isascii()
    assert first.isprintable()
    assert " " not in first


def test_keys_are_readable_where_they_can_be() -> None:
    assert output_key("p/1", "tables/a.csv") == "p/1/tables/a.csv"
    assert output_key("p/1/", "a b") == "p/1/a=20b"
    assert output_key("p/1", "x" * 201).startswith("p/1/=long/")
    assert log_key("p/1", 3) == "p/1.log/00000003"


def test_a_spec_goes_through_json_and_never_shows_its_secrets() -> None:
    task = TaskSpec(**{**vars(make_task()), "secrets": {"KEY": "hush-hush"}, "preload": ("numpy",)})
    assert TaskSpec.from_json(task.to_json()) == task
    assert "hush-hush" not in repr(task)


def test_a_full_disk_is_told_with_what_to_do() -> None:
    fault = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    words = ("scratch_folder", "free space", "millpond doctor", "start the run again")
    for told in (
        rules.tell_fault(fault, "never said"),
        rules.tell_fault(RuntimeError(f"mkdir: {fault}"), "never said"),
        rules.tell_end(1, "", "", 0, Limits(), f"OSError: {fault}")[1],
    ):
        assert all(word in told for word in words), told
        assert "never said" not in told
    assert "/tmp and /dev/shm are no larger than its memory" in told
    assert rules.tell_fault(OSError(errno.EIO, "Input/output error"), "Said.") == "Said."
    assert "scratch_folder" not in rules.tell_end(1, "", "", 0, Limits(), "ValueError: x")[1]
