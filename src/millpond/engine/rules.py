"""Pure decisions: whether code may run without a sandbox, how a task ended, who is next."""

import hashlib
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from millpond.engine.values import Limits, NodeInfo, Outcome, TaskSpec
from millpond.ground.errors import Fault, InvalidError, NotAllowedError

UIDS = (61_000, 61_999)
"""The range of uids that users' sandboxes run under when Millpond is root."""

PASSES_MOST = 8
"""How often a task that does not fit yet is passed over before the others must wait for it."""

NEAR_BYTES = 8 << 20
"""Inputs up to this size are moved so quickly that it does not matter where they lie."""

NO_LIMITS = Limits(cpu_slots=0, memory_bytes=0)
"""Of a task that takes nothing any more."""

_IDLE_SHARE = 0.01
SLACK = 1e-6


@dataclass(frozen=True)
class Unisolated:
    """What decides whether code may run without a sandbox.

    Attributes:
        is_allowed: whether an administrator has said so in the settings.
        is_loopback: whether the server listens on loopback only.
        accounts: how many people have an account.
    """

    is_allowed: bool = False
    is_loopback: bool = False
    accounts: int = 0


def may_run_unisolated(facts: Unisolated) -> bool:
    """Allow it by an administrator's setting, or for a single account on loopback."""
    return facts.is_allowed or (facts.is_loopback and facts.accounts <= 1)


def check_isolation(node: NodeInfo, facts: Unisolated) -> None:
    """Refuse to run code without a sandbox where others could be hurt by it.

    Raises:
        NotAllowedError: the node has no sandbox, and this is not a single account on loopback.
    """
    if node.isolated or may_run_unisolated(facts):
        return
    raise NotAllowedError(
        f"The node {node.name} can't isolate programs ({node.reason}), and this server has other"
        " accounts or listens to other machines, so no program is run.",
        next_step="Run `millpond doctor` on the node: it says how to make the sandbox work. Or an"
        " administrator may set engine.allow_unisolated = true, which lets every user's program"
        " read what the server can read.",
        node=node.name,
    )


def choose_uid(user_id: str, uids: tuple[int, int] = UIDS) -> int:
    """Give a user's uid: the same each time, spread over the range."""
    first, last = uids
    number = int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:8], "big")
    return first + number % (last - first + 1)


def needs_fresh(code: int | None, why: str, cpu_seconds: float, wall_seconds: float) -> bool:
    """Tell whether an end looks like a library that does not survive a fork.

    A lock held by a thread that the child lacks hangs without using the CPU; a broken pool of
    threads ends in a segmentation fault.
    """
    hung = why == "timed_out" and cpu_seconds < _IDLE_SHARE * wall_seconds
    return hung or (not why and (code is None or code == -signal.SIGSEGV))


_FULL_SIGNS = ("No space left on device", "Disk quota exceeded")
_FULL_BYTES = 64 << 10
_FULL_STEP = (
    "Have an administrator free space on the server, in the folder of running tasks"
    " (engine.scratch_folder, else `scratch` in the data folder), or set it to a larger disk;"
    " `millpond doctor` there shows the space left. Then start the run again."
)


def tell_end(
    code: int | None, why: str, reason: str, memory_kills: int, limits: Limits, last_line: str = ""
) -> tuple[Outcome, str]:
    """Give the outcome of a task and the reason in words for people.

    Args:
        code: of its process; negative for a signal.
        why: what ended it from outside, if anything did.
        reason: the same in words.
        memory_kills: how often the system killed one of its processes for want of memory.
        limits: of the task.
        last_line: what its log ends with: the user's word, shown as that.
    """
    if why == "cancelled":
        return "cancelled", "It was cancelled."
    if why == "timed_out":
        return "timed_out", (
            f"It ran longer than its limit of {limits.seconds:g} seconds. Give it less to do at"
            " once, or more time (seconds)."
        )
    if code == 0 and not why:
        return "done", ""
    if why == "limit":
        told = f"It was stopped: {reason}."
    elif memory_kills:
        told = (
            f"It needed more memory than its limit of {size_in_words(limits.memory_bytes)}."
            " Give it less at once, or more memory (memory)."
        )
    elif code is None:
        told = f"Its sandbox went down: {reason}."
    elif code == -signal.SIGXFSZ:
        told = (
            f"It wrote a file longer than its limit of {size_in_words(limits.disk_bytes)}."
            " Write less, or ask for more (disk)."
        )
    elif code < 0:
        told = f"It was ended by signal {_signal_name(-code)}."
    else:
        ends = f", which ends: {last_line}" if last_line else "."
        told = f"It ended with exit code {code}; see its log{ends}"
    if any(sign in last_line for sign in _FULL_SIGNS):
        told = (
            f"{told.rstrip('.')}. No space was left where it wrote: /tmp and /dev/shm are no larger"
            " than its memory, so give it more (memory) or write to its output folder. If that was"
            f" full: {_FULL_STEP}"
        )
    return "failed", told


