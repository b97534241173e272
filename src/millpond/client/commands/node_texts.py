"""Words of the commands about nodes and of the tasks that run there."""

from millpond.client.screen import size_text
from millpond.machines.running import NodeTask, TaskNow
from millpond.machines.values import Node
from millpond.pipelines.values import Task


def text_of_now(now: TaskNow | None) -> str:
    """Give cores and memory of a task that runs; a dash for one that is not measured."""
    if now is None:
        return "-"
    cores = "" if now.cpu_cores is None else f"{now.cpu_cores:.2f} cores, "
    limit = f" of {size_text(now.memory_limit_bytes)}" if now.memory_limit_bytes else ""
    return f"{cores}{size_text(now.memory_bytes)}{limit}"


def text_of_task(task: NodeTask) -> str:
    """Give a line about a task on a machine."""
    owner, takes = task.owner, text_of_now(task.now)
    if owner is None:
        return f"{task.key}: {takes}"
    part = "splitting" if owner.partition < 0 else str(owner.partition)
    where = f"{owner.project}/{owner.run}, {owner.what}, {owner.step} {part}"
    return f"{where}, by {owner.user}: {takes}"


def memory_text(one: Node) -> str:
    """Give how much of a node's memory is taken."""
    if one.meters is None or not one.meters.memory_total_bytes:
        return size_text(one.facts.memory_bytes)
    used, total = one.meters.memory_used_bytes, one.meters.memory_total_bytes
    return f"{used / total:.0%} of {size_text(total)}"


def disk_text(one: Node) -> str:
    """Give what is free on a node's data disk, or on the fullest of its disks."""
    if one.store is not None:
        return size_text(one.store.free_bytes) if one.store.is_ok else "failed"
    disks = one.meters.disks if one.meters else ()
    return size_text(min(disk.free_bytes for disk in disks)) if disks else "-"


def sandbox_text(one: Node) -> str:
    """Say whether a node has a sandbox that works."""
    if one.facts.isolated:
        return "works"
    # A node tells of its sandbox with its first heartbeat.
    return (one.facts.reason or "none") if one.meters or one.seen_at else "not told yet"


def place_text(task: Task) -> str:
    """Tell where a task runs or ran; and when it was in no sandbox."""
    return task.node if task.isolated else f"{task.node} (not isolated)"
