"""What a task says of its own outputs is believed as far as it can be."""

import pytest

from millpond.pipelines.runs.rules import seconds_left
from millpond.pipelines.runs.staging import task_parts
from millpond.pipelines.runs.values import TaskOutputs
from millpond.pipelines.values import StoredObject

OUTPUTS = TaskOutputs(tuple(StoredObject(f"t/{name}", f"k/{name}", 1, "") for name in "abc"))


@pytest.mark.parametrize(
    ("told", "rows"),
    [
        ([[7, 2], [1, 1]], [7, 7, 1]),
        ([[7, 2]], [None] * 3),
        ([[7, 4]], [None] * 3),
        (None, [None] * 3),
        ("many", [None] * 3),
        ([[float("inf"), 3]], [None] * 3),
        ([[1, float("inf")]], [None] * 3),
        ([[-1, 3]], [0] * 3),
        ([[1, 1 << 20]] * 5000, [None] * 3),
    ],
    ids=[
        "some",
        "fewer",
        "more",
        "none",
        "word",
        "endless",
        "endless-parts",
        "negative",
        "millions",
    ],
)
def test_rows_that_a_task_tells_count_when_they_make_sense(told, rows):
    assert [part.rows for part in task_parts(OUTPUTS, "t/", told)] == rows


def test_a_task_that_tells_of_endless_rows_breaks_no_sum():
    parts = task_parts(OUTPUTS, "t/", [[10**400, 3]])
    total = sum(part.rows or 0 for part in parts)
    assert seconds_left(total // 2, 0, total, 10.0) == pytest.approx(10.0)
