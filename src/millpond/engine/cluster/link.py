"""One connection of the host to the scheduler. It is thrown away at the first trouble.

Dask is loaded when the first one is made, so that a server without nodes does not load it.
"""

# mypy: allow-untyped-calls
# Dask has types for a part of its functions only.

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from millpond.engine.cluster.pace import CONFIGURATION
from millpond.engine.cluster.running import run_task
from millpond.engine.cluster.security import make_security
from millpond.engine.cluster.wire import PREFIX
from millpond.ground.errors import BusyError
from millpond.ground.tls import Identity

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 10

OnFinished = Callable[[str, str], None]
"""Hears of a task's key and of ``finished``, ``error``, ``cancelled`` or ``lost``."""


def _client_class() -> Any:
    """Make the kind of client that unpickles nothing a worker has said.

    Dask's own does so with the type of each result and with what is logged under "warn". The
    scheduler lets neither through; this holds also if it did.
    """
    from distributed import Client

    class PlainClient(Client):
        _default_event_handlers: dict[str, Any] = {}  # noqa: RUF012 - as in Dask's own class.

        def _handle_key_in_memory(
            self,
            key: Any = None,
            type: Any = None,  # noqa: A002 - as in Dask's own class.
            workers: Any = None,
        ) -> None:
            del type
            super()._handle_key_in_memory(key=key, type=None, workers=workers)

    return PlainClient


class Link:
    """A client of the scheduler with the role of the host. Safe to call from many threads."""

    def __init__(
        self, url: str, identity: Identity, on_finished: OnFinished, on_change: Callable[[], None]
    ) -> None:
        """Connect.

        Raises:
            BusyError: no scheduler answers there, or it is not ours.
        """
        import dask

        dask.config.set(CONFIGURATION)
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # We tell of losses.
        self._on_finished = on_finished
        self._futures: dict[str, Any] = {}
        self._numbers = count()
        try:
            self._client: Any = _client_class()(
                url,
                security=make_security(identity),
                timeout=_CONNECT_SECONDS,
                set_as_default=False,
            )
        except (OSError, RuntimeError, ValueError, TimeoutError) as fault:
            raise BusyError(
                f"The scheduler at {url} does not answer: {fault.__cause__ or fault}",
                next_step="Start its service (`systemctl start millpond-scheduler`), and look at"
                " what it says.",
            ) from fault
        self._client.subscribe_topic("all", lambda _event: on_change())

    @property
    def is_alive(self) -> bool:
        """Whether the connection is there."""
        return bool(self._client.status == "running")

    def look(self, *, is_fresh: bool) -> tuple[str, dict[str, Mapping[str, Any]]]:
        """Give the scheduler's own name, and what each node says of itself, by address.

        Args:
            is_fresh: whether each node is asked at this moment; else its last word counts.

        Raises:
            OSError: the connection is gone.
        """
        found = self._ask("millpond_look", is_fresh=is_fresh)
        return str(found["id"]), found["nodes"]

    def submit(self, key: str, address: str, data: bytes) -> None:
        """Send an order to the node at this address, and to no other.

        Raises:
            BusyError: the connection is gone.
        """
        if not self.is_alive:
            raise BusyError(
                "The scheduler does not answer now.", next_step="The task is tried again."
            )
        from distributed import fire_and_forget

        try:
            future = self._client.submit(
                run_task,
                data,
                key=(PREFIX, key, next(self._numbers), self._client.id),
                workers=[address],
                allow_other_workers=False,
                pure=False,
            )
            self._futures[key] = future
            fire_and_forget(future)  # It goes on when this server ends.
        except Exception as fault:  # Of any kind, when the connection goes in this moment.
            raise BusyError(
                f"The task could not be sent to its node: {fault}",
                next_step="The task is tried again.",
            ) from fault
        future.add_done_callback(lambda done: self._on_finished(key, str(done.status)))

    def forget(self, key: str) -> None:
        """Let go of a task; Dask stops and forgets it if it still has it."""
        future = self._futures.pop(key, None)
        if future is None or not self.is_alive:
            return
        if not future.done():
            with suppress(Exception):  # The connection may have gone this very moment.
                self._client.loop.add_callback(self._client._cancel, [future], force=True)  # noqa: SLF001 - the public one waits.
        future.release()

    def cancel(self, key: str, address: str) -> None:
        """Have a node stop a task; returns at once."""
        scheduler = self._client.scheduler

        async def ask() -> None:
            with suppress(Exception):  # It is asked again while the task is there.
                await scheduler.millpond_cancel(key=key, worker=address)

        if self.is_alive:
            self._client.loop.add_callback(ask)

    def recall(self, keys: Iterable[str], address: str = "") -> dict[str, dict[str, bytes]]:
        """Ask one node or all for reports, by address; empty bytes for a task that runs.

        Raises:
            OSError: the connection is gone.
        """
        found: dict[str, dict[str, bytes]] = self._ask(
            "millpond_recall", keys=list(keys), worker=address or None
        )
        return found

    def close(self) -> None:
        """Close the connection; tasks go on."""
        self._futures.clear()
        with suppress(Exception):  # It may be broken in any way: that is why it is closed.
            self._client.unsubscribe_topic("all")
            self._client.close(timeout=2)

    def _ask(self, name: str, **facts: Any) -> Any:
        if not self.is_alive:  # Dask would try to connect again for some seconds.
            raise OSError("the connection to the scheduler is gone")
        try:
            return self._client.sync(
                getattr(self._client.scheduler, name), callback_timeout=_ANSWER_SECONDS, **facts
            )
        except OSError:
            raise
        except Exception as fault:
            raise OSError(str(fault)) from fault
