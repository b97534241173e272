"""The same with processes alone: ``python plain.py PARTS OUT MODEL PROCESSES``."""

import pickle
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_made: dict[str, object] = {}  # One model per process.


def score(job: tuple[str, str, str]) -> None:
    part, target, place = job
    model = _made.get(place) or _made.setdefault(place, pickle.loads(Path(place).read_bytes()))
    columns = [column.to_numpy() for column in pq.read_table(part).columns]
    pq.write_table(pa.table({"score": model.predict(np.column_stack(columns))}), target)


def main(parts: str, out: str, model: str, processes: str) -> None:
    Path(out).mkdir()
    jobs = [(str(each), f"{out}/{each.name}", model) for each in sorted(Path(parts).iterdir())]
    with get_context("spawn").Pool(int(processes)) as pool:
        pool.map(score, jobs, chunksize=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
