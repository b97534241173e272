"""Dask's settings and time-outs, alike in the scheduler, the server and the workers."""

from typing import Any

LOST_SECONDS = 15
"""A worker that is silent for so long is lost."""

_TCP_SECONDS = 14  # A cable that was out for ten seconds, and what TCP then needs, cost nothing.

CONFIGURATION: dict[str, Any] = {
    "distributed.comm.timeouts.tcp": f"{_TCP_SECONDS}s",
    "distributed.comm.timeouts.connect": "5s",
    "distributed.comm.retry.count": 0,
    "distributed.scheduler.worker-ttl": f"{LOST_SECONDS}s",
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.allowed-failures": 0,  # A lost task is tried again by us, elsewhere.
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.large-graph-warning-threshold": "1GB",
    "distributed.admin.tick.limit": "30s",
}
