"""The same with Ray Data: ``python with_ray.py PARTS OUT MODEL PROCESSES``."""

import pickle
import sys
from pathlib import Path

import numpy as np
import ray


class Scorer:
    def __init__(self, place: str) -> None:
        self.model = pickle.loads(Path(place).read_bytes())

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"score": self.model.predict(np.column_stack(list(batch.values())))}


def main(parts: str, out: str, model: str, processes: str) -> None:
    ray.init(num_cpus=int(processes), include_dashboard=False, object_store_memory=256 << 20)
    # Reads and actors share the processors: with whole ones each, the reads would wait for ever.
    read = ray.data.read_parquet(parts, ray_remote_args={"num_cpus": 0.25})
    scored = read.map_batches(
        Scorer,
        fn_constructor_args=(model,),
        batch_size=100_000,
        num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(size=int(processes)),
    )
    scored.write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
