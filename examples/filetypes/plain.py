"""The same without Millpond: ``python plain.py FOLDER OUT.csv [PROCESSES]``."""

import csv
import os
import sys
from multiprocessing import get_context
from pathlib import Path

from magika import Magika
from onnxruntime import InferenceSession, SessionOptions

MIN_SCORE, CHUNK = 0.5, 100


class OneThread(Magika):
    """Magika on one thread: there is one process per core."""

    def _init_onnx_session(self) -> InferenceSession:
        options = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return InferenceSession(str(self._model_path), options, providers=["CPUExecutionProvider"])


_made: dict[str, OneThread] = {}  # One per process.


def identify(job: tuple[str, str]) -> list[object]:
    """Give path, type, group, score and size of one file."""
    folder, name = job
    magika = _made.get("magika") or _made.setdefault("magika", OneThread())
    path = Path(folder, name)
    with path.open("rb") as content:
        found = magika.identify_stream(content)
    sure = found.score >= MIN_SCORE
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    kind = str(found.output.label) if sure else "unknown"
    group = found.output.group if sure else "unknown"
    return [shown, kind, group, round(found.score, 4), path.stat().st_size]


def main(folder: str, target: str, processes: int = 2) -> None:
    """Look into every file below a folder and write a row for each."""
    names = [
        os.path.relpath(Path(where, name), folder)
        for where, _, found in os.walk(folder)
        for name in found
        if Path(where, name).is_file() and not Path(where, name).is_symlink()
    ]
    jobs = [(folder, name) for name in sorted(names, key=os.fsencode)]
    with get_context("spawn").Pool(processes) as pool, Path(target).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "type", "group", "score", "size"])
        rows.writerows(pool.imap(identify, jobs, CHUNK))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4]))
