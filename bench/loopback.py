"""A cluster on loopback for the benches: server, scheduler and nodes as processes of this machine.

It takes them from ``tests/journeys``; there is no network between them but loopback.
"""

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from measuring import Bench

_JOURNEYS = Path(__file__).parents[1] / "tests" / "journeys"


@contextmanager
def own_cluster(nodes: int) -> Iterator[Bench]:
    """Start a host and nodes with one slot each, objects on their disks; clear all away."""
    journey = _load()
    folder = Path(tempfile.mkdtemp(prefix="millpond-bench-"))
    folder.chmod(0o755)  # The sandboxes' users go through it.
    site = journey.Site(folder, {"objects_kind": "nodes", "cluster_heartbeat_seconds": "5"})
    try:
        site.start_server()
        site.start_scheduler()
        client = site.open()
        names = [f"n{number}" for number in range(1, nodes + 1)]
        for name in names:
            site.join(name, has_disk=True)
            client.nodes.set(name, slots_most=1)
            site.start_node(name)
        journey.until(lambda: len(site.nodes_up()) == nodes)
        yield Bench(site.server, client, folder, [each.pid for each in site.processes.values()])
    finally:
        site.end()
        shutil.rmtree(folder, ignore_errors=True)


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("journey", _JOURNEYS / "test_cluster.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["journey"] = module
    spec.loader.exec_module(module)
    return module
