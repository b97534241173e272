"""``report.html``: what ran, on what, what came out. One file, no script, nothing loaded."""

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Any

from millpond.ground.units import size_text
from millpond.pipelines.outputs.plots import number, plot, text
from millpond.pipelines.outputs.style import STYLE
from millpond.pipelines.outputs.values import OutputFile, RunFacts, StepFacts

STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
"""What a Content-Security-Policy names in ``style-src`` to let the report's one style through."""

_COLUMNS_SHOWN = 40
_FILES_SHOWN = 200
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$")
_POLICY = f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'"


def render(
    facts: RunFacts,
    statistics: dict[str, Any],
    files: Iterable[OutputFile],
    warnings: Iterable[str],
    millpond: str,
) -> str:
    """Write the report.

    ``statistics`` is the content of ``statistics.json``, ``files`` what lies beside the report,
    ``millpond`` the version of Millpond.
    """
    title = facts.pipeline.get("title") or facts.pipeline.get("name") or "Run"
    body = [
        _heading(facts, title),
        _warnings(list(warnings)),
        _tiles(facts, statistics),
        *(_table(each) for each in statistics.get("tables", [])),
        _steps(facts.steps),
        _inputs(facts),
        _facts("Parameters", facts.parameters, "The run had no parameters."),
        _environment(facts),
        _facts("Machine", facts.machine, ""),
        _facts("Times", facts.times, ""),
        _files(sorted(files, key=lambda each: each.raw_path)),
        _footer(millpond),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def _footer(millpond: str) -> str:
    return (
        f"<footer>Millpond {text(millpond)}. The digests of all of this stand in"
        " <code>provenance.json</code>, the numbers in <code>statistics.json</code>.</footer>"
    )


def _heading(facts: RunFacts, title: str) -> str:
    state = str(facts.run.get("state", ""))
    written = str(facts.pipeline.get("description") or "").split("\n\n")
    about = [" ".join(paragraph.split()) for paragraph in written if paragraph.strip()]
    known = [
        f"{text(key)} <b>{_value(value, key)}</b>"
        for key, value in facts.run.items()
        if value and key != "state"
    ]
    return (
        f'<header><h1>{text(title)} <span class="state {text(state)}">{text(state)}</span></h1>'
        + "".join(f"<p>{text(paragraph)}</p>" for paragraph in about)
        + f'<p class="quiet">{" · ".join(known)}</p></header>'
    )


def _warnings(warnings: list[str]) -> str:
    if not warnings:
        return ""
    lines = "".join(f"<li>{text(each)}</li>" for each in warnings)
    return f'<section class="warnings"><h2>Please note</h2><ul>{lines}</ul></section>'


def _tiles(facts: RunFacts, statistics: dict[str, Any]) -> str:
    counts = dict(facts.counts)
    for table in statistics.get("tables", []):
        counts[f"rows of {table['name']}"] = table["rows"]
    tiles = "".join(
        f"<div><b>{_value(value)}</b><span>{text(name.replace('_', ' '))}</span></div>"
        for name, value in counts.items()
    )
    return f'<section class="tiles">{tiles}</section>' if tiles else ""


def _table(table: dict[str, Any]) -> str:
    columns = table["columns"]
    drawn = [(column, plot(column)) for column in columns[:_COLUMNS_SHOWN]]
    figures = "".join(
        f"<figure><figcaption>{text(column['name'])}</figcaption>{drawing}</figure>"
        for column, drawing in drawn
        if drawing
    )
    rows = "".join(_column(column, table["rows"]) for column in columns[:_COLUMNS_SHOWN])
    more = len(columns) - _COLUMNS_SHOWN
    rest = f"<p class='quiet'>and {more:,} more columns</p>" if more > 0 else ""
    heads = ["column", "type", "missing", "least", "mean", "greatest", "distinct"]
    return (
        f"<section><h2>{text(table['name'])}</h2>"
        f'<p class="quiet">{_count(table["rows"], "row")}, {_count(len(columns), "column")}</p>'
        f'<div class="figures">{figures}</div>{_grid(heads, rows)}{rest}</section>'
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _column(column: dict[str, Any], rows: int) -> str:
    missing = column["missing"]
    share = f" ({missing / rows:.0%})" if missing and rows else ""
    distinct = column.get("distinct")
    many = "many" if column.get("most_frequent_is_exact") is False else ""
    return _row(
        text(column["name"]),
        column["type"],
        f"{missing:,}{share}",
        number(column["min"]) if "min" in column else "",
        number(column["mean"]) if "mean" in column else "",
        number(column["max"]) if "max" in column else "",
        many if distinct is None else f"{distinct:,}",
    )


def _steps(steps: tuple[StepFacts, ...]) -> str:
    if not steps:
        return ""
    longest = max(step.wall_seconds for step in steps) or 1
    rows = "".join(
        _row(
            text(step.name),
            f'<span class="state {text(step.state)}">{text(step.state)}</span>',
            f"{step.tasks:,}",
            f"{step.failed:,}",
            f'<meter max="{longest:.3f}" value="{step.wall_seconds:.3f}"></meter>'
            f" {step.wall_seconds:,.1f} s",
            f"{step.cpu_seconds:,.1f} s",
            size_text(step.memory_peak_bytes) if step.memory_peak_bytes else "not measured",
        )
        for step in steps
    )
    heads = ["step", "state", "tasks", "failed tries", "time", "processor time", "most memory"]
    return f"<section><h2>Steps</h2>{_grid(heads, rows)}</section>"


def _inputs(facts: RunFacts) -> str:
    if not facts.inputs:
        return ""
    heads = sorted({key for each in facts.inputs for key in each}, key=_input_order)
    rows = "".join(_row(*(_value(each.get(head), head) for head in heads)) for each in facts.inputs)
    return f"<section><h2>Inputs</h2>{_grid(heads, rows)}</section>"


def _input_order(key: str) -> tuple[int, str]:
    order = ["name", "address", "dataset", "file_count", "size_bytes", "digest"]
    return (order.index(key) if key in order else len(order), key)


def _environment(facts: RunFacts) -> str:
    known = {key: value for key, value in facts.environment.items() if key != "packages"}
    packages = facts.environment.get("packages") or []
    if not known and not packages:
        return ""
    listed = "".join(f"<li>{text(each)}</li>" for each in packages)
    details = f"<details><summary>{len(packages)} packages</summary><ul>{listed}</ul></details>"
    pinned = {**known, **{f"code {key}": value for key, value in facts.code.items()}}
    return _facts("Environment and code", pinned, "", details if packages else "")


def _facts(title: str, facts: dict[str, Any], empty: str, after: str = "") -> str:
    if not facts and not empty:
        return ""
    rows = "".join(
        f"<dt>{text(key.replace('_', ' '))}</dt><dd>{_value(value, key)}</dd>"
        for key, value in facts.items()
    )
    inner = f"<dl>{rows}</dl>" if rows else f'<p class="quiet">{text(empty)}</p>'
    return f"<section><h2>{text(title)}</h2>{inner}{after}</section>"


def _files(files: list[OutputFile]) -> str:
    rows = "".join(
        _row(text(each.path), size_text(each.size), f"<code>{each.digest[:16]}…</code>")
        for each in files[:_FILES_SHOWN]
    )
    more = len(files) - _FILES_SHOWN
    rest = f'<p class="quiet">and {more:,} more</p>' if more > 0 else ""
    return f"<section><h2>Files</h2>{_grid(['file', 'size', 'sha256'], rows)}{rest}</section>"


def _grid(heads: list[str], rows: str) -> str:
    head = "".join(f'<th scope="col">{text(_heading_of(each))}</th>' for each in heads)
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _heading_of(key: str) -> str:
    return key.removesuffix("_bytes").replace("_", " ")


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _value(value: Any, key: str = "") -> str:
    if value in (None, "", [], ()):
        return '<span class="quiet">none</span>'
    if isinstance(value, list | tuple):
        return ", ".join(_value(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{text(name)}: {_value(each)}" for name, each in value.items())
    return _scalar(value, key)


def _scalar(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return size_text(value) if key.endswith("_bytes") else number(value)
    if _MOMENT.match(str(value)):
        return text(f"{value[:10]} {value[11:19]} UTC")
    return f"<code>{text(value)}</code>" if "digest" in key else text(value)
