"""Check who is at the other end of each of Dask's connections, and what they may ask for.

Dask itself lets every certificate of its authority play every role, and unpickles what it is sent.
Here a connection shows who it is (``ground.tls``), an operation that its role has no right to is
answered with a refusal, and nothing that came from a node is ever unpickled on the host.
"""

# mypy: allow-untyped-calls
# Dask has types for a part of its functions only.

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from distributed.comm.core import CommClosedError
from distributed.comm.tcp import TLS
from distributed.core import Server, error_message
from distributed.protocol import pickle as dask_pickle
from distributed.protocol.serialize import Serialize, Serialized

from millpond.ground.errors import NotAllowedError
from millpond.ground.tls import Peer, peer_of

_log = logging.getLogger(__name__)
_may_unpickle: ContextVar[bool] = ContextVar("may_unpickle", default=True)
_DEEPEST = 32
_REGISTER = "register-worker"

Check = Callable[[Peer | None, Any], str]
"""Says why a message of a peer is refused, or nothing; the message None stands for connecting."""


def guard(server: Server, check: Check) -> None:
    """Check each peer and message of a server's listeners, those that it opens later too."""
    _patch_loads()
    listen = server.listen

    async def listen_guarded(*args: Any, **kwargs: Any) -> None:
        await listen(*args, **kwargs)
        listener: Any = server.listeners[-1]
        listener.comm_class = _make_comm_class(check)

    setattr(server, "listen", listen_guarded)  # noqa: B010 - mypy knows no other way to say so.


def refusal(why: str, *, is_worker: bool) -> dict[str, Any]:
    """Give the answer that refuses: a client raises it, a worker that registers shows it."""
    if is_worker:  # It reads no objects at this point.
        return {"status": "error", "message": why, "time": time.time()}
    fault = NotAllowedError(why, next_step="Use the certificate that was made for this.")
    return dict(error_message(fault, status="uncaught-error"))


def peer_at(comm: Any) -> Peer | None:
    """Tell who is at the other end of a connection that came in."""
    return peer_of(comm.extra_info.get("peercert"))


@contextmanager
def no_unpickling() -> Iterator[None]:
    """Unpickle nothing within: for answers of a node."""
    token = _may_unpickle.set(False)
    try:
        yield
    finally:
        _may_unpickle.reset(token)


def is_plain(message: Any, depth: int = 0) -> bool:
    """Tell whether a message is only numbers, text, bytes, lists and mappings of these."""
    if isinstance(message, Serialize | Serialized) or depth > _DEEPEST:
        return False
    if isinstance(message, Mapping):
        return all(
            is_plain(key, depth + 1) and is_plain(value, depth + 1)
            for key, value in message.items()
        )
    if isinstance(message, list | tuple | set | frozenset):
        return all(is_plain(each, depth + 1) for each in message)
    return message is None or isinstance(message, str | bytes | int | float)


def _make_comm_class(check: Check) -> type[TLS]:
    class CheckedTLS(TLS):
        """A connection that came in: says who it is, and reads only what they may send."""

        async def read(self, deserializers: Any = None) -> Any:
            """Read a message; a refused one is answered, logged, and ends the connection."""
            peer = peer_at(self)
            if peer is not None and peer.role == "host":
                message = await super().read(deserializers)
            else:
                self.deserialize = False
                with no_unpickling():
                    message = await super().read(deserializers)
            if self.handshake_options:  # Before, it is only Dask's own greeting.
                why = check(peer, None) or check(peer, message)
                if why:
                    is_worker = isinstance(message, dict) and message.get("op") == _REGISTER
                    await self._refuse(peer, why, is_worker=is_worker)
            return message

        async def _refuse(self, peer: Peer | None, why: str, *, is_worker: bool) -> None:
            who = f"{peer.role} {peer.name}" if peer else "a peer whose certificate names no role"
            _log.warning("refused %s at %s: %s", who, self.peer_address, why)
            with suppress(OSError):
                await self.write(refusal(why, is_worker=is_worker))
                await self.close()
            self.abort()
            raise CommClosedError(why)

    return CheckedTLS


def _patch_loads() -> None:
    """Ask before each unpickling in this process whether it is allowed here."""
    loads = dask_pickle.loads
    if getattr(loads, "is_guarded", False):
        return

    def loads_guarded(*args: Any, **kwargs: Any) -> Any:
        if not _may_unpickle.get():
            raise NotAllowedError(
                "A node sent a message that would run code here.",
                next_step="Drain and remove the node, and look at what happened on it.",
            )
        return loads(*args, **kwargs)

    loads_guarded.is_guarded = True  # type: ignore[attr-defined]
    dask_pickle.loads = loads_guarded
