"""Move a task's bytes on a node: from its disk, its cache, other nodes or the host, and back.

The door says where an object lies and where a new one goes; the bytes go straight there. A node
reads only what a task given to it names, and leaves only what lies below that task's prefix:
every question carries the task's token, which the host has signed.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from millpond.engine.cluster.cache import Cache, write_checked
from millpond.engine.cluster.door import Door, away, raise_fault
from millpond.engine.cluster.grants import RENEW_SECONDS
from millpond.engine.cluster.leaving import Leaver, Leaving, Small, check_goes_on, hash_part
from millpond.engine.cluster.spool import Spool
from millpond.engine.transfer import create, lay_down
from millpond.engine.values import StoredOutput, TaskSpec, output_key
from millpond.ground.errors import (
    BusyError,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
)
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.disk import NodeDisk
from millpond.storage.nodes.values import Target

T = TypeVar("T")

_SCHEME = "object:"
_PIECE = 1 << 20
_AT_ONCE = 500  # Keys in one question.
_FRESH_SECONDS = 600.0  # Addresses that are older are asked for again.
_ROUNDS, _COPIES = 3, 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Where:
    """What the door said of an object."""

    size: int | None
    digest: str
    sources: tuple[Mapping[str, Any], ...]
    asked_at: float


@dataclass
class _Held:
    """A task that is with this node, and what its token allows."""

    key: str
    prefix: str
    token: Mapping[str, Any]
    reads: Mapping[str, str]
    digests: Mapping[str, str]
    found: dict[str, _Where] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def watched(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass bytes on until the task is stopped."""
        for piece in pieces:
            check_goes_on(self.over.is_set)
            yield piece


