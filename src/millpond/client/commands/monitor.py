"""The command that shows what the machines are busy with; for administrators."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import cast, get_args

import click

from millpond.client.call import Call, shared
from millpond.client.commands.node_texts import text_of_task
from millpond.client.screen import Column, seconds_text, size_text
from millpond.watch.values import Line, Monitor, NodeSeries, Range

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 30

Write = Callable[[float], str]


@click.command()
@click.argument("node", required=False)
@click.option(
    "--since",
    type=click.Choice(get_args(Range)),
    default="1h",
    show_default=True,
    help="How far back.",
)
@shared
def monitor(call: Call, node: str | None, since: str) -> None:
    """Show what every machine is busy with, or all meters of the machine NODE.

    The machine `local` is the host.
    """
    wanted = cast("Range", since)
    with call.client() as client:
        found = client.monitor.node(node, wanted) if node else client.monitor.get(wanted)
    if call.as_json:
        call.say("", found)
    elif node:
        _show_one(call, found)
    else:
        _show_all(call, found)
    call.tell(f"One point stands for {seconds_text(found.step_seconds)}.")


def _show_all(call: Call, found: Monitor) -> None:
    def curve(meter: str, most: float | None) -> Callable[[NodeSeries], str]:
        return lambda series: sparkline(_means(series, meter), most)

    columns: list[Column] = [
        ("NODE", lambda one: one.node),
        ("SEEN", _seen),
        ("CPU", lambda one: "-" if one.now is None else f"{one.now.cpu_share:.0%}"),
        ("", curve("cpu", 1)),
        ("LOAD", lambda one: "-" if one.now is None else f"{one.now.load:.2f}"),
        ("MEMORY", _memory),
        ("", curve("memory_used", None)),
        ("DISK FREE", _free),
        ("NETWORK", _network),
    ]
    call.show_list(found.nodes, columns, "Nothing is measured yet.")


def _show_one(call: Call, found: Monitor) -> None:
    (series,) = found.nodes
    columns: list[Column] = [
        ("METER", lambda line: line.meter),
        ("NEWEST", lambda line: _told(line, lambda known: known[-1], line.means)),
        ("MEAN", lambda line: _told(line, lambda known: sum(known) / len(known), line.means)),
        ("HIGHEST", lambda line: _told(line, max, line.peaks)),
        ("", lambda line: sparkline(line.means, 1 if line.meter == "cpu" else None)),
    ]
    call.show_list(series.lines, columns, "Nothing is known of that time.")
    for task in found.tasks:
        call.tell(f"Runs there now: {text_of_task(task)}")
    if series.now and series.now.fault:
        call.tell(series.now.fault)


def sparkline(values: Sequence[float | None], most: float | None = None) -> str:
    """Draw numbers as a row of bars from 0 up; what is not known stays empty."""
    highest = most or max((value for value in values if value is not None), default=0) or 1
    drawn = []
    for place in range(_WIDTH):
        begin, end = place * len(values) // _WIDTH, (place + 1) * len(values) // _WIDTH
        part = [value for value in values[begin : max(end, begin + 1)] if value is not None]
        if not part:
            drawn.append(" ")
            continue
        share = min(1.0, sum(part) / len(part) / highest)
        drawn.append(_BARS[min(len(_BARS) - 1, int(share * len(_BARS)))])
    return "".join(drawn)


def _means(series: NodeSeries, meter: str) -> Sequence[float | None]:
    return next((line.means for line in series.lines if line.meter == meter), ())


def _told(
    line: Line, choose: Callable[[list[float]], float], values: Sequence[float | None]
) -> str:
    known = [value for value in values if value is not None]
    return _writer(line.meter)(choose(known)) if known else "-"


def _writer(meter: str) -> Write:
    kind = meter.rpartition(":")[2]
    if meter == "cpu" or kind == "share":
        return lambda value: f"{value:.0%}"
    if kind in ("rx", "tx", "read", "written"):
        return lambda value: f"{size_text(value)}/s"
    if kind in ("total", "used") or meter.startswith(("memory_", "swap_")):
        return size_text
    return lambda value: f"{value:.4g}"


def _seen(series: NodeSeries) -> str:
    if series.now is None:
        return "long ago"
    if series.now.is_fresh:
        return "now"
    return f"{seconds_text((datetime.now(UTC) - series.now.at).total_seconds())} ago"


def _memory(series: NodeSeries) -> str:
    now = series.now
    if now is None:
        return "-"
    return f"{size_text(now.memory_used_bytes)} of {size_text(now.memory_total_bytes)}"


def _free(series: NodeSeries) -> str:
    if series.now is None or not series.now.disks:
        return "-"
    return ", ".join(f"{disk.mount}: {size_text(disk.free_bytes)}" for disk in series.now.disks)


def _network(series: NodeSeries) -> str:
    now = series.now
    if now is None:
        return "-"
    received, sent = now.received_bytes_per_second, now.sent_bytes_per_second
    return f"{size_text(received)}/s in, {size_text(sent)}/s out"
