"""Pages of nodes, for site administrators."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import InvalidError, MillpondError
from millpond.machines import actions, joining, work
from millpond.machines.cluster import Cluster
from millpond.machines.requests import (
    AddNodeForm,
    AddNodeRequest,
    JoinTokenForm,
    NodeForm,
    RemoveForm,
    RevokeRequest,
    read_labels,
)
from millpond.machines.routes import JobId, NodeName
from millpond.storage.database import Transaction
from millpond.web.calls import PageIn
from millpond.web.portal import FormIn, NavItem, Portal, Visit, VisitIn, page

_NODES = "/admin/nodes"
_ONE = _NODES + "/{node}"
_SHOWN_STATUSES = (409, 422)
NAV = (NavItem("Nodes", _NODES, icon="server-2", permission="node.read", place="admin", order=12),)


def pages(portal: Portal, cluster: Cluster, *, links: Mapping[str, str] | None = None) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        cluster: the nodes.
        links: what rooms above show of a node: a label, and a path that may hold ``{node}``.
    """
    router = APIRouter()
    _add_list(router, portal, cluster)
    _add_adding(router, portal, cluster)
    _add_one(router, portal, cluster, links or {})
    _add_changes(router, portal, cluster, links or {})
    return router


def _add_list(router: APIRouter, portal: Portal, cluster: Cluster) -> None:
    @router.get(_NODES, **page("node.read"))
    def show_nodes(visit: VisitIn, asked: PageIn) -> HTMLResponse:
        """Show the whole cluster at a glance."""
        found = visit.read(
            lambda tx: actions.list_nodes(
                tx, visit.actor, cluster, cursor=asked.cursor, limit=asked.limit
            )
        )
        return portal.render(visit, "machines/list.html", found=found, is_open=cluster.is_open)


def _add_adding(router: APIRouter, portal: Portal, cluster: Cluster) -> None:
    def show(visit: Visit, status: int = 200, **facts: object) -> HTMLResponse:
        sources = work.list_sources(visit.actor, visit.read, cluster)
        given: dict[str, Any] = {"made": None, "sources": {one.name: one for one in sources}}
        given |= {"is_open": cluster.is_open} | facts
        return portal.render(visit, "machines/add.html", status, **given)

    @router.get(_NODES + "/add", **page("node.write"))
    def show_add(visit: VisitIn) -> HTMLResponse:
        """Show the ways in which a machine becomes a node."""
        return show(visit)

    @router.post(_NODES + "/add", **page("node.write"))
    def add_node(visit: VisitIn, form: FormIn) -> Response:
        """Have a machine added."""
        try:
            body = form.to(AddNodeForm)
            given = body.model_dump() | {"labels": read_labels(body.labels)}
            asked = AddNodeRequest(**given)
            started = visit.change(lambda tx: work.add_node(tx, visit.actor, cluster, asked))
        except MillpondError as fault:
            if fault.status not in _SHOWN_STATUSES:
                raise
            return show(visit, fault.status, form=form, fault=fault)
        return portal.go(visit, f"{_NODES}/work/{started.id}")

    @router.post(_NODES + "/token", **page("node.write"))
    def make_token(visit: VisitIn, form: FormIn) -> Response:
        """Give leave to join; the command stands on this page and never again."""
        try:
            body = form.to(JoinTokenForm)
            made = visit.change(
                lambda tx: joining.make_join_token(
                    tx, visit.actor, cluster, name=body.name, slots_most=body.slots_most
                )
            )
        except MillpondError as fault:
            if fault.status not in _SHOWN_STATUSES:
                raise
            return show(visit, fault.status, token_form=form, token_fault=fault)
        return show(visit, made=made)

    @router.get(_NODES + "/work/{job_id}", **page("node.read"))
    def show_work(visit: VisitIn, job_id: JobId) -> HTMLResponse:
        """Show how far a machine's work is."""
        found = visit.read(lambda tx: work.get_work(tx, visit.actor, job_id))
        return portal.render(visit, "machines/work.html", found=found)


