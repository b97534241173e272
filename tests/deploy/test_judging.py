"""What a machine lacks to be a node, from what was seen; without any machine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.deploy.facts import Facts, numbers, read_facts
from millpond.deploy.judging import Wanted, plan
from millpond.deploy.units import digest_of_unit, worker_unit

GB = 1_000_000_000
SAID = """now=1000100
machine=x86_64
system=ubuntu debian
system_title=Ubuntu 24.04.1 LTS
release=noble
architecture=amd64
python=/usr/bin/python3.12 3.12.3
python=/opt/old/bin/python3 3.9.1
python=
apt=yes
candidate_python3.12=3.12.3-1
candidate_python3.13=(none)
bubblewrap=bubblewrap 0.9.0
systemd=yes
free_prefix=4000000
free_node=4000000
free_disk=50000000
disk_kind=directory
installed=0.1.0-aaaaaaaa
installed=0.2.0-bbbbbbbb
current=0.1.0-aaaaaaaa
config={"name": "w1", "installation": "AB", "url": "https://host:8787"}
running=yes
running_version=0.1.0-aaaaaaaa
port=22
port=8788
port=8788
cores=4
memory=32000000
"""
BARE = Facts(
    "root@w1",
    machine="x86_64",
    systems=("debian",),
    system_title="Debian GNU/Linux 12 (bookworm)",
    packages="bookworm-amd64",
    has_apt=True,
    has_systemd=True,
    candidates={"python3": "3.11.2-1+b1", "bubblewrap": "0.8.0-2+deb12u1"},
    free_bytes={"prefix": 9 * GB, "node": 9 * GB, "disk": 90 * GB},
    disk_kind="directory",
    ports=frozenset({22}),
    cores=4,
    memory_bytes=32 * GB,
)
WANTED = Wanted(
    "w1",
    "0.2.0",
    kit="0.2.0-bbbbbbbb",
    installation="AB",
    data_disk="/mnt/data",
    ports=((8788, "data"), (8789, "worker")),
)
JOINED = {"name": "w1", "installation": "AB", "url": "https://host:8787"}
READY = replace(
    BARE,
    pythons=(("/usr/bin/python3.11", "3.11.2"),),
    bubblewrap="0.8.0",
    installed=("0.2.0-bbbbbbbb",),
    current="0.2.0-bbbbbbbb",
    running="0.2.0-bbbbbbbb",
    config=JOINED,
    is_running=True,
    unit_digest=digest_of_unit(worker_unit("/mnt/data")),
    ports=frozenset({22, 8788, 8789}),
)


def states(facts: Facts, wanted: Wanted = WANTED) -> dict[str, str]:
    return {name: verdict.state for name, verdict in plan(facts, wanted) if verdict.state != "fine"}


def said(facts: Facts, name: str, wanted: Wanted = WANTED) -> str:
    verdict = dict(plan(facts, wanted))[name]
    return f"{verdict.text} | {verdict.next_step}"


def test_what_the_script_says_is_read() -> None:
    facts = read_facts("w1", SAID, 1_000_000.0)
    assert facts.clock_off_seconds == 100
    assert facts.packages == "noble-amd64"
    assert facts.pythons == (("/usr/bin/python3.12", "3.12.3"), ("/opt/old/bin/python3", "3.9.1"))
    assert facts.candidates == {"python3.12": "3.12.3-1"}
    assert facts.bubblewrap == "0.9.0"
    assert facts.free_bytes["disk"] == 50_000_000 * 1024
    assert facts.installed == ("0.1.0-aaaaaaaa", "0.2.0-bbbbbbbb")
    assert facts.config["name"] == "w1"
    assert facts.ports == {22, 8788}
    assert read_facts("w1", "config={half", 0).config["installation"] == "damaged"
    assert read_facts("w1", "config=[]", 0).config["installation"] == "damaged"


@given(st.text())
def test_whatever_a_machine_says_is_read_without_a_fault(text: str) -> None:
    plan(read_facts("w1", text, 0), WANTED)
    numbers(text)


def test_versions_are_numbers() -> None:
    assert numbers("1:3.11.2-1+b1") == (3, 11, 2)
    assert numbers("0.8.0-2+deb12u1") == (0, 8, 0)
    assert numbers("3.13~rc1") == (3, 13)
    assert numbers("") == numbers("none") == ()


def test_a_bare_machine_gets_all_and_a_ready_one_nothing() -> None:
    due = {"python", "sandbox", "millpond", "membership", "service"}
    assert states(BARE) == dict.fromkeys(due, "due")
    assert states(READY) == {}
    assert states(replace(BARE, disk_kind="")) == dict.fromkeys({*due, "disk"}, "due")


def test_a_machine_that_lost_a_part_gets_that_part() -> None:
    off = replace(READY, is_running=False, ports=frozenset({22}))
    assert states(off) == {"service": "due"}
    assert states(replace(off, config={})) == {"membership": "due", "service": "due"}
    assert states(replace(READY, is_running=False))["ports"] == "refused"  # Whose are they?
    assert states(replace(READY, unit_digest="other")) == {"service": "due"}
    assert states(replace(READY, has_systemd=False)) == {}  # A loop has no unit.
    assert states(replace(READY, running="0.1.0-aaaaaaaa")) == {"service": "due"}
    assert states(replace(READY, installed=())) == {"millpond": "due"}


@pytest.mark.parametrize(
    ("change", "step", "words"),
    [
        ({"clock_off_seconds": 3605.0}, "clock", "1 h 0 min ahead of the host's | Set it there"),
        ({"clock_off_seconds": -7500.0}, "clock", "2 h 5 min behind"),
        ({"machine": "riscv64"}, "system", "no packages for it"),
        ({"systems": ("fedora",), "system_title": "Fedora 42"}, "system", "no Debian or Ubuntu"),
        ({"memory_bytes": 400_000_000}, "system", "400 MB of memory | Use a machine with at least 1 GB"),
        ({"free_bytes": {"prefix": GB, "node": 9 * GB, "disk": 9 * GB}}, "room", "/opt/millpond"),
        ({"free_bytes": {"prefix": 9 * GB, "node": 1, "disk": 9 * GB}}, "room", "1 B free, 1.0 GB needed"),
        ({"free_bytes": {"prefix": 9 * GB, "node": 9 * GB, "disk": 9}}, "room", "/mnt/data has"),
        ({"config": JOINED | {"installation": "CD"}}, "owner", "another installation, https://h"),
        ({"config": JOINED | {"name": "w9"}}, "owner", "node w9 of this installation already"),
        ({"config": {"installation": "damaged"}}, "owner", "is damaged"),
        ({"ports": frozenset({8789})}, "ports", "8789 (worker) is taken"),
        ({"candidates": {"python3": "3.9.2-3", "bubblewrap": "0.8.0"}}, "python", "offer 3.9.2-3;"),
        ({"pythons": (("/usr/bin/python3", "3.9.2"),), "candidates": {"bubblewrap": "1"}},
         "python", "has Python 3.9.2; 3.11 or newer is needed | Use Debian 12"),
        ({"candidates": {"python3": "3.11.2", "bubblewrap": "0.4.1"}}, "sandbox", "offer 0.4.1"),
        ({"disk_kind": "block special file"}, "disk", "no folder but a block special file"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_refused_with_what_to_do(
    change: dict[str, object], step: str, words: str
) -> None:
    facts = replace(BARE, **change)  # type: ignore[arg-type]
    assert states(facts)[step] == "refused"
    assert words in said(facts, step)
    assert said(facts, step).split(" | ")[1]


def test_a_strange_path_is_refused_and_a_shared_disk_is_warned_of() -> None:
    for path in ("/", "/mnt/a b", "/mnt/$x", "/mnt/../etc", "relative"):
        assert states(BARE, replace(WANTED, data_disk=path))["disk"] == "refused", path
    assert states(replace(READY, is_disk_shared=True)) == {"disk": "warning"}
    assert "keeps no data" in said(BARE, "disk", replace(WANTED, data_disk=""))


def test_packages_come_from_wherever_they_are() -> None:
    offline = replace(BARE, candidates={})
    assert "lists are fetched" in said(offline, "python")
    carried = replace(WANTED, has_debs=True)
    assert "wheelhouse" in said(offline, "python", carried)
    assert "wheelhouse" in said(offline, "sandbox", carried)
    old = replace(BARE, candidates={"python3": "3.10.6", "python3.11": "3.11.0~rc1-1~22.04"})
    assert "python3.11 (3.11.0" in said(old, "python")
    new = replace(
        BARE, candidates={"python3": "3.14.0-1"}, pythons=(("/usr/bin/python3", "3.14.0"),)
    )
    assert "3.14" in said(new, "python")
    assert states(new)["python"] == "refused"


def test_another_system_that_has_all_is_taken_with_a_warning() -> None:
    other = replace(READY, systems=("fedora",), system_title="Fedora 42", has_apt=False)
    assert states(other) == {"system": "warning"}
