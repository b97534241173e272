from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.ground.errors import InvalidError
from millpond.jobs.rules import (
    LOOKS,
    Watch,
    check_job,
    check_schedule,
    newest_tick,
    next_tick,
    retry_seconds,
)
from millpond.jobs.values import FACTS_BYTES, SeenLease

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LEASE = 30.0


def seen(beats=0, fence=1, until=NOON):
    return SeenLease("job_a", fence, beats, LEASE, until)


def looks(watch, times, lease, now=NOON + timedelta(hours=1)):
    return [bool(watch.look([lease], now, moment)) for moment in times]


def test_job_with_every_fault_lists_every_fault():
    with pytest.raises(InvalidError) as caught:
        check_job("", {"a": "x" * FACTS_BYTES}, "", 5000, 0)
    assert [f.field for f in caught.value.faults] == [
        "kind",
        "facts",
        "priority",
        "max_tries",
        "key",
    ]


def test_facts_of_exactly_64_kib_are_taken():
    check_job("kind", {"a": "x" * (FACTS_BYTES - len('{"a":""}'))}, None, 0, 1)


@pytest.mark.parametrize("facts", [{"at": NOON}, [1], {"a": float("nan")}, {"a": "\ud800"}])
def test_facts_that_are_no_json_object_are_refused(facts):
    with pytest.raises(InvalidError) as caught:
        check_job("kind", facts, None, 0, 1)
    assert caught.value.faults[0].field == "facts"


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pause_between_tries_never_passes_its_bounds(tries, share):
    assert 0.5 <= retry_seconds(tries, share) <= 300


def test_pause_doubles_and_half_of_it_is_jitter():
    assert [retry_seconds(tries, 1.0) for tries in (1, 2, 3, 10)] == [1, 2, 4, 300]
    assert retry_seconds(3, 0.0) == 2


def test_lease_is_over_only_when_its_whole_length_was_seen_silent():
    watch = Watch()
    assert looks(watch, [0, 10, 20, 29.9, 30], seen()) == [False, False, False, False, True]


def test_clock_that_jumps_forward_expires_nothing_while_the_holder_beats():
    watch = Watch()
    for moment in range(0, 300, 10):
        far = NOON + timedelta(days=moment)
        assert not watch.look([seen(beats=moment // 10)], far, moment)


def test_clock_that_was_set_back_keeps_no_dead_holders_lease():
    watch = Watch()
    assert looks(watch, [0, 10, 20, 30], seen(until=NOON + timedelta(hours=2)))[-1]


def test_lease_that_the_database_still_counts_as_good_is_left_alone():
    watch = Watch()
    good = seen(until=NOON + timedelta(seconds=5))
    assert not any(looks(watch, range(0, 100, 10), good, now=NOON))


def test_watch_begins_anew_after_it_was_paused_itself():
    watch = Watch()
    assert looks(watch, [0, 10, 60, 70, 80, 90], seen()) == [False] * 5 + [True]


def test_watch_begins_anew_with_a_new_fence():
    watch = Watch()
    assert not any(looks(watch, [0, 10, 20], seen(fence=1)))
    assert looks(watch, [30, 40, 50, 60], seen(fence=2)) == [False, False, False, True]


@given(st.lists(st.floats(0.01, 14.9), min_size=1, max_size=60), st.data())
def test_no_lease_is_taken_over_within_its_length_of_a_sign_of_life(gaps, data):
    watch, moment, beats, changed = Watch(), 0.0, 0, 0.0
    for gap in gaps:
        moment += gap
        if data.draw(st.booleans()):
            beats, changed = beats + 1, moment
        over = watch.look([seen(beats=beats)], NOON + timedelta(days=1), moment)
        assert not over or moment - changed >= LEASE - 1e-6
    assert LOOKS >= 3


@given(
    st.sampled_from(["*/5 * * * *", "30 2 * * *", "0 0 1 * *", "15 3 * * 1", "*/10 * * * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - made UTC below.
)
def test_ticks_before_and_after_a_moment_follow_on_each_other(cron, zone, moment):
    now = moment.replace(tzinfo=UTC)
    newest, following = newest_tick(cron, zone, now), next_tick(cron, zone, now)
    assert newest <= now < following


def test_tick_follows_the_zones_wall_clock_through_summer_time():
    winter = next_tick("30 9 * * *", "Europe/Berlin", datetime(2026, 1, 1, tzinfo=UTC))
    summer = next_tick("30 9 * * *", "Europe/Berlin", datetime(2026, 7, 1, tzinfo=UTC))
    assert (winter.hour, summer.hour) == (8, 7)
    assert summer.astimezone(ZoneInfo("Europe/Berlin")).hour == 9


def test_schedule_with_every_fault_lists_every_fault():
    with pytest.raises(InvalidError) as caught:
        check_schedule("", "k", {}, "99 * * * *", "Mars/Olympus", 0, 1)
    assert [f.field for f in caught.value.faults] == ["name", "cron", "time_zone"]
    assert "Bad minute" in caught.value.faults[1].message


@pytest.mark.parametrize("zone", ["../etc/passwd", "/etc/passwd", "", "a\x00b"])
def test_time_zone_that_climbs_is_refused(zone):
    with pytest.raises(InvalidError):
        check_schedule("name", "kind", {}, "* * * * *", zone, 0, 1)
