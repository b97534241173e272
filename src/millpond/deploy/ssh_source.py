"""Machines that stand there already, reached over SSH: the first source of machines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from millpond.deploy import upgrading
from millpond.deploy.ensure import Setup
from millpond.deploy.judging import Wanted
from millpond.deploy.mending import stop_service
from millpond.deploy.places import HOST_FOLDER, NODE_FOLDER, PREFIX, SERVER_UNIT, UNIT_FOLDER
from millpond.deploy.ssh import Login, Pins, Remote, open_remote, own_key
from millpond.deploy.target import must
from millpond.deploy.wheelhouse import Wheelhouse
from millpond.ground.errors import BusyError, ConflictError
from millpond.machines.port import Machine, MachineOrder, MachineStep, MakeTicket, Tell
from millpond.machines.values import DATA_PORT, WORKER_PORT

# Where a server lives on the same machine, what it runs from is left alone.
_REMOVE = f"""rm -rf {NODE_FOLDER}
[ -e {HOST_FOLDER}/server.json ] || [ -e {UNIT_FOLDER}/{SERVER_UNIT} ] || rm -rf {PREFIX}"""


class SshSource:
    """Sets up machines over SSH. Safe for many threads, for different machines."""

    def __init__(
        self,
        keys: Path,
        wheelhouse: Wheelhouse,
        *,
        version: str,
        installation: Callable[[], str],
    ) -> None:
        """Keep what it works with; keys are made when somebody asks for them.

        Args:
            keys: folder of our own key and of the pinned host keys.
            wheelhouse: what nodes are installed from.
            version: of Millpond.
            installation: gives the fingerprint of the authority.
        """
        self._keys, self._wheelhouse = keys, wheelhouse
        self._version, self._installation = version, installation

    def introduce(self) -> str:
        """Give the public key that a machine must know."""
        return own_key(self._keys).with_suffix(".pub").read_text().strip()

    def create(self, order: MachineOrder, tell: Tell) -> Machine:
        """Reach a machine, pin its host key, and say what will be done.

        Raises:
            InvalidError, NotAllowedError, ConflictError, BusyError: as the port says.
        """
        tell(MachineStep("reach", "begun", f"Reaching {_login(order, ()).title} by SSH."))
        with self._open(order) as remote:
            pinned = "as pinned" if order.host_key else "pinned now"
            tell(MachineStep("reach", "done", f"Its host key is {remote.host_key}, {pinned}."))
            self._gather()
            self._setup(order, remote).plan(tell)
            return Machine(order, order.address, remote.host_key)

    def wait(self, machine: Machine, tell: Tell) -> Machine:
        """Give it back: it stands there."""
        del tell
        return machine

    def join(self, machine: Machine, make_ticket: MakeTicket, tell: Tell) -> None:
        """Install what it lacks, join it, start its service."""
        with self._open(_pinned(machine)) as remote:
            self._gather()
            self._setup(machine.order, remote).carry_out(make_ticket, tell)

    def upgrade(self, machine: Machine, version: str, tell: Tell) -> None:
        """Bring it this version, or leave it as it was.

        Raises:
            ConflictError: the new version does not stay; the one before runs again.
        """
        if version != self._version:
            raise ConflictError(
                f"This server is Millpond {self._version}, and cannot install {version}.",
                next_step="Upgrade the host first: ./dev cluster does it.",
            )
        with self._open(_pinned(machine)) as remote:
            self._gather()
            upgrading.upgrade(self._setup(machine.order, remote), tell)

    def remove(self, machine: Machine, tell: Tell) -> None:
        """Stop the service and take the node's key off it; its data disk stays as it is."""
        try:
            with self._open(_pinned(machine)) as remote:
                tell(MachineStep("remove", "begun", "Stopping the service and removing its keys."))
                stop_service(remote)
                must(remote, _REMOVE, "removing Millpond", seconds=300)
                tell(MachineStep("remove", "done", "Millpond is gone from it."))
        except BusyError as fault:
            text = f"{fault.message} It is taken for gone; its certificate is revoked."
            tell(MachineStep("remove", "warning", text))

    def _gather(self) -> None:
        self._wheelhouse.gather_wheel()
        self._wheelhouse.gather_debs()

    @contextmanager
    def _open(self, order: MachineOrder) -> Iterator[Remote]:
        keys = (Path(order.key_file),) if order.key_file else (own_key(self._keys),)
        with open_remote(_login(order, keys), Pins(self._keys), pinned=order.host_key) as remote:
            yield remote

    def _setup(self, order: MachineOrder, remote: Remote) -> Setup:
        wanted = Wanted(
            name=order.name,
            version=self._version,
            installation=self._installation(),
            data_disk=order.data_disk,
            ports=_ports(order),
        )
        return Setup(remote, self._wheelhouse, wanted, order.slots)


def _login(order: MachineOrder, keys: tuple[Path, ...]) -> Login:
    return Login(order.address, order.user or "root", order.port or 22, keys)


def _pinned(machine: Machine) -> MachineOrder:
    return replace(machine.order, host_key=machine.host_key or machine.order.host_key)


def _ports(order: MachineOrder) -> tuple[tuple[int, str], ...]:
    worker = ((WORKER_PORT, "worker"),)
    return ((DATA_PORT, "data"), *worker) if order.data_disk else worker
