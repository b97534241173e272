"""The same with Dask dataframe: ``python with_dask.py PARTS OUT MODEL PROCESSES``."""

import pickle
import sys
from pathlib import Path

import dask
import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster


def score(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    model = pickle.loads(Path(place).read_bytes())
    return pd.DataFrame({"score": model.predict(frame.to_numpy())}, index=frame.index)


def main(parts: str, out: str, model: str, processes: str) -> None:
    dask.config.set({"distributed.worker.memory.spill": False})
    with (
        LocalCluster(
            n_workers=int(processes), threads_per_worker=1, dashboard_address=None
        ) as here,
        Client(here),
    ):
        frame = dd.read_parquet(f"{parts}/*.parquet")
        scored = frame.map_partitions(score, model, meta={"score": "f8"})
        scored.to_parquet(out, write_index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
