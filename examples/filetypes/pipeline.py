"""What do these files hold? Google's Magika looks inside and says, whatever the files are called.

The network comes trained, inside the package; nothing is downloaded and nothing is trained here.
"""

from collections import defaultdict
from collections.abc import Iterator
from html import escape
from typing import Annotated, Any, NamedTuple

from magika import Magika
from onnxruntime import InferenceSession, SessionOptions

from millpond import File, Files, Param, Table, pipeline, step

MinScore = Annotated[float, Param(ge=0, le=1, title="Least score")]


class OneThread(Magika):
    """Magika on one thread: Millpond runs as many tasks side by side as there are cores."""

    def _init_onnx_session(self) -> InferenceSession:
        options = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return InferenceSession(str(self._model_path), options, providers=["CPUExecutionProvider"])


class Findings(NamedTuple):
    """The types found: how many files, how many bytes, how sure; and a drawing of the groups."""

    types: Table
    plot: File


class Result(NamedTuple):
    """A prediction per file, and what they add up to."""

    predictions: Table
    types: Table
    plot: File


@step(map=True, files_per_task=100, bytes_per_task="1 GiB", retries=2, preload=["magika"])
def identify(files: Files, min_score: MinScore = 0.5) -> Table:
    """Look into each file; an empty file is of the type ``empty``."""
    # Made here and not at the top: a session made before the fork may hang after it. It takes
    # 20 ms, about two files' worth. One file at a time is fastest and needs the least memory.
    magika = OneThread()
    for file in files:
        with file.open() as content:
            found = magika.identify_stream(content)
        sure = found.score >= min_score
        yield {
            "path": file.name,
            "type": str(found.output.label) if sure else "unknown",
            "group": found.output.group if sure else "unknown",
            "score": round(found.score, 4),
            "size": file.size,
        }


@step(preload=["magika"])  # As above, so that it finds a warm process.
def summarise(predictions: Table) -> Findings:
    """Add up files, bytes and scores per type, and draw the groups."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for row in predictions:
        entry = sums[row["group"], row["type"]]
        entry[0] += 1
        entry[1] += row["size"]
        entry[2] += row["score"]
    ordered = sorted(sums.items(), key=lambda pair: (-pair[1][0], pair[0]))
    types = [
        {
            "group": group,
            "type": kind,
            "files": count,
            "bytes": size,
            "mean_score": round(score / count, 4),
        }
        for (group, kind), (count, size, score) in ordered
    ]
    return Findings(types, ("groups.svg", draw(types)))


@pipeline
def filetypes(files: Files, min_score: MinScore = 0.5) -> Result:
    """Types of files.

    Finds out what files of any kind hold, by their content and not by their names. Gives a
    prediction for each file, a summary by type, and a drawing.

    Args:
        files: any files; names and endings play no part.
        min_score: below this score a file's type is given as unknown instead of guessed.
    """
    predictions = identify(files, min_score=min_score)
    findings = summarise(predictions)
    return Result(predictions, findings.types, findings.plot)


def draw(types: list[dict[str, Any]]) -> str:
    """Draw the number of files in each group as bars, in SVG."""
    groups: dict[str, int] = defaultdict(int)
    for row in types:
        groups[row["group"]] += row["files"]
    bars = "".join(_bars(sorted(groups.items(), key=lambda pair: -pair[1])))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560'
        f' {30 + 26 * len(groups)}" font-family="sans-serif" font-size="13">'
        f'<text x="8" y="18" font-weight="bold">Files by group</text>{bars}</svg>\n'
    )


def _bars(groups: list[tuple[str, int]]) -> Iterator[str]:
    most = max((count for _, count in groups), default=1)
    for place, (group, count) in enumerate(groups):
        top, width = 30 + 26 * place, max(340 * count / most, 1)
        yield (
            f'<text x="120" y="{top + 14}" text-anchor="end">{escape(group)}</text>'
            f'<rect x="128" y="{top}" width="{width:.1f}" height="18" fill="#2f7f8f"/>'
            f'<text x="{134 + width:.1f}" y="{top + 14}">{count:,}</text>'
        )
