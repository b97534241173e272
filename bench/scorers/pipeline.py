"""Score a table, a file at a time, with a small model of boosted trees."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingRegressor

from millpond import Files, pipeline, step

MODEL = Path(__file__).with_name("model.pickle")


@step(map=True, files_per_task=1, memory="2 GiB", preload=["pyarrow.parquet", "sklearn.ensemble"])
def score(parts: Files) -> Files:
    """Read one part, predict, and write a column of scores."""
    model: HistGradientBoostingRegressor = pickle.loads(MODEL.read_bytes())
    for part in parts:
        columns = [column.to_numpy() for column in pq.read_table(part).columns]
        scores = model.predict(np.column_stack(columns))
        pq.write_table(pa.table({"score": scores}), part.name)


@pipeline
def scoring(parts: Files) -> Files:
    """Score all parts of a table."""
    return score(parts)
