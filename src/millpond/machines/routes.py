"""The REST routes of nodes, for site administrators; and the one by which machines join."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Query

from millpond.ground.page import Page
from millpond.machines import actions, joining, work
from millpond.machines.cluster import Cluster
from millpond.machines.requests import (
    AddNodeRequest,
    JoinRequest,
    JoinTokenRequest,
    NodePatch,
    RevokeRequest,
)
from millpond.machines.values import (
    Certificate,
    Joined,
    NewJoinToken,
    Node,
    NodeDetails,
    NodeReport,
    NodeWork,
    SourceInfo,
)
from millpond.people.tries import count_try, forgive_tries
from millpond.storage.database import Transaction
from millpond.web.frame import AnyoneIn, CallIn, PageIn, needs, open_route

_NODES, _ONE = "/nodes", "/nodes/{node}"
NodeName = Annotated[str, Path(pattern=r"^[a-z0-9-]+$", max_length=40)]
JobId = Annotated[str, Path(pattern=r"^job_[0-9a-z]+$", max_length=40)]
_PLACE_MOST = 64


def routes(cluster: Cluster) -> APIRouter:
    """Give the routes."""
    router = APIRouter(tags=["nodes"])
    _add_joining(router, cluster)
    _add_work(router, cluster)
    _add_looking(router, cluster)
    _add_changing(router, cluster)
    return router


def _add_joining(router: APIRouter, cluster: Cluster) -> None:
    @router.post("/nodes/tokens", status_code=201, **needs("node.write"))
    def make_join_token(call: CallIn, body: JoinTokenRequest) -> NewJoinToken:
        """Give leave to join one machine, good once and for an hour; it is shown this once."""
        return call.make(
            lambda tx: joining.make_join_token(
                tx,
                call.actor,
                cluster,
                name=body.name,
                slots_most=body.slots_most,
                labels=body.labels,
            ),
            keep=False,
        )

    @router.post("/nodes/join", status_code=201, **open_route())
    def join(call: AnyoneIn, body: JoinRequest) -> Joined:
        """Join as a node, with a token that is good once; made for `millpond node join`."""
        address = call.request.client.host if call.request.client else ""
        place = _place_of(body.name, address)
        call.change(lambda tx: count_try(tx, *place))

        def change(tx: Transaction) -> Joined:
            joined = joining.join_node(
                tx,
                cluster,
                token=body.token,
                name=body.name,
                csr=body.csr,
                version=body.version,
                sent_at=body.sent_at,
                facts=body.facts.value(),
            )
            forgive_tries(tx, *place)
            return joined

        return call.change(change)


def _place_of(name: str, address: str) -> tuple[str, str]:
    """Give what tries to join are counted by: the address, and the name from that address alone.

    A name has no count of its own over all addresses, as a person's has: a token can't be guessed,
    and strangers who know a node's name would keep it out.
    """
    pair = hashlib.sha256(f"{address}\0{name}".encode(errors="surrogatepass")).hexdigest()
    return f"node {pair}"[:_PLACE_MOST], f"join {address}"[:_PLACE_MOST]


def _add_work(router: APIRouter, cluster: Cluster) -> None:
    @router.get("/nodes/sources", **needs("node.read"))
    def list_sources(call: CallIn) -> list[SourceInfo]:
        """List the ways to get machines, and what a machine must know before it is added."""
        return work.list_sources(call.actor, call.read, cluster)

    @router.post("/nodes", status_code=201, **needs("node.write"))
    def add_node(call: CallIn, body: AddNodeRequest) -> NodeWork:
        """Add a machine: it is reached, set up and joined; follow the work by its id."""
        return call.make(lambda tx: work.add_node(tx, call.actor, cluster, body))

    @router.post(_ONE + "/upgrade", status_code=201, **needs("node.write"))
    def upgrade_node(call: CallIn, node: NodeName) -> NodeWork:
        """Bring a node the server's version; follow the work by its id."""
        return call.make(lambda tx: work.upgrade_node(tx, call.actor, cluster, node))

    @router.get("/nodes/work/{job_id}", **needs("node.read"))
    def get_work(
        call: CallIn, job_id: JobId, after: Annotated[int, Query(ge=0, le=1_000_000)] = 0
    ) -> NodeWork:
        """Show how far a machine's work is, with its lines after a number."""
        return call.read(lambda tx: work.get_work(tx, call.actor, job_id, after=after))


def _add_looking(router: APIRouter, cluster: Cluster) -> None:
    @router.get(_NODES, **needs("node.read"))
    def list_nodes(
        call: CallIn,
        page: PageIn,
        removed: Annotated[bool, Query(description="Those that were removed, too.")] = False,
    ) -> Page[Node]:
        """List nodes by name."""
        return call.read(
            lambda tx: actions.list_nodes(
                tx,
                call.actor,
                cluster,
                with_removed=removed,
                cursor=page.cursor,
                limit=page.limit,
            )
        )

    @router.get(_ONE, **needs("node.read"))
    def get_node(call: CallIn, node: NodeName) -> NodeDetails:
        """Show a node, what happened to it, and its certificates."""
        return call.read(lambda tx: actions.get_node(tx, call.actor, cluster, node))

    @router.get(_ONE + "/findings", **needs("node.read"))
    def report_node(call: CallIn, node: NodeName) -> NodeReport:
        """Look for all that is wrong with a node, and how to mend it."""
        return call.read(lambda tx: actions.report_node(tx, call.actor, cluster, node))


def _add_changing(router: APIRouter, cluster: Cluster) -> None:
    @router.patch(_ONE, **needs("node.write"))
    def set_node(call: CallIn, node: NodeName, body: NodePatch) -> Node:
        """Change a node's labels, its bounds of slots and GPUs, or its price."""
        return call.change(
            lambda tx: actions.set_node(tx, call.actor, cluster, node, **body.model_dump())
        )

    @router.post(_ONE + "/drain", **needs("node.write"))
    def drain_node(call: CallIn, node: NodeName) -> Node:
        """Let a node end what it has and take no more."""
        return call.make(lambda tx: actions.drain_node(tx, call.actor, cluster, node))

    @router.post(_ONE + "/resume", **needs("node.write"))
    def resume_node(call: CallIn, node: NodeName) -> Node:
        """Let a node that drains take tasks again."""
        return call.make(lambda tx: actions.resume_node(tx, call.actor, cluster, node))

    @router.delete(_ONE, **needs("node.write"))
    def remove_node(
        call: CallIn,
        node: NodeName,
        force: Annotated[bool, Query(description="Also with tasks or last copies on it.")] = False,
    ) -> Node:
        """Take a node out of the cluster; its certificates are good for nothing any more."""
        return call.change(lambda tx: work.remove_node(tx, call.actor, cluster, node, force=force))

    @router.post(_ONE + "/certificates/revoke", **needs("node.write"))
    def revoke_certificates(call: CallIn, node: NodeName, body: RevokeRequest) -> list[Certificate]:
        """Take no certificate of a node any more, as when its key was stolen; gives them."""
        return call.make(
            lambda tx: actions.revoke_certificates(
                tx, call.actor, cluster, node, body.reason, serial=body.serial
            )
        )
