"""What goes over the wire between the host and a node: a task, and the report of how it ended.

Everything is compressed JSON. Nothing of Python's own serialization is ever read from a node.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from millpond.engine.values import StoredOutput, TaskReport, TaskSpec

PREFIX = "millpond"
"""First element of every key in Dask: it keeps statistics for each first element for ever."""

_LEVEL = 1
_REPORT_BYTES_MOST = 256 << 20


@dataclass(frozen=True)
class Order:
    """A task on its way to a node.

    Attributes:
        task: the task.
        grant: what the node needs to fetch and publish for it: its token, signatures to read.
    """

    task: TaskSpec
    grant: Mapping[str, Any] = field(default_factory=dict)


def pack_order(order: Order) -> bytes:
    """Write an order, secrets included: only for a connection over TLS."""
    return _pack({"task": order.task.to_json(), "grant": dict(order.grant)})


def read_order(data: bytes) -> Order:
    """Read what ``pack_order`` wrote."""
    facts = json.loads(zlib.decompress(data))
    return Order(TaskSpec.from_json(facts["task"]), facts["grant"])


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
        facts = json.loads(text)
        return TaskReport(
            **{
                **facts,
                "started_at": datetime.fromisoformat(facts["started_at"]),
                "outputs": tuple(StoredOutput(**each) for each in facts["outputs"]),
                "left_out": tuple(facts["left_out"]),
            }
        )
    except (zlib.error, KeyError, TypeError) as fault:
        raise ValueError(f"the report cannot be read: {fault}") from fault


def _pack(facts: Mapping[str, Any]) -> bytes:
    return zlib.compress(json.dumps(facts).encode(), _LEVEL)