def tell_fault(fault: BaseException, told: str) -> str:
    """Say why a task could not be run: a full disk with what to do, else what is ``told``."""
    if any(sign in str(fault) for sign in _FULL_SIGNS):
        return f"The disk that holds the folder of running tasks is full. {_FULL_STEP}"
    return told


def tell_full(reason: str, free_bytes: int) -> str:
    """Add to why a task failed that its disk has no space left, unless it says so."""
    if free_bytes >= _FULL_BYTES or _FULL_STEP in reason:
        return reason
    return f"{reason} The disk that holds the folder of running tasks is full. {_FULL_STEP}"


def size_in_words(size: int) -> str:
    """Give bytes as people say them, exactly: ``128 MiB``, or bytes where it is no whole number."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def _signal_name(number: int) -> str:
    names: Mapping[int, str] = {each.value: each.name for each in signal.Signals}
    return names.get(number, str(number))


def fits(task: TaskSpec, node: NodeInfo) -> bool:
    """Tell whether a node has room for a task now."""
    limits, free = task.limits, node.free_slots
    if task.grants.gateway:
        if not node.is_host:
            return False
    elif node.free_ordinary_slots is not None:
        free = min(free, node.free_ordinary_slots)
    return (
        not node.is_draining
        and not node.paused
        and limits.cpu_slots <= free + SLACK
        and limits.memory_bytes <= node.free_memory_bytes
        and limits.gpus <= node.free_gpus
    )


def may_wait(task: TaskSpec, node: NodeInfo) -> bool:
    """Tell whether a task may wait on a node for slots; its sandbox needs memory meanwhile.

    Not for graphics processors: a sandbox is made ready around those that its task is given.
    """
    idle = replace(
        node,
        free_slots=node.slots,
        free_gpus=node.gpus,
    )
    return node.takes_ahead and not task.limits.gpus and fits(task, idle)


_CAPPED = ("memory_bytes", "disk_bytes", "processes", "seconds")


def check_caps(task: TaskSpec, caps: Limits) -> None:
    """Refuse a task that asks for more than this installation gives to one task.

    Raises:
        InvalidError: each limit that is above its cap.
    """
    faults = [
        Fault(name, f"asks for {asked:,}, and this installation gives a task {most:,} at most")
        for name in _CAPPED
        if (asked := getattr(task.limits, name)) > (most := getattr(caps, name))
    ]
    if faults:
        raise InvalidError(
            "The task asks for too much: "
            + "; ".join(f"{each.field} {each.message}" for each in faults)
            + ".",
            next_step="Ask for less in the step; an administrator can raise engine.task_* in the"
            " settings.",
            faults=faults,
        )


def check_can_ever_fit(task: TaskSpec, nodes: Sequence[NodeInfo]) -> None:
    """Refuse a task that no node could take even when idle.

    Raises:
        InvalidError: each limit that is larger than the largest node's; or no node has all of it.
    """
    limits, faults = task.limits, []
    if task.grants.gateway and not any(node.is_host for node in nodes):
        raise InvalidError(
            "A task with a gateway runs on the server's own machine only, which runs none here.",
            next_step="This is a defect of Millpond; please report it with the task's id.",
        )
    has_nodes = any(not node.is_host for node in nodes)
    if not (task.grants.gateway or has_nodes) and any(n.ordinary_slots is not None for n in nodes):
        return  # All nodes are away now: they come back, and until then the task waits.
    for name, asked, most in (
        ("slots", limits.cpu_slots, max((_slots_for(task, n) for n in nodes), default=0)),
        ("memory_bytes", limits.memory_bytes, max((n.memory_bytes for n in nodes), default=0)),
        ("gpus", limits.gpus, max((n.gpus for n in nodes if _slots_for(task, n)), default=0)),
    ):
        if asked > most:
            faults.append(Fault(name, f"asks for {asked:g}, and the largest node has {most:g}"))
    if faults:
        raise InvalidError(
            "The task asks for more than any node has: "
            + "; ".join(f"{each.field} {each.message}" for each in faults)
            + ".",
            next_step="Ask for less in the step, or add a larger node.",
            faults=faults,
        )
    if nodes and not any(_holds(task, node) for node in nodes):
        raise InvalidError(
            f"No one node has all that the task asks for: {limits.cpu_slots:g} slots,"
            f" {size_in_words(limits.memory_bytes)} of memory, {limits.gpus} graphics processors.",
            next_step="Ask for less of one of them in the step, or add a node that has it all.",
        )


def _holds(task: TaskSpec, node: NodeInfo) -> bool:
    """Tell whether a node would have room for a task if it were idle."""
    limits = task.limits
    return (
        (node.is_host or not task.grants.gateway)
        and limits.cpu_slots <= _slots_for(task, node)
        and limits.memory_bytes <= node.memory_bytes
        and limits.gpus <= node.gpus
    )


def _slots_for(task: TaskSpec, node: NodeInfo) -> float:
    if task.grants.gateway or node.ordinary_slots is None:
        return node.slots
    return node.ordinary_slots


@dataclass(frozen=True)
class Head:
    """The first waiting task of one user in one project.

    Attributes:
        project: the project.
        user: the user.
        task: the task.
        passes: how often others were started because it did not fit.
        waiting_since: a number that rises with time; the oldest of the starved goes first.
        held: how many bytes of its inputs lie on which node.
    """

    project: str
    user: str
    task: TaskSpec
    passes: int
    waiting_since: int
    held: Mapping[str, int] = field(default_factory=dict)


def choose_next(
    heads: Sequence[Head],
    nodes: Sequence[NodeInfo],
    served: Mapping[str, int],
) -> tuple[Head, NodeInfo] | None:
    """Choose which waiting task starts, and where; None when nothing may start now.

    Projects take turns, and within a project its users: who was served longest ago goes first.
    A task that does not fit is passed over at most ``PASSES_MOST`` times; from then on nothing
    else starts until it fits, so that a large one is not starved by small ones.

    Args:
        heads: the first task of each user in each project.
        nodes: what is free.
        served: when each ``project`` and each ``project/user`` was last served, rising numbers.
    """
    starved = [head for head in heads if head.passes >= PASSES_MOST]
    if starved:
        heads = [min(starved, key=lambda head: head.waiting_since)]
    turn = sorted(
        heads,
        key=lambda head: (
            served.get(head.project, 0),
            served.get(f"{head.project}/{head.user}", 0),
            head.waiting_since,
        ),
    )
    for head in turn:
        node = choose_node(head.task, nodes, head.held)
        if node is not None:
            return head, node
    return None


def choose_node(
    task: TaskSpec,
    nodes: Sequence[NodeInfo],
    held: Mapping[str, int] | None = None,
    *,
    waits: bool = False,
) -> NodeInfo | None:
    """Choose where a task starts, of the nodes with room.

    First those that hold most of its inputs; ``NEAR_BYTES`` more or less count as the same. Of
    these, a task that takes half a node or more goes where it leaves least, so that large gaps
    stay whole. A smaller one goes to the emptiest, since many small ones that fill one node after
    the other would wait for one disk, one network card and one starter of sandboxes while other
    nodes idle; the rule of ``PASSES_MOST`` keeps them from starving a large one.

    Args:
        task: the task.
        nodes: what is free.
        held: how many bytes of its inputs lie on which node, by name.
        waits: whether it may wait there, if none has room.
    """
    able = [node for node in nodes if fits(task, node)]
    if waits and not able:
        able = [node for node in nodes if may_wait(task, node)]
    if held and len(able) > 1:
        most = max(held.get(node.name, 0) for node in able)
        able = [node for node in able if held.get(node.name, 0) >= most - NEAR_BYTES]
    return min(able, key=lambda node: _rank(task, node), default=None)


def _rank(task: TaskSpec, node: NodeInfo) -> tuple[bool, float, str]:
    """Order nodes for a task; the smallest is the best. The host comes last: it serves as well."""
    is_large = 2 * task.limits.cpu_slots >= node.slots or task.limits.gpus > 0
    room = node.free_slots if is_large else -node.free_slots / max(node.slots, SLACK)
    return node.is_host, room, node.name


def tell_too_large(tasks: Iterable[TaskSpec], nodes: Sequence[NodeInfo]) -> str:
    """Say that the nodes which are there now are too small for a task; empty when none is."""
    for task in tasks:
        try:
            check_can_ever_fit(task, nodes)
        except InvalidError as fault:
            return f"The nodes that are large enough for {task.key} are away. {fault.message}"
    return ""


def tell_waiting(nodes: Sequence[NodeInfo]) -> str:
    """Say why nothing starts although tasks wait; empty when they wait for one another only."""
    if not nodes:
        return "No node is joined."
    shut = [
        f"{node.name}: {node.paused or 'it drains'}"
        for node in nodes
        if node.paused or node.is_draining
    ]
    if len(shut) < len(nodes):
        return ""
    return "Every node is held back. " + "; ".join(shut)
