"""REST of usage."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from millpond.watch.usage import actions
from millpond.watch.usage.actions import Prices
from millpond.watch.usage.values import RunUse, Usage
from millpond.web.frame import CallIn, needs

Day = Annotated[date | None, Query(description="A day in UTC, such as 2026-05-01.")]


def routes(prices: Prices) -> APIRouter:
    """Give the routes.

    Args:
        prices: of the nodes.
    """
    router = APIRouter(tags=["usage"])

    @router.get("/usage", **needs("monitor.read"))
    def get_site_usage(call: CallIn, since: Day = None, until: Day = None) -> Usage:
        """Show what all runs used, by day, project, person, pipeline and node."""
        return call.read(
            lambda tx: actions.get_site_usage(tx, call.actor, since, until, prices=prices)
        )

    @router.get("/projects/{project}/usage", **needs("usage.read"))
    def get_usage(call: CallIn, project: str, since: Day = None, until: Day = None) -> Usage:
        """Show what a project's runs used, by day, person, pipeline and node."""
        return call.read(
            lambda tx: actions.get_usage(tx, call.actor, project, since, until, prices=prices)
        )

    @router.get("/projects/{project}/runs/{run}/usage", **needs("run.read"))
    def get_run_usage(call: CallIn, project: str, run: str) -> RunUse:
        """Show what a run has used, by step and node, and when."""
        return call.read(
            lambda tx: actions.get_run_usage(tx, call.actor, project, run, prices=prices)
        )

    return router
