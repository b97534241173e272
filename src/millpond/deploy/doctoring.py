"""Say what is wrong with a machine, over SSH: also with one that tells nothing any more."""

from typing import Literal

from millpond.deploy.facts import Facts, look
from millpond.deploy.judging import State, Wanted, plan
from millpond.deploy.places import NODE_FOLDER, WORKER_UNIT
from millpond.deploy.target import Target
from millpond.ground.findings import Finding

_STATES: dict[State, Literal["ok", "warning", "fault"]] = {
    "fine": "ok",
    "due": "warning",
    "warning": "warning",
    "refused": "fault",
}


def examine(target: Target, wanted: Wanted) -> list[Finding]:
    """Look at everything that a node needs; nothing is changed.

    A node whose service does not run is a fault; the finding holds the last words of its log.
    """
    facts = look(target, wanted.data_disk)
    found = [
        Finding(name, _STATES[verdict.state], verdict.text, verdict.next_step)
        for name, verdict in plan(facts, wanted)
        if name not in ("millpond", "service")
    ]
    return [*found, *_installed(facts), _service(target, facts)]


def _installed(facts: Facts) -> list[Finding]:
    if facts.current in facts.installed:
        return [Finding("millpond", "ok", f"{facts.current} is in use")]
    return [
        Finding(
            "millpond", "warning", "no whole installation is in use",
            "Add the machine, or do ./dev cluster again.",
        )
    ]  # fmt: skip


def _service(target: Target, facts: Facts) -> Finding:
    if facts.is_running:
        return Finding("service", "ok", f"runs {facts.running}")
    if not facts.config:
        return Finding("service", "warning", "the machine is no node, so nothing runs")
    log = target.run(
        f"tail -n 6 {NODE_FOLDER}/supervise.log 2>/dev/null"
        f" || journalctl -u {WORKER_UNIT} -n 6 -o cat --no-pager"
    )
    step = f"On it: systemctl restart {WORKER_UNIT}" if facts.has_systemd else "Do ./dev cluster"
    return Finding("service", "fault", f"does not run. {log.last_words}", f"{step} again.")
