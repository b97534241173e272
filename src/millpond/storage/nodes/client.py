"""Calls to a node's data route: over mutual TLS, with short waits, never a whole file in memory."""

import json
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from millpond.ground.errors import (
    BusyError,
    ConflictError,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
    TooLargeError,
)
from millpond.ground.tls import Identity, node_host_name
from millpond.storage.nodes import tokens
from millpond.storage.nodes.mount import NoSpaceError
from millpond.storage.nodes.values import Held, Receipt, Target, Waits

BATCH_BYTES, BATCH_OBJECTS = 16 << 20, 2000
"""A batch of small objects holds at most so much: a node keeps it in memory."""

_PIECE_BYTES = 1 << 20
_KEPT_SECONDS = 30.0  # Less than the node keeps a connection, so that ours is never a dead one.
_WRITE_SECONDS = 10.0
_SILENT_SECONDS = 5
_REMEMBERED_SECONDS = 20.0  # By then the server has noticed too, and names it no more.
_SOCKET_OPTIONS = (
    # A node may flush for a minute before it answers. Whether it is still there, the kernels
    # find out between themselves: a cut cable is noticed in five seconds all the same.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_SECONDS * 1000),
)
_ANSWER_BYTES = 4 << 20
"""No receipt is longer; more is a node that wants to fill the caller's memory."""
_LINE_BYTES = 100
_RECEIPT_SECONDS, _FLUSHED_A_SECOND = 10.0, 20 << 20
_WORKED_A_SECOND = 4 << 20  # What a node reads through or sends on, at the least.
_LINE = struct.Struct(">I")
_FAULTS: dict[int, type[MillpondError]] = {
    fault.status: fault
    for fault in (NotAllowedError, NotFoundError, ConflictError, TooLargeError, InvalidError)
}
_FAULTS[507] = NoSpaceError
_MISSING, _DAMAGED = 404, 410
_HELD = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,18})")


class NodeSilentError(BusyError):
    """The node does not answer, or broke off."""


def receipt_seconds(size: int) -> float:
    """Give how long a receipt for so many bytes is waited for while another node could give one."""
    return _RECEIPT_SECONDS + size / _FLUSHED_A_SECOND


class NodeClient:
    """Speaks to nodes. Safe to share between threads.

    Every call names its target: the node, the address of its data route, and a token.
    """

    def __init__(self, identity: Identity, waits: Waits | None = None) -> None:
        """Show this certificate, and wait no longer than this."""
        self._waits = waits or Waits()
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEPT_SECONDS
        )
        transport = httpx.HTTPTransport(
            verify=identity.client_context(),
            trust_env=False,
            limits=limits,
            socket_options=_SOCKET_OPTIONS,
        )
        self._http = httpx.Client(transport=transport, trust_env=False)
        self._silent: dict[str, float] = {}

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def is_silent(self, node: str) -> bool:
        """Tell whether a node did not answer a moment ago: others are to be asked before it.

        A connection to a machine that is gone looks well until somebody has waited for it. Whoever
        asks one after the other waits once, not each time.
        """
        return time.monotonic() - self._silent.get(node, -_REMEMBERED_SECONDS) < _REMEMBERED_SECONDS

    def put(
        self, target: Target, content: bytes | Iterable[bytes], wait: float | None = None
    ) -> Receipt:
        """Leave an object and give the node's receipt, whose signature is not checked here.

        Args:
            target: where to.
            content: the bytes.
            wait: seconds for the receipt, where another node could be asked; a minute otherwise.

        Raises:
            NodeSilentError: it does not answer.
            NoSpaceError: its disk is full.
            InvalidError: the bytes do not match the token's digest.
        """
        path = f"incoming/{uuid4().hex}"
        return _receipt(target, self._ask("PUT", target, path, wait, content=content))

    def put_many(
        self, target: Target, objects: Sequence[bytes], wait: float | None = None
    ) -> Receipt:
        """Leave many small objects in one call."""
        body = b"".join(part for data in objects for part in (_LINE.pack(len(data)), data))
        return _receipt(target, self._ask("POST", target, "batch", wait, content=body))

    @contextmanager
    def reading(
        self, target: Target, digest: str, start: int = 0, length: int | None = None
    ) -> Iterator[Iterator[bytes]]:
        """Open an object, or a range of it, to be read piece by piece within the block.

        Raises:
            NotFoundError: it is not there.
            NodeSilentError: the node does not answer; also while the pieces are read.
        """
        headers = {}
        if start or length is not None:
            end = "" if length is None else start + length - 1
            headers["Range"] = f"bytes={start}-{end}"
        with (
            self._told(target),
            self._http.stream(
                "GET", f"{target.url}/data/{digest}", **self._options(target, headers)
            ) as answer,
        ):
            self._silent.pop(target.node, None)
            _check(target, answer)
            yield answer.iter_raw(_PIECE_BYTES)

    def delete(self, target: Target, digest: str) -> None:
        """Delete an object; one that is not there is fine.

        Raises:
            ConflictError: it was left there lately, or the node remembers more than the server.
        """
        self._ask("DELETE", target, digest)

    def check(self, target: Target, digest: str, size: int = 0) -> bool:
        """Let the node hash its file of so many bytes anew; False when it is damaged or missing."""
        try:
            self._ask("POST", target, f"{digest}/check", self._work_seconds(size))
        except NotFoundError:
            return False
        return True

    def push(self, target: Target, digest: str, onward: Target, size: int = 0) -> Receipt:
        """Let the node send its copy of so many bytes to another node; give that one's receipt.

        Raises:
            NotFoundError: the node has no good copy; a damaged one is set aside.
            NodeSilentError: one of the two does not answer.
        """
        said = {"node": onward.node, "url": onward.url, "token": onward.token}
        wait = self._work_seconds(size)
        return _receipt(onward, self._ask("POST", target, f"{digest}/push", wait, json=said))

    def inventory(self, target: Target, after: str = "") -> Iterator[Held]:
        """Give all that lies on the node, in the order of the digests."""
        with (
            self._told(target),
            self._http.stream(
                "GET",
                f"{target.url}/data/inventory",
                params={"after": after},
                **self._options(target, {}, self._waits.flush),
            ) as answer,
        ):
            _check(target, answer)
            yield from read_inventory(target.node, answer.iter_raw(_PIECE_BYTES))

    def _ask(
        self, method: str, target: Target, path: str, wait: float | None = None, **content: Any
    ) -> bytes:
        with (
            self._told(target),
            self._http.stream(
                method,
                f"{target.url}/data/{path}",
                **content,
                **self._options(target, {}, wait or self._waits.flush),
            ) as answer,
        ):
            self._silent.pop(target.node, None)
            _check(target, answer)
            return _read(target, answer)

    def _work_seconds(self, size: int) -> float:
        """A node that reads through a large object says nothing before it has done so."""
        return self._waits.flush + size / _WORKED_A_SECOND

    def _options(
        self, target: Target, headers: dict[str, str], wait: float | None = None
    ) -> dict[str, Any]:
        return {
            "headers": {**headers, **tokens.header(target.token), "Accept-Encoding": "identity"},
            "extensions": {"sni_hostname": node_host_name(target.node)},
            "timeout": httpx.Timeout(
                connect=self._waits.connect,
                read=self._waits.answer if wait is None else wait,
                write=_WRITE_SECONDS,
                pool=None,
            ),
        }

    @contextmanager
    def _told(self, target: Target) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.InvalidURL) as fault:
            self._silent[target.node] = time.monotonic()
            raise NodeSilentError(
                f"The node {target.node!r} does not answer at {target.url}:"
                f" {str(fault) or type(fault).__name__}.",
                next_step="It is tried again by itself; if it goes on, look at the node with"
                " `millpond node doctor`.",
            ) from fault