class DoorTransfer:
    """A transfer for a node; see ``engine.port.Transfer``. Safe to share between threads."""

    def __init__(
        self,
        door: Door,
        cache: Cache,
        spool: Callable[[Callable[[str, int, bytes], None]], Spool],
        peers: NodeClient,
        *,
        disk: NodeDisk | None = None,
        settle_seconds: float = 900.0,
    ) -> None:
        """Ask this door.

        Args:
            door: the host's.
            cache: what was fetched.
            spool: makes the spool of logs, given what sends a chunk.
            peers: fetches from and leaves on other nodes.
            disk: this node's own data disk, if it has one.
            settle_seconds: how long the end of a task waits for its log to be taken.
        """
        self._door, self._cache, self._peers, self._disk = door, cache, peers, disk
        self._settle_seconds = settle_seconds
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._outside = httpx.Client(timeout=httpx.Timeout(60.0, connect=5.0))
        self._leaver = Leaver(door, peers, self._outside, disk)
        self._spool = spool(self._send_log)

    def close(self) -> None:
        """Stop sending logs and close the connections."""
        self._spool.close()
        self._outside.close()

    # Tasks -----------------------------------------------------------------------------------

    def begin(self, task: TaskSpec, grant: Mapping[str, Any]) -> None:
        """Hold a task's grant from before its first byte is fetched."""
        files = (*task.code, *task.inputs)
        held = _Held(
            key=task.key,
            prefix=task.output_prefix,
            token=dict(grant.get("task", {})),
            reads=dict(grant.get("reads", {})),
            digests={each.url.removeprefix(_SCHEME): each.digest for each in files if each.digest},
        )
        with self._lock:
            self._held[task.key] = held

    def stop(self, key: str) -> None:
        """Fetch and publish nothing more of a task; what waits for the host waits no longer."""
        with self._lock:
            held = self._held.get(key)
        if held is not None:
            held.over.set()

    def end(self, task: TaskSpec) -> None:
        """Wait until the host has the task's log, and let its grant go."""
        try:
            self._spool.settle(task.output_prefix, self._settle_seconds)
        finally:
            with self._lock:
                self._held.pop(task.key, None)

    def renew(self) -> None:
        """Have tokens made anew that get old; called now and then.

        Raises:
            MillpondError: the host is away, or refuses.
        """
        old = time.time() + RENEW_SECONDS
        with self._lock:
            due = [
                held.token
                for held in self._held.values()
                if held.token and held.token["expires_at"] < old
            ]
        if not due:
            return
        answer = self._door.post("tokens", {"tokens": due[:_AT_ONCE]})
        with self._lock:
            for key, token in answer["tokens"].items():
                if key in self._held:
                    self._held[key].token = dict(token)

    def token_of(self, key: str) -> Mapping[str, Any] | None:
        """Give a task's token; None when the task is not here."""
        with self._lock:
            held = self._held.get(key)
            return None if held is None else held.token

    def read_lock(self, digest: str) -> str:
        """Give the lock of a digest that a task here names, and take leave to fetch its wheels."""
        held = self._holder(f"lock:{digest}")
        asked = {"digest": digest, "signature": held.reads[f"lock:{digest}"]}
        answer = self._door.ask("locks", {"task": held.token, **asked})
        with self._lock:
            held.reads = {**held.reads, **answer["wheels"]}
        return str(answer["text"])

    def open(self, key: str) -> Iterator[bytes]:
        """Give the bytes of a small object that a task here may read, such as a wheel."""
        held = self._holder(key)
        yield self._bring(held, key, b"".join)

    def right_to(self, name: str) -> tuple[Mapping[str, Any], str]:
        """Give the token and the signature of a task that may read this.

        Raises:
            NotAllowedError: none that is here may.
        """
        held = self._holder(name)
        return held.token, held.reads[name]

    def _holder(self, name: str) -> _Held:
        with self._lock:
            found = next((each for each in self._held.values() if name in each.reads), None)
        if found is None:
            raise NotAllowedError(
                f"No task on this node may read {name[:200]!r}.",
                next_step="This is a defect of Millpond; please report it with your run's id.",
            )
        return found

    def _writer(self, prefix: str) -> _Held:
        with self._lock:
            found = next((each for each in self._held.values() if each.prefix == prefix), None)
        if found is None:
            raise NotAllowedError(
                f"No task on this node may write below {prefix[:200]!r}.",
                next_step="This is a defect of Millpond; please report it with your run's id.",
            )
        return found

    # Fetching --------------------------------------------------------------------------------

    def fetch(self, url: str, target: bytes, size: int) -> None:
        """Link or copy an object to a new file: from here if it is here, else from where it is.

        Raises:
            InvalidError: the URL is not one of an object.
            NotFoundError: nothing lies there, or not that many bytes.
            BusyError: no copy of it could be had.
        """
        if not url.startswith(_SCHEME):
            raise InvalidError(
                f"{url[:200]!r} is not the address of an object.",
                next_step="This is a defect of Millpond; please report it with your run's id.",
            )
        key = url.removeprefix(_SCHEME)
        held = self._holder(key)
        digest = held.digests.get(key, "")
        handle = self._open_here(digest)
        if handle is None:
            where = self._where(held, key)
            if where.size not in (None, size) or (digest and where.digest not in ("", digest)):
                raise NotFoundError(
                    f"The object {key!r} has {where.size} bytes where {size} were expected.",
                    next_step="It may have been purged or damaged; push the data again.",
                    key=key,
                )
            digest = digest or where.digest
            if not digest:
                self._copy(held, key, target, size)
                return
            handle = self._open_here(digest)
        if handle is None:
            handle = self._bring(
                held, key, lambda pieces: self._cache.make(digest, size, lambda: pieces)
            )
        try:
            lay_down(handle, target)
        finally:
            os.close(handle)

    def _open_here(self, digest: str) -> int | None:
        if not digest:
            return None
        if self._disk is not None:
            with suppress(MillpondError, OSError):
                return os.open(self._disk.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        return self._cache.open(digest)

    def _copy(self, held: _Held, key: str, target: bytes, size: int) -> None:
        """Bring an object whose digest nobody knows: its size is all that can be checked."""

        def write(pieces: Iterable[bytes]) -> None:
            with os.fdopen(create(target), "wb") as file:
                try:
                    write_checked(file.write, pieces, "", size)
                except BaseException:
                    os.unlink(target)  # noqa: PTH108 - bytes, which pathlib refuses.
                    raise

        self._bring(held, key, write)

    def _bring(self, held: _Held, key: str, take: Callable[[Iterable[bytes]], T]) -> T:
        """Let ``take`` have an object's bytes from one source after the other until one is good."""
        fault: MillpondError = NotFoundError(
            "Nobody holds one.", next_step="Run what made it again; it may have been lost.", key=key
        )
        for number in range(_ROUNDS):
            check_goes_on(held.over.is_set)
            where = self._where(held, key, is_anew=number > 0)
            sources = sorted(
                where.sources, key=lambda one: self._peers.is_silent(one.get("node", ""))
            )
            for source in sources:
                try:
                    with closing(self._stream(source, where.digest)) as pieces:
                        return take(held.watched(pieces))
                except MillpondError as found:
                    _log.warning("a copy of %s could not be had: %s", key, found)
                    fault = found
            if number + 1 < _ROUNDS:
                time.sleep(0.5 * (number + 1))
        raise BusyError(
            f"No copy of the object {key!r} could be had. {fault.message}",
            next_step=fault.next_step,
        ) from fault

    def _stream(self, source: Mapping[str, Any], digest: str) -> Generator[bytes]:
        """Give the bytes of a source: a node, an address of the door's, or one of the web."""
        url = str(source["url"])
        if source.get("node"):
            node = Target(str(source["node"]), url, str(source["token"]))
            with self._peers.reading(node, digest) as pieces:
                yield from pieces
            return
        try:
            opened = (
                self._door.stream(url) if url.startswith("/") else self._outside.stream("GET", url)
            )
            with opened as got:
                if got.is_error:
                    got.read()
                raise_fault(got)
                yield from got.iter_raw(_PIECE)
        except httpx.TransportError as fault:
            raise away(url.partition("?")[0], fault) from fault

    def _where(self, held: _Held, key: str, *, is_anew: bool = False) -> _Where:
        """Ask the door where an object lies, and all others of the task that are not known yet."""
        with held.lock:
            known = held.found.get(key)
            now = time.monotonic()
            if known and not is_anew and now - known.asked_at < _FRESH_SECONDS:
                return known
            asked = [key]
            if known is None:
                others = (each for each in held.reads if each not in held.found and each != key)
                asked += [each for each in others if not each.startswith("lock:")]
            pairs = [[each, held.reads[each]] for each in asked[:_AT_ONCE]]
            asked_for = {"task": held.token, "keys": pairs}
            answer = self._door.ask("objects/find", asked_for, held.over.is_set)
            for name, facts in answer["found"].items():
                held.found[name] = _Where(
                    facts["size"], str(facts["digest"]), tuple(facts["sources"]), now
                )
            if key not in answer["found"]:
                raise NotFoundError(
                    f"There is no object {key!r}.",
                    next_step="Check the key; the object may have been purged.",
                    key=key,
                )
            return held.found[key]

    # Publishing, logs ------------------------------------------------------------------------

    def publish(self, prefix: str, path: str, fd: int, size: int) -> StoredOutput:
        """Leave an output where the door says; it counts once the door has taken its name.

        Raises:
            ConflictError: that attempt has published this path before.
            BusyError: there was no room for it, or too few copies could be made.
        """
        held, key = self._writer(prefix), output_key(prefix, path)
        digest = hash_part(fd, size)
        new = Leaving(key, fd, size, digest)
        self._leaver.leave(lambda: held.token, new, held.over.is_set)
        return StoredOutput(path, key, size, digest)

    def publish_small(self, prefix: str, files: Sequence[tuple[str, bytes]]) -> list[StoredOutput]:
        """Leave small outputs together; as ``publish``.

        Raises:
            ConflictError: that attempt has published one of these paths before.
            BusyError: there was no room for them, or too few copies could be made.
        """
        held = self._writer(prefix)
        new = [
            Small(output_key(prefix, path), data, hashlib.sha256(data).hexdigest())
            for path, data in files
        ]
        self._leaver.leave_many(lambda: held.token, new, held.over.is_set)
        return [
            StoredOutput(path, each.key, len(each.data), each.digest)
            for (path, _), each in zip(files, new, strict=True)
        ]

    def append_log(self, prefix: str, sequence: int, data: bytes) -> None:
        """Keep a chunk of a log on this node's disk, on its way to the host."""
        self._spool.put(prefix, sequence, data)

    def _send_log(self, prefix: str, sequence: int, data: bytes) -> None:
        query = {"prefix": prefix, "sequence": sequence}
        token = json.dumps(self._writer(prefix).token)
        self._door.send(
            "POST",
            f"/door/v1/logs?{urlencode(query)}",
            content=data,
            headers={"Millpond-Task": token},
        )
