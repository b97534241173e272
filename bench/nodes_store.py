"""Objects on the nodes' data disks beside two flushed copies in plain folders.

``python bench/nodes_store.py [--times 3] [--files 200] [--large 256]``

Three nodes are programs of their own on this machine's loopback, with mutual TLS; names lie in
SQLite. The plain way writes every file twice into folders of the same disk, hashes it once, and
flushes files and folders. Both share the machine's cores, so ratios say more than seconds.
"""

import argparse
import hashlib
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import util
from pathlib import Path
from typing import Any

from measuring import print_load, print_table

from millpond.machines.authority import Authority
from millpond.storage import migrate
from millpond.storage.database import Database
from millpond.storage.nodes.values import Pace

MIB = 1 << 20


def load_nodes() -> Any:
    path = Path(__file__).parents[1] / "tests" / "storage" / "data_nodes.py"
    spec = util.spec_from_file_location("data_nodes", path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Plain:
    """Two folders, each file flushed in both."""

    def __init__(self, root: Path) -> None:
        self.folders = [root / "one", root / "two"]
        for folder in self.folders:
            folder.mkdir(parents=True)

    def put(self, key: str, data: bytes) -> None:
        hashlib.sha256(data).hexdigest()
        for folder in self.folders:
            with (folder / key).open("xb", buffering=0) as file:
                file.write(data)
                os.fsync(file.fileno())
            handle = os.open(folder, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)

    def put_many(self, objects: Any) -> None:
        for key, data in objects:
            for folder in self.folders:
                (folder / key).write_bytes(data)
        os.sync()

    def get(self, key: str) -> bytes:
        return (self.folders[0] / key).read_bytes()


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def measure(store: Any, tag: str, files: list[bytes], large: bytes, small: int) -> dict[str, float]:
    """Put and get everything once; keys are new each time, and so are the bytes."""
    found = {}

    def put_files() -> None:
        for number, data in enumerate(files):
            store.put(f"{tag}-{number}", data)

    def get_files() -> None:
        for number, data in enumerate(files):
            assert len(store.get(f"{tag}-{number}")) == len(data)

    def put_large() -> None:
        store.put(f"{tag}-large", large if isinstance(store, Plain) else io.BytesIO(large))

    def get_large() -> None:
        if isinstance(store, Plain):
            assert len(store.get(f"{tag}-large")) == len(large)
        else:
            assert sum(map(len, store.stream(f"{tag}-large"))) == len(large)

    many = [(f"{tag}-s{number}", os.urandom(200)) for number in range(small)]
    found[f"put {len(files)} x 1 MB"] = seconds(put_files)
    found[f"get {len(files)} x 1 MB"] = seconds(get_files)
    found[f"put {len(large) // MIB} MB"] = seconds(put_large)
    found[f"get {len(large) // MIB} MB"] = seconds(get_large)
    found[f"put {small:,} of 200 bytes"] = seconds(lambda: store.put_many(many))
    return found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--times", type=int, default=3)
    asked.add_argument("--files", type=int, default=200)
    asked.add_argument("--large", type=int, default=256)
    asked.add_argument("--small", type=int, default=10_000)
    chosen = asked.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="millpond-bench-"))
    module = load_nodes()
    nodes = module.DataNodes(folder, Authority(folder / "authority", datetime.now(UTC)))
    try:
        nodes.launch("n1", "n2", "n3")
        database = Database(f"sqlite:///{folder / 'bench.db'}")
        migrate.upgrade(database)
        pace = Pace(suspect=3600, lost=7200)
        store = nodes.store(database, folder, pace=pace, cache=0)
        plain = Plain(folder / "plain")
        rounds: list[tuple[dict[str, float], dict[str, float]]] = []
        for number in range(chosen.times):  # In turns, so that both see the same machine.
            files = [os.urandom(1_000_000) for _ in range(chosen.files)]
            large = os.urandom(chosen.large * MIB)
            nodes.beat(store)
            ours = measure(store, f"r{number}", files, large, chosen.small)
            rounds.append((ours, measure(plain, f"r{number}", files, large, chosen.small)))
        store.close()
        database.close()
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print_load()
    rows = []
    for what in rounds[0][0]:
        ours = [each[what] for each, _ in rounds]
        theirs = [each[what] for _, each in rounds]
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        rows.append(
            (
                what,
                f"{statistics.median(ours):.2f} ({min(ours):.2f} to {max(ours):.2f})",
                f"{statistics.median(theirs):.2f} ({min(theirs):.2f} to {max(theirs):.2f})",
                f"{statistics.median(ratios):.1f}",
            )
        )
    print_table(("what", "on nodes, s", "two plain copies, s", "ratio"), rows)


if __name__ == "__main__":
    main()
