"""Which key means which bytes and who holds them: the server's word, in its database.

Every function takes the caller's transaction, so that a commit of an object and of what it is for
are one.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from millpond.ground.clock import Clock, SystemClock
from millpond.ground.errors import BusyError
from millpond.storage.database import Transaction
from millpond.storage.nodes import rules, store
from millpond.storage.nodes.receipts import ReceiptChecker
from millpond.storage.nodes.tokens import ANY, Token, TokenSigner
from millpond.storage.nodes.values import (
    COPIES,
    DiskFacts,
    Found,
    Pace,
    Place,
    Receipt,
    State,
    StoreHealth,
    Target,
)
from millpond.storage.port import check_key, is_there

GUARD = "restored"
"""The fact under which is kept why nothing is deleted."""

_TOKEN_SECONDS = 3600
_SPARE = 1
_KEYS_SHOWN = 20
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Standing:
    """All places and their states at one moment."""

    places: Sequence[Place]
    states: Mapping[str, State]

    @property
    def up(self) -> list[Place]:
        """Those that get something new."""
        return [place for place in self.places if self.states[place.node] == "up"]

    @property
    def living(self) -> set[str]:
        """Those whose copies count."""
        return {node for node, state in self.states.items() if state != "lost"}

    def order(self, nodes: Iterable[str]) -> list[str]:
        """Put those first that are most likely to answer."""
        ranks = {"up": 0, "suspect": 1, "lost": 2}
        known = [node for node in nodes if node in self.states]
        return sorted(known, key=lambda node: ranks[self.states[node]])


class Ledger:
    """Reads and writes keys, digests, copies and places."""

    def __init__(
        self,
        signer: TokenSigner,
        checker: ReceiptChecker,
        *,
        pace: Pace | None = None,
        allow_one_copy: bool = False,
        clock: Clock | None = None,
        is_other_version: Callable[[str], bool] = lambda _node: False,
    ) -> None:
        """Sign tokens with ``signer`` and check receipts with ``checker``.

        Args:
            signer: the server's.
            checker: knows the installation's authority.
            pace: how long each state lasts.
            allow_one_copy: take objects also while only one node is up.
            clock: for the expiry of tokens.
            is_other_version: tells whether a node answers, and is refused for its version.
        """
        self.checker = checker
        self.pace = pace or Pace()
        self._signer = signer
        self._allow_one_copy = allow_one_copy
        self._clock = clock or SystemClock()
        self._is_other_version = is_other_version
        self._hearing = threading.Lock()
        # Silence from before this server listened says nothing about a node.
        self._listening_since: datetime | None = None
        self._heard_at = _START

    # What lies where ---------------------------------------------------------------------------

    def find(self, tx: Transaction, keys: Iterable[str]) -> dict[str, Found]:
        """Give size, digest and holders of those keys that are there."""
        names = store.find_names(tx, keys)
        copies = store.replicas_of(tx, {digest for digest, _ in names.values()})
        standing = self.standing(tx)
        return {
            key: Found(size, digest, standing.order(_good(copies.get(digest, ()))))
            for key, (digest, size) in names.items()
        }

    def locate(self, tx: Transaction, keys: Iterable[str]) -> dict[str, tuple[Found, list[Target]]]:
        """Find keys, and give with each where it can be fetched, with tokens, the best first."""
        places = {place.node: place for place in store.list_places(tx)}
        return {
            key: (found, [self.target(places[node], "GET", found.digest) for node in found.nodes])
            for key, found in self.find(tx, keys).items()
        }

    def place(
        self, tx: Transaction, caller: str, digest: str, size: int, *, is_batch: bool = False
    ) -> list[Target]:
        """Give where to leave bytes: two nodes and a spare, the caller first when it has room.

        Args:
            tx: the transaction.
            caller: the node that has the bytes.
            digest: of the bytes, or of the first object of a batch.
            size: in bytes, of a batch with what frames its objects.
            is_batch: whether the tokens are for many objects in one call.

        Raises:
            BusyError: too few nodes have room.
        """
        standing = self.standing(tx)
        chosen = rules.rank(digest, standing.up, size=size, first=caller)
        if len(chosen) < self.needed(chosen):
            raise too_few(standing, size)
        wanted = ANY if is_batch else digest
        return [self.target(place, "PUT", wanted, size) for place in chosen[: COPIES + _SPARE]]

    def target(self, place: Place, method: str, digest: str = ANY, size: int = 0) -> Target:
        """Give a node's address with a token for one method on one digest."""
        expires = int(self._clock.now().timestamp()) + _TOKEN_SECONDS
        token = Token(method, digest, size, place.node, expires, place.epoch)
        return Target(place.node, place.url, self._signer.sign(token))

    def standing(self, tx: Transaction) -> Standing:
        """Give all places and their states."""
        since = self._since(tx.now)
        places = store.list_places(tx)
        states = {
            one.node: rules.state_of(
                one,
                tx.now,
                self.pace,
                since,
                is_other_version=self._is_other_version(one.node),
            )
            for one in places
        }
        return Standing(places, states)

    def needed(self, candidates: Sequence[Place]) -> int:
        """Say how many copies there must be before a commit."""
        return 1 if self._allow_one_copy and len(candidates) == 1 else COPIES

    # Commits -----------------------------------------------------------------------------------

    def commit(
        self, tx: Transaction, names: Mapping[str, tuple[str, int]], receipts: Sequence[Receipt]
    ) -> None:
        """Name bytes that two nodes hold; naming the same bytes again is fine.

        Args:
            tx: the transaction.
            names: digest and size by key.
            receipts: of nodes that hold all of it.

        Raises:
            InvalidError: the receipts are forged, too old, of other bytes, or too few.
            ConflictError: a key names other bytes.
        """
        for key in names:
            check_key(key)
        self.keep(tx, dict(names.values()), receipts)
        old = names.keys() - store.add_names(tx, names)
        known = store.find_names(tx, old)
        for key in old:
            if known.get(key, ("", 0))[0] != names[key][0]:
                raise is_there(key)

    def keep(self, tx: Transaction, sizes: Mapping[str, int], receipts: Sequence[Receipt]) -> None:
        """Let digests live, held by the nodes whose receipts are given."""
        good = [self.checker.check(receipt) for receipt in receipts]
        standing = self.standing(tx)
        nodes = rules.check_receipts(
            good,
            sizes,
            now=self._clock.now(),
            living=standing.living,
            least=self.needed(rules.rank("", standing.up)),
        )
        store.keep_digests(tx, sizes)
        store.put_replicas(tx, ((digest, node) for digest in sizes for node in nodes), "ok")

    def known(self, tx: Transaction, digests: Iterable[str]) -> set[str]:
        """Give those digests that lie on enough living nodes already, and keep them living."""
        living = store.lock_living(tx, digests)
        if not living:
            return set()
        nodes, copies = self.standing(tx).living, store.replicas_of(tx, living)
        held = {
            digest
            for digest in living
            if len(nodes.intersection(_good(copies.get(digest, ())))) >= COPIES
        }
        store.keep_digests(tx, store.sizes_of(tx, held))
        return held

    # Nodes -------------------------------------------------------------------------------------

    def note_node(self, tx: Transaction, name: str, url: str, facts: DiskFacts) -> int:
        """Note a heartbeat; give the epoch that the node is to remember.

        A node that remembers more than the database shows that the database is older than the
        disks. From then on nothing is deleted, until an administrator confirms.
        """
        known = {place.node: place for place in store.list_places(tx)}.get(name)
        epoch = known.epoch if known else 0
        if facts.epoch > epoch:
            text = f"the node {name} remembers {facts.epoch:,} heartbeats, the database {epoch:,}"
            store.put_fact(tx, GUARD, text)
        is_same = (
            known is not None
            and known.disk == facts.disk
            and known.set_aside == facts.set_aside
            and rules.state_of(known, tx.now, self.pace, _START) != "lost"
        )
        place = Place(
            node=name,
            url=url.rstrip("/"),
            is_ok=facts.is_ok,
            reason=facts.reason,
            is_draining=known.is_draining if known else False,
            free_bytes=facts.free_bytes,
            total_bytes=facts.total_bytes,
            epoch=max(epoch, facts.epoch) + 1,
            seen_at=tx.now,
            disk=facts.disk,
            set_aside=facts.set_aside,
            inventory_at=known.inventory_at if known and is_same else None,
        )
        self._hear(tx.now)
        store.put_place(tx, place)
        return place.epoch

    def note_draining(self, tx: Transaction, name: str, *, is_draining: bool) -> None:
        """Empty a node, or stop emptying it: its copies are made again elsewhere."""
        store.update_place(tx, name, is_draining=is_draining)

    def guard(self, tx: Transaction) -> str:
        """Give why nothing is deleted; empty when things are as they should be."""
        return store.find_fact(tx, GUARD) or ""

    def confirm(self, tx: Transaction) -> None:
        """Take the database for the truth, although it is older than the disks."""
        store.drop_fact(tx, GUARD)

    def shortage(self, tx: Transaction) -> str:
        """Say why nothing new can be kept now, and what it waits for; empty when it can."""
        standing = self.standing(tx)
        fit = rules.rank("", standing.up)
        if len(fit) >= self.needed(fit):
            return ""
        waits = "one copy only: waiting for a second node with a data disk"
        if not fit:
            waits = "no copy can be kept: waiting for two nodes with a data disk"
        return f"{waits} ({_shown_all(standing, 0)})"

    def health(self, tx: Transaction) -> StoreHealth:
        """Give how the store is. Cost: reads every digest."""
        standing = self.standing(tx)
        few, none = store.count_few(tx, standing.living, COPIES)
        missing = store.list_missing(tx, standing.living, _KEYS_SHOWN) if none else []
        return StoreHealth(
            places=[(place, standing.states[place.node]) for place in standing.places],
            at_risk=few,
            missing=none,
            missing_keys=store.keys_of(tx, missing, _KEYS_SHOWN) if missing else (),
            guard=self.guard(tx),
            shortage=self.shortage(tx),
        )

    def _since(self, now: datetime) -> datetime:
        with self._hearing:
            if self._listening_since is None:
                self._listening_since = now
            return self._listening_since

    def _hear(self, now: datetime) -> None:
        """After a time when no node was heard, it was the host that could not hear."""
        with self._hearing:
            silence = timedelta(seconds=self.pace.suspect)
            if self._listening_since is None or now - self._heard_at > silence:
                self._listening_since = now
            self._heard_at = now


def too_few(standing: Standing, size: int, reasons: Sequence[str] = ()) -> BusyError:
    """Make the error for too few nodes; it names each node's state."""
    shown = _shown_all(standing, size)
    return BusyError(
        f"Only one copy or none could be made, and {COPIES} are needed; nothing was stored."
        f" Nodes: {shown}." + "".join(f" {reason}" for reason in reasons),
        next_step="It goes on by itself when two nodes with free space are up. An administrator"
        " sees them under Nodes, can add one, or take data with one copy by"
        " `objects.allow_one_copy`.",
        retry_after_seconds=5.0,
    )


def _shown_all(standing: Standing, size: int) -> str:
    shown = [
        f"{place.node} {_shown(place, standing.states[place.node], size)}"
        for place in standing.places
    ]
    return ", ".join(shown) or "none has joined"


def _shown(place: Place, state: State, size: int) -> str:
    if state == "lost" and place.reason:
        return f"is lost ({place.reason})"
    if state == "up" and place.is_draining:
        return "is being emptied"
    if state == "up" and place.free_bytes <= size:
        return "is full"
    return f"is {state}"


def _good(copies: Iterable[tuple[str, str]]) -> list[str]:
    return [node for node, state in copies if state == "ok"]
