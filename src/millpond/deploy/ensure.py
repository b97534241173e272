"""Make a machine a node: look, say what will be done, do it step by step, look again.

Every step looks first, so that all of it is safe to repeat, and goes on where it was left.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from millpond.deploy.facts import Facts, look, numbers
from millpond.deploy.judging import STEPS, Verdict, Wanted, best_python, offered_python, plan
from millpond.deploy.mending import MENDS, Work
from millpond.deploy.target import Target
from millpond.deploy.wheelhouse import Kit, Wheelhouse
from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.machines.port import MachineStep, MakeTicket, Tell

_PLAN = "plan"


@dataclass(frozen=True)
class Setup:
    """A machine that shall become a node.

    Attributes:
        target: the machine.
        wheelhouse: what it is installed from.
        wanted: what it shall become; the kit is found by what Python it has.
        slots: tasks at a time; 0: one per core.
    """

    target: Target
    wheelhouse: Wheelhouse
    wanted: Wanted
    slots: int = 0

    def look(self) -> tuple[Facts, Wanted, Kit | None]:
        """Look at it; what its kind of machine needs is fetched when the host lacks it."""
        facts = look(self.target, self.wanted.data_disk)
        debs = self.wheelhouse.find_debs(facts.packages)
        wanted = replace(self.wanted, has_debs=bool(debs))
        python = _python_of(facts, debs)
        if not python or facts.machine not in ("x86_64", "aarch64"):
            return facts, wanted, None
        self.wheelhouse.gather(facts.machine, python)
        kit = self.wheelhouse.kit(facts.machine, python)
        return facts, replace(wanted, kit=kit.name, kit_bytes=kit.total_bytes), kit

    def plan(self, tell: Tell) -> Facts:
        """Say what is fine, what will be done, and what stands against it; nothing is changed.

        Raises:
            InvalidError: it cannot become a node; every reason.
            ConflictError: it belongs to another installation.
        """
        facts, wanted, _ = self.look()
        verdicts = plan(facts, wanted)
        for name, verdict in verdicts:
            if verdict.state == "refused":
                tell(MachineStep(name, "failed", _words(verdict)))
            elif verdict.state == "warning":
                tell(MachineStep(name, "warning", _words(verdict)))
        _refuse(facts, verdicts)
        due = [f"{name}: {verdict.text}" for name, verdict in verdicts if verdict.state == "due"]
        shown = "; ".join(due) if due else "nothing is to be done: all is so already"
        tell(MachineStep(_PLAN, "done" if due else "skipped", f"{facts.system_title}. {shown}."))
        return facts

    def carry_out(self, make_ticket: MakeTicket, tell: Tell) -> None:
        """Do what is due, each step told before and after.

        Raises:
            InvalidError, ConflictError: as for ``plan``, or a step did not help; its last words.
        """
        facts, wanted, kit = self.look()
        _refuse(facts, plan(facts, wanted))
        for name, judge in STEPS:
            verdict = judge(facts, wanted)
            if verdict.state != "due":
                is_odd = verdict.state == "warning"
                tell(MachineStep(name, "warning" if is_odd else "skipped", _words(verdict)))
                continue
            tell(MachineStep(name, "begun", verdict.text))
            work = Work(self.target, facts, wanted, self.wheelhouse, kit, self.slots, make_ticket)
            MENDS[name](work)
            facts, wanted, kit = self.look()
            after = judge(facts, wanted)
            if after.state in ("due", "refused"):
                raise ConflictError(
                    f"{self.target.title}: {name} was done, yet {after.text}.",
                    next_step=after.next_step or "Look there by hand; then do the same again.",
                )
            tell(MachineStep(name, "done", after.text))


def _python_of(facts: Facts, debs: Iterable[str]) -> str:
    """Give the first two numbers of the Python that it has, or will have; empty: not known."""
    if found := best_python(facts):
        return _two(found[1])
    if offered := offered_python(facts):
        return _two(facts.candidates[offered])
    named = [name for name in debs if name.startswith("python3_")]
    return _two(named[0].removeprefix("python3_")) if named else ""


def _two(version: str) -> str:
    return ".".join(str(number) for number in numbers(version)[:2])


def _words(verdict: Verdict) -> str:
    return f"{verdict.text}. {verdict.next_step}" if verdict.next_step else verdict.text


def _refuse(facts: Facts, verdicts: list[tuple[str, Verdict]]) -> None:
    """Raise when something stands against it, with all of it at once."""
    refused = [(name, verdict) for name, verdict in verdicts if verdict.state == "refused"]
    if not refused:
        return
    message = f"{facts.title} cannot become a node: " + "; ".join(v.text for _, v in refused) + "."
    next_step = " ".join(verdict.next_step for _, verdict in refused)
    if any(name == "owner" for name, _ in refused):
        raise ConflictError(message, next_step=next_step)
    faults = [Fault(name, verdict.text) for name, verdict in refused]
    raise InvalidError(message, next_step=next_step, faults=faults)
