"""A refused node waits longer each time, and says why once."""

from millpond.ground.errors import ConflictError, Fault, InvalidError, MillpondError
from millpond.machines.refusals import Refusals


def other_version(ours: str) -> MillpondError:
    return ConflictError(f"owl runs 1.0, and the server {ours}.", next_step="Upgrade it.")


def clock_off(seconds: int) -> MillpondError:
    faults = [Fault("sent_at", f"is {seconds} s ahead")]
    return InvalidError(f"owl: {seconds} s ahead.", next_step="Set it.", faults=faults)


def test_each_refusal_is_waited_for_longer_and_the_longest_is_less_than_a_minute() -> None:
    now, waits = Refusals(), []
    for _ in range(8):
        now = now.after(other_version("1.1"))
        waits.append(now.pause_seconds)
    assert waits == [2, 5, 10, 20, 45, 45, 45, 45]
    assert Refusals().pause_seconds == 0


def test_only_another_reason_is_said_again() -> None:
    faults = [other_version("1.1"), other_version("1.1"), other_version("1.2"),
              clock_off(61), clock_off(62), other_version("1.2")]  # fmt: skip
    now, said = Refusals(), []
    for fault in faults:
        now = now.after(fault)
        said.append(now.is_new)
    assert said == [True, False, True, True, False, True]


def test_they_go_on_in_the_next_process() -> None:
    now = Refusals().after(clock_off(61)).after(clock_off(61))
    assert Refusals.read(now.words) == now
    for wrong in ("", "2", "two:clock", "-1:clock", ":", "3:"):
        assert Refusals.read(wrong) == Refusals()
