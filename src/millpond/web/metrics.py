"""What the server counts, for Prometheus."""

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from millpond.ground.actor import Actor
from millpond.ground.errors import NotSignedInError
from millpond.storage.database import Transaction
from millpond.web.calls import AnyoneIn, is_local, open_route

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Meters:
    """The counters of one server, in a registry of their own, which other rooms may add to."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "millpond_http_requests_total",
            "Requests answered, by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "millpond_http_request_seconds",
            "Time from a request to the end of its answer.",
            ("method", "route"),
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request under its route's template, so that the series stay few."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)


def routes(meters: Meters, check_may_see: Callable[[Transaction, Actor], None]) -> APIRouter:
    """Give the route of the metrics, without the prefix of the API."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", **open_route(), response_class=Response, summary="Show the metrics")
    def get_metrics(call: AnyoneIn) -> Response:
        """Show every meter in Prometheus' text form.

        Open on this machine; from elsewhere it needs the permission `system.read`.
        """
        if not is_local(call.request):
            actor = call.actor
            if actor is None:
                raise NotSignedInError(
                    "The metrics are shown to this machine and to those who may read the system.",
                    next_step="Send a token of an administrator in the Authorization header.",
                )
            call.read(lambda tx: check_may_see(tx, actor))
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)

    return router
