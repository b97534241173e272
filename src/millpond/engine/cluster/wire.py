"""What goes over the wire between the host and a node: a task, and the report of how it ended.

Everything is compressed JSON. Nothing of Python's own serialization is ever read from a node.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, get_args

from millpond.engine.values import (
    RESULT_BYTES_MOST,
    Outcome,
    StoredOutput,
    TaskReport,
    TaskSpec,
)

PREFIX = "millpond"
"""First element of every key in Dask: it keeps statistics for each first element for ever."""

_LEVEL = 1
_REPORT_BYTES_MOST = 256 << 20
_REASON_MOST, _NUMBER_MOST, _CODE_MOST = 1 << 16, 1 << 62, 1 << 31
_YEAR_FIRST, _YEAR_LAST = 2000, 2999  # Databases and pages know no year 10,000.
_RESULT_MOST = 6 * RESULT_BYTES_MOST  # Written so, a character may take six.


@dataclass(frozen=True)
class Order:
    """A task on its way to a node.

    Attributes:
        task: the task.
        grant: what the node needs to fetch and publish for it: its token, signatures to read.
        waits: whether it may wait there until its slots are free.
    """

    task: TaskSpec
    grant: Mapping[str, Any] = field(default_factory=dict)
    waits: bool = False


def pack_order(order: Order) -> bytes:
    """Write an order, secrets included: only for a connection over TLS."""
    facts = {"task": order.task.to_json(), "grant": dict(order.grant), "waits": order.waits}
    return _pack(facts)


def read_order(data: bytes) -> Order:
    """Read what ``pack_order`` wrote."""
    facts = json.loads(zlib.decompress(data))
    return Order(TaskSpec.from_json(facts["task"]), facts["grant"], facts["waits"])


def pack_report(report: TaskReport) -> bytes:
    """Write a report."""
    return _pack({**asdict(report), "started_at": report.started_at.isoformat()})


def read_report(data: bytes) -> TaskReport:
    """Read what ``pack_report`` wrote.

    Raises:
        ValueError: it is no report, or larger than any can be.
    """
    try:
        opener = zlib.decompressobj()
        text = opener.decompress(data, _REPORT_BYTES_MOST)
        if opener.unconsumed_tail:
            raise ValueError("the report is too large")
        facts = json.loads(text, parse_constant=_refuse_constant)
        report = TaskReport(
            **{
                **facts,
                "started_at": datetime.fromisoformat(facts["started_at"]),
                "outputs": tuple(StoredOutput(**each) for each in facts["outputs"]),
                "left_out": tuple(facts["left_out"]),
            }
        )
        if not _is_sound(report):
            raise ValueError("the report holds what cannot be")
    except (zlib.error, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise ValueError(f"the report cannot be read: {fault}") from fault
    return report


def _is_sound(report: TaskReport) -> bool:
    """Tell whether everything is of its kind: what a node sends is as little believed as a user."""
    outputs = report.outputs
    texts = [report.key, report.reason, report.node, *report.left_out]
    texts += [text for each in outputs for text in (each.path, each.key, each.digest)]
    whole = [report.memory_peak_bytes, report.log_bytes, *(each.size for each in outputs)]
    code = 0 if report.exit_code is None else report.exit_code
    return (
        all(isinstance(each, str) and "\0" not in each for each in texts)
        and len(report.reason) <= _REASON_MOST
        and report.outcome in get_args(Outcome)
        and all(type(each) is int and 0 <= each < _NUMBER_MOST for each in whole)
        and all(
            type(each) in (int, float) and 0 <= each < _NUMBER_MOST
            for each in (report.cpu_seconds, report.wall_seconds)
        )
        and type(code) is int
        and abs(code) < _CODE_MOST
        and report.started_at.tzinfo is not None
        and _YEAR_FIRST <= report.started_at.year <= _YEAR_LAST
        and all(
            type(each) is bool for each in (report.isolated, report.needed_fresh, report.is_refused)
        )
        and len(json.dumps(report.result)) <= _RESULT_MOST
        and sum(each.size for each in outputs) < _NUMBER_MOST
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the report holds {name}, which is no number")


def _pack(facts: Mapping[str, Any]) -> bytes:
    return zlib.compress(json.dumps(facts).encode(), _LEVEL)