def _show(
    portal: Portal,
    visit: Visit,
    cluster: Cluster,
    name: str,
    links: Mapping[str, str],
    status: int = 200,
    **facts: object,
) -> HTMLResponse:
    def read(tx: Transaction) -> dict[str, Any]:
        found = actions.get_node(tx, visit.actor, cluster, name)
        report = actions.report_node(tx, visit.actor, cluster, name)
        return {"found": found, "node": found.node, "report": report}

    given = visit.read(read) | {
        "links": {label: path.replace("{node}", name) for label, path in links.items()},
        "may_upgrade": False,
    }
    given["may_upgrade"] = given["node"].source in cluster.sources
    return portal.render(visit, "machines/node.html", status, **given, **facts)


def _add_one(router: APIRouter, portal: Portal, cluster: Cluster, links: Mapping[str, str]) -> None:
    @router.get(_ONE, **page("node.read"))
    def show_node(visit: VisitIn, node: NodeName) -> HTMLResponse:
        """Show a node: how it is, what it has, what happened to it."""
        return _show(portal, visit, cluster, node, links)

    @router.post(_ONE, **page("node.write"))
    def set_node(visit: VisitIn, node: NodeName, form: FormIn) -> Response:
        """Change labels, slots, graphics processors and price."""
        try:
            body = form.to(NodeForm)
            labels = read_labels(body.labels)
            visit.change(
                lambda tx: actions.set_node(
                    tx,
                    visit.actor,
                    cluster,
                    node,
                    labels=labels,
                    slots_most=body.slots_most,
                    gpus_most=body.gpus_most,
                    price_per_hour=body.price_per_hour,
                )
            )
        except InvalidError as fault:
            return _show(portal, visit, cluster, node, links, 422, form=form, fault=fault)
        return portal.go(visit, f"{_NODES}/{node}", f"{node} is changed.")


def _add_changes(
    router: APIRouter, portal: Portal, cluster: Cluster, links: Mapping[str, str]
) -> None:
    @router.post(_ONE + "/drain", **page("node.write"))
    def drain_node(visit: VisitIn, node: NodeName) -> Response:
        """Let a node end what it has and take no more."""
        visit.change(lambda tx: actions.drain_node(tx, visit.actor, cluster, node))
        return portal.go(visit, f"{_NODES}/{node}", f"{node} ends what it has and takes no more.")

    @router.post(_ONE + "/resume", **page("node.write"))
    def resume_node(visit: VisitIn, node: NodeName) -> Response:
        """Let a node that drains take tasks again."""
        visit.change(lambda tx: actions.resume_node(tx, visit.actor, cluster, node))
        return portal.go(visit, f"{_NODES}/{node}", f"{node} takes tasks again.")

    @router.post(_ONE + "/upgrade", **page("node.write"))
    def upgrade_node(visit: VisitIn, node: NodeName) -> Response:
        """Bring a node the server's version."""
        started = visit.change(lambda tx: work.upgrade_node(tx, visit.actor, cluster, node))
        return portal.go(visit, f"{_NODES}/work/{started.id}")

    @router.post(_ONE + "/remove", **page("node.write"))
    def remove_node(visit: VisitIn, node: NodeName, form: FormIn) -> Response:
        """Take a node out of the cluster; where that would do harm, ask for it to be forced."""
        force = form.to(RemoveForm).force
        try:
            visit.change(lambda tx: work.remove_node(tx, visit.actor, cluster, node, force=force))
        except MillpondError as fault:
            if fault.status != _SHOWN_STATUSES[0]:
                raise
            return _show(portal, visit, cluster, node, links, 409, stuck=fault)
        return portal.go(visit, _NODES, f"{node} is removed.")

    @router.post(_ONE + "/certificates/revoke", **page("node.write"))
    def revoke_certificates(visit: VisitIn, node: NodeName) -> Response:
        """Take no certificate of a node any more."""
        asked = RevokeRequest(reason=f"{visit.actor.name} revoked it by the portal.")
        revoked = visit.change(
            lambda tx: actions.revoke_certificates(tx, visit.actor, cluster, node, asked.reason)
        )
        said = "Its certificate is" if len(revoked) == 1 else f"Its {len(revoked)} certificates are"
        return portal.go(visit, f"{_NODES}/{node}", f"{said} good for nothing now.")