def batch_frame(count: int) -> int:
    """Give the bytes that frame so many objects of a batch."""
    return _LINE.size * count


def split_batch(body: bytes) -> list[bytes]:
    """Take a batch apart.

    Raises:
        ValueError: it is cut off.
    """
    objects, place, view = [], 0, memoryview(body)
    while place < len(view):
        if place + _LINE.size > len(view):
            raise ValueError("the batch is cut off")
        (size,) = _LINE.unpack_from(view, place)
        place += _LINE.size
        if place + size > len(view):
            raise ValueError("the batch is cut off")
        objects.append(bytes(view[place : place + size]))
        place += size
    return objects


def read_inventory(node: str, pieces: Iterable[bytes]) -> Iterator[Held]:
    """Read what a node says it holds, as it comes: each digest once, in their order.

    Raises:
        NodeSilentError: it is no inventory.
    """
    rest, last = b"", ""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in (*lines, *([rest] if len(rest) > _LINE_BYTES else ())):
            found = _HELD.fullmatch(line)
            digest = found[1].decode() if found else ""
            if found is None or digest <= last:
                raise _no_inventory(node)
            last = digest
            yield Held(digest, int(found[2]))
    if rest:
        raise _no_inventory(node)


def _no_inventory(node: str) -> NodeSilentError:
    return NodeSilentError(
        f"What the node {node!r} says it holds cannot be read.",
        next_step="Look at the node: whoever is root there may have changed what runs on it.",
    )


def _read(target: Target, answer: httpx.Response) -> bytes:
    """Read an answer whole, as it was sent, up to its bound."""
    data = bytearray()
    for piece in answer.iter_raw(_PIECE_BYTES):
        data += piece
        if len(data) > _ANSWER_BYTES:
            raise NodeSilentError(
                f"The node {target.node!r} answers more than {_ANSWER_BYTES:,} bytes.",
                next_step="Look at the node: whoever is root there may have changed what runs on"
                " it.",
            )
    return bytes(data)


def _check(target: Target, answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        said = json.loads(_read(target, answer))
        message, step = str(said["message"])[:1000], str(said["next_step"])[:1000]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"The node {target.node!r} answers {answer.status_code}."
        step = "Look at the node's log."
    status = _MISSING if answer.status_code == _DAMAGED else answer.status_code
    raise _FAULTS.get(status, BusyError)(message, next_step=step)


def _receipt(target: Target, answer: bytes) -> Receipt:
    try:
        receipt = Receipt.from_json(json.loads(answer))
    except (ValueError, RecursionError, AttributeError) as fault:
        raise NodeSilentError(
            f"The node {target.node!r} gives no receipt.", next_step="Look at the node's log."
        ) from fault
    if receipt.node != target.node:
        raise NodeSilentError(
            f"The node {target.node!r} gives a receipt of {receipt.node!r}.",
            next_step="Look at the node: two of them may share an address.",
        )
    return receipt
