"""Bring a node another version: beside the old one, which runs again when the new does not."""

from millpond.deploy.ensure import Setup
from millpond.deploy.facts import Facts
from millpond.deploy.judging import best_python
from millpond.deploy.mending import install_kit, restart, use_kit
from millpond.deploy.places import PREFIX
from millpond.deploy.target import must
from millpond.ground.errors import ConflictError, MillpondError
from millpond.machines.port import MachineStep, Tell


def upgrade(setup: Setup, tell: Tell) -> None:
    """Install the wanted version, change to it, and change back when it does not stay.

    Raises:
        ConflictError: it is no node, has no Python for it, or the new version does not stay.
    """
    facts, wanted, kit = setup.look()
    found = best_python(facts)
    if not facts.config or kit is None or found is None:
        raise ConflictError(
            f"{setup.target.title} is no node that could be upgraded.",
            next_step="Add it anew: millpond node add; what is there already stays.",
        )
    if facts.running == kit.name and facts.is_running:
        tell(MachineStep("upgrade", "skipped", f"It runs Millpond {kit.version} already."))
        return
    if kit.name not in facts.installed:
        tell(MachineStep("millpond", "begun", f"Millpond {kit.version} beside {facts.current}."))
        install_kit(setup.target, kit, found[0])
        tell(MachineStep("millpond", "done", f"{PREFIX}/{kit.name}"))
    tell(MachineStep("service", "begun", f"Starting Millpond {kit.version}."))
    try:
        use_kit(setup.target, kit.name)
        restart(setup.target, wanted.data_disk, kit.name, has_systemd=facts.has_systemd)
    except MillpondError as fault:
        _roll_back(setup, facts, tell)
        raise ConflictError(
            f"Millpond {kit.version} does not stay up on {setup.target.title}, so"
            f" {facts.current} runs there again. {fault.message}",
            next_step="Mend what it says, then upgrade again.",
        ) from fault
    _clear(setup, {kit.name, facts.current})
    tell(MachineStep("service", "done", f"It runs Millpond {kit.version}."))


def _roll_back(setup: Setup, facts: Facts, tell: Tell) -> None:
    if facts.current:
        tell(MachineStep("service", "warning", f"It did not stay; back to {facts.current}."))
        use_kit(setup.target, facts.current)
        restart(
            setup.target,
            setup.wanted.data_disk,
            facts.current,
            has_systemd=facts.has_systemd,
            is_watched=False,
        )


def _clear(setup: Setup, kept: set[str]) -> None:
    """Remove installations that are neither the one in use nor the one before."""
    names = " ".join(f"! -name {name}" for name in sorted(kept) if name)
    script = (
        f"find {PREFIX} -mindepth 1 -maxdepth 1 -type d ! -name '.*' {names} -exec rm -rf {{}} +"
    )
    must(setup.target, script, "removing old versions", seconds=300)
