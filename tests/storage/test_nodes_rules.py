from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.ground.errors import InvalidError
from millpond.storage.nodes import rules
from millpond.storage.nodes.values import COPIES, Pace, Place, Receipt

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=9)
PACE = Pace()
NAMES = [f"n{number}" for number in range(6)]


def place(node, free=1 << 30, *, silent=0.0, is_ok=True, is_draining=False):
    seen_at = NOW - timedelta(seconds=silent)
    return Place(node, f"https://{node}", is_ok, "", is_draining, free, 1 << 40, 1, seen_at)


def receipt(node, objects, age=0):
    return Receipt(node, tuple(objects.items()), int(NOW.timestamp()) - age, "PEM")


places = st.lists(
    st.builds(
        place,
        st.sampled_from(NAMES),
        st.integers(0, 1 << 40),
        silent=st.floats(0, 200),
        is_ok=st.booleans(),
        is_draining=st.booleans(),
    ),
    unique_by=lambda each: each.node,
)


@pytest.mark.parametrize(
    ("silent", "state"), [(0, "up"), (14.9, "up"), (15, "suspect"), (59, "suspect"), (60, "lost")]
)
def test_silence_is_borne_for_a_while(silent, state):
    assert rules.state_of(place("a", silent=silent), NOW, PACE, LONG_AGO) == state


@pytest.mark.parametrize(
    ("silent", "state"), [(14, "up"), (60, "suspect"), (14_399, "suspect"), (14_400, "lost")]
)
def test_a_node_that_is_refused_for_its_version_is_borne_longer(silent, state):
    assert (
        rules.state_of(place("a", silent=silent), NOW, PACE, LONG_AGO, is_other_version=True)
        == state
    )


def test_a_disk_that_is_gone_is_lost_at_once_and_a_deaf_host_proves_nothing():
    assert rules.state_of(place("a", is_ok=False), NOW, PACE, LONG_AGO) == "lost"
    heard_since = NOW - timedelta(seconds=3)
    assert rules.state_of(place("a", silent=7200), NOW, PACE, heard_since) == "up"


@given(places, st.text(min_size=1, max_size=5), st.integers(0, 1 << 40))
def test_only_those_with_room_are_ranked_and_each_once(found, seed, size):
    ranked = rules.rank(seed, found, size=size)
    assert len({each.node for each in ranked}) == len(ranked)
    assert all(e.is_ok and not e.is_draining and e.free_bytes > size for e in ranked)
    assert {e.node for e in ranked} == {
        e.node for e in found if e.is_ok and not e.is_draining and e.free_bytes > size
    }


@given(places, st.text(min_size=1, max_size=5), st.sampled_from(NAMES))
def test_the_order_does_not_depend_on_who_else_is_there(found, seed, gone):
    full = [each.node for each in rules.rank(seed, found)]
    less = [each.node for each in rules.rank(seed, [e for e in found if e.node != gone])]
    assert less == [node for node in full if node != gone]
    assert less == [each.node for each in rules.rank(seed, found, without={gone})]


@given(places, st.text(min_size=1, max_size=5), st.sampled_from(NAMES))
def test_the_node_that_made_the_bytes_comes_first_when_it_has_room(found, seed, caller):
    ranked = [each.node for each in rules.rank(seed, found, first=caller)]
    if caller in ranked:
        assert ranked[0] == caller


def test_shares_follow_the_free_space():
    found = [place("small", 1 << 30), place("large", 3 << 30)]
    firsts = Counter(rules.rank(str(number), found)[0].node for number in range(4000))
    assert 0.70 < firsts["large"] / 4000 < 0.80


@given(
    places, st.dictionaries(st.text("abc", min_size=1, max_size=2), st.sets(st.sampled_from(NAMES)))
)
def test_what_has_a_living_copy_and_too_few_is_copied_fewest_first(found, held):
    found = [replace(each, free_bytes=each.free_bytes + 1) for each in found]
    states = {e.node: rules.state_of(e, NOW, PACE, LONG_AGO) for e in found}
    kept = {e.node for e in found if states[e.node] != "lost" and not e.is_draining}
    holders = {digest: (0, sorted(nodes)) for digest, nodes in held.items()}
    planned = rules.plan_repairs(holders, found, states)
    counts = [len(kept.intersection(held[each.digest])) for each in planned]
    assert counts == sorted(counts)
    for each in planned:
        assert len(kept.intersection(held[each.digest])) < COPIES
        assert each.sources
        assert all(states[node] != "lost" and node in held[each.digest] for node in each.sources)
        assert all(states[n] == "up" and n not in held[each.digest] for n in each.targets)
    living = {node for node, state in states.items() if state != "lost"}
    free = {e.node for e in found if states[e.node] == "up" and not e.is_draining}
    for digest, nodes in held.items():
        should = nodes & living and len(nodes & kept) < COPIES and free - (nodes & living)
        assert bool(should) == any(each.digest == digest for each in planned)


@given(places, st.text("abc", min_size=1, max_size=3), st.sets(st.sampled_from(NAMES)))
def test_surplus_never_leaves_fewer_than_two(found, digest, nodes):
    known = {each.node: each for each in found}
    gone = rules.pick_surplus(digest, sorted(nodes), known)
    held = nodes & known.keys()
    if len(held) <= COPIES:
        assert gone is None
    else:
        assert gone in held
        if any(known[node].is_draining for node in held):
            assert known[gone].is_draining


def test_two_receipts_of_different_nodes_are_enough():
    objects = {"d" * 64: 5}
    good = [receipt("a", objects), receipt("b", objects | {"e" * 64: 9})]
    assert rules.check_receipts(good, objects, now=NOW, living={"a", "b"}) == ["a", "b"]
    assert rules.check_receipts(good[:1], objects, now=NOW, living={"a"}, least=1) == ["a"]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (receipt("a", {"d" * 64: 5}), "has signed another already"),
        (receipt("b", {"d" * 64: 6}), "other bytes"),
        (receipt("b", {"e" * 64: 5}), "other bytes"),
        (receipt("b", {"d" * 64: 5}, age=7200), "7,200 seconds ago"),
        (receipt("b", {"d" * 64: 5}, age=-7200), "ahead"),
        (receipt("c", {"d" * 64: 5}), "is lost since"),
    ],
)
def test_receipts_that_do_not_count_are_named(second, said):
    objects = {"d" * 64: 5}
    with pytest.raises(InvalidError, match="1 of 2 nodes") as told:
        rules.check_receipts([receipt("a", objects), second], objects, now=NOW, living={"a", "b"})
    assert said in told.value.faults[0].message


def test_no_receipts_at_all_are_told():
    with pytest.raises(InvalidError) as told:
        rules.check_receipts([], {"d" * 64: 5}, now=NOW, living={"a", "b"})
    assert told.value.faults


@pytest.mark.parametrize(
    ("key", "is_log"),
    [
        ("runs/r1/t1.log/00000001", True),
        ("x.log/00000000", True),
        ("runs/out/a.log/page", False),
        ("runs/out/a.log/000000012", False),
        ("a.log", False),
        ("objects/abc", False),
    ],
)
def test_chunks_of_logs_are_known_by_their_keys(key, is_log):
    assert rules.is_log(key) is is_log
