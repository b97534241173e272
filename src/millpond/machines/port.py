"""Where machines come from: SSH to one that stands there is the first way, clouds are others.

Promises of every source:

- Each call is safe to repeat with the same order, also by another server after a crash: what is
  there already is found again, never made twice.
- Each call says what it will do before it does it, by ``tell``; what ``tell`` raises is let
  through at once, since the job has then passed to another holder or the server is stopping.
- A fault that trying again does not mend is a ``MillpondError`` that says what is wrong on which
  machine, and the next step. One that may pass by itself is a ``BusyError``: it is tried again.
- Nothing secret is told: no key, no password, no join token.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

OrderKind = Literal["add", "upgrade", "remove"]
StepState = Literal["begun", "done", "skipped", "warning", "failed"]


@dataclass(frozen=True)
class MachineOrder:
    """What somebody wants done with a machine; small JSON without secrets.

    Attributes:
        source: which adapter does it, such as ``ssh``.
        kind: ``add`` it as a node, bring it the server's version, or take Millpond off it.
        id: the same for each try; a cloud names the machine after it.
        name: of the node.
        address: name or address of a machine that stands there; empty where one is made.
        user: who to sign in as; not ``root`` means that ``sudo`` must work without a password.
        port: of its SSH server.
        key_file: the private key to sign in with, a file on the host; empty: the server's own.
        data_disk: folder on the machine, on a disk of its own, that holds objects; empty: none.
        slots: at most so many tasks at a time; 0: one per core.
        labels: words about it, such as ``{"room": "cellar"}``.
        host_key: fingerprint of its host key as it was pinned; empty before the first sight.
        facts: whatever else a source needs, such as a cloud's kind of machine.
    """

    source: str
    kind: OrderKind
    id: str
    name: str
    address: str = ""
    user: str = "root"
    port: int = 22
    key_file: str = ""
    data_disk: str = ""
    slots: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    host_key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "MachineOrder":
        """Read back what ``to_json`` gave."""
        return cls(**facts)


@dataclass(frozen=True)
class MachineStep:
    """One line of what is being done, for people.

    Attributes:
        name: short and the same each time, such as ``python`` or ``sandbox``.
        state: ``begun`` says what will be done; ``skipped`` that it was so already.
        text: a sentence without secrets, with the values.
    """

    name: str
    state: StepState
    text: str


@dataclass(frozen=True)
class Machine:
    """A machine that a source has found or made.

    Attributes:
        order: what it was made for.
        address: by which the server reaches it.
        host_key: fingerprint of its SSH host key, ``SHA256:...``, pinned at first sight.
        reference: the source's own name for it, such as a cloud's number; empty for none.
    """

    order: MachineOrder
    address: str
    host_key: str = ""
    reference: str = ""


@dataclass(frozen=True)
class JoinTicket:
    """What ``millpond node join`` on the machine needs.

    Attributes:
        url: this server's address, as machines reach it.
        token: good once and for an hour; a secret, given by standard input, never told.
        version: of Millpond that the machine must have, exactly.
    """

    url: str
    token: str = field(repr=False)
    version: str


Tell = Callable[[MachineStep], None]
MakeTicket = Callable[[], JoinTicket]
"""Make a ticket when it is needed; each call makes another."""


class MachineSource(Protocol):
    """One way to get machines. Safe to call from many threads, for different orders."""

    def introduce(self) -> str:
        """Give what a machine must know before it can be added, such as a public SSH key.

        It is shown to administrators to be copied; empty when nothing is needed. The first call
        may make a key.
        """
        ...

    def create(self, order: MachineOrder, tell: Tell) -> Machine:
        """Find the machine of an order, or make it; nothing is installed on it yet.

        Over SSH: reach it, pin its host key or compare it with ``order.host_key``, look what it
        is, tell what will be installed, and refuse what cannot become a node.

        Raises:
            InvalidError: it cannot become a node; every reason at once.
            NotAllowedError: the key or the user is refused, or there is no ``sudo``.
            ConflictError: the host key changed, or it is a node of another installation.
            BusyError: it does not answer now.
        """
        ...

    def wait(self, machine: Machine, tell: Tell) -> Machine:
        """Wait until it takes commands; give it with the address and host key that it got.

        Raises:
            BusyError: it did not come up in the source's own time.
        """
        ...

    def join(self, machine: Machine, make_ticket: MakeTicket, tell: Tell) -> None:
        """Install what a node needs, join it with a ticket, and start its service.

        A machine that is this node already, with a sound certificate, keeps it: only what is
        missing is done. Returns once the service runs; the caller waits for the first heartbeat.
        """
        ...

    def upgrade(self, machine: Machine, version: str, tell: Tell) -> None:
        """Bring a node this version of Millpond and start its service again.

        It keeps its key, its certificate and its data. If the new version does not start, the
        one before runs again and the fault says why.
        """
        ...

    def remove(self, machine: Machine, tell: Tell) -> None:
        """Stop the service and take its key off the machine; a cloud's machine is deleted.

        What lies on a data disk stays, unless the machine itself goes. A machine that is gone
        already is no fault.
        """
        ...
