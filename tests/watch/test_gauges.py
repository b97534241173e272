"""What Prometheus is told, and that no alert rule asks for anything else."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.watch.test_usage import plant_node

from millpond.jobs import actions as jobs
from millpond.jobs.tables import job
from millpond.machines.values import Meters
from millpond.storage.database import Database, Transaction
from millpond.watch.gauges import Gauges, Sources, Told

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "monitoring" / "alerts.yml"
GUIDE = ROOT / "docs" / "guides" / "monitoring.md"
_FUNCTIONS = {
    "sum",
    "rate",
    "delta",
    "histogram_quantile",
    "predict_linear",
    "by",
    "and",
    "on",
    "le",
}

Sample = dict[str, Any]


def ask(site: Any) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Give what the server tells Prometheus: by name and labels the value."""
    answer = httpx.get(f"{site.url}/metrics").raise_for_status()
    told: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        told.setdefault(family.name, {})
        for each in family.samples:
            told.setdefault(each.name, {})[tuple(sorted(each.labels.items()))] = each.value
    return told


def test_machines_are_told_as_they_told_themselves(portal_site: Any, sample: Sample) -> None:
    portal_site.house.recorder.note("node-1", sample)
    told = ask(portal_site)
    at = (("node", "node-1"),)
    assert told["millpond_node_cpu_share"][at] == 0.5
    assert told["millpond_node_memory_used_bytes"][at] == 8e9
    assert told["millpond_node_network_received_bytes_per_second"][at] == 100
    disk = (("mount", "/data:2"), ("node", "node-1"))
    assert told["millpond_node_disk_free_bytes"][disk] == 50e9
    assert told["millpond_node_disk_written_bytes_per_second"][disk] == 1_234_570
    gpu = (("gpu", "0 A100: 40"), ("node", "node-1"))
    assert told["millpond_node_gpu_memory_bytes"][gpu] == 9
    assert gpu not in told["millpond_node_gpu_share"], "what is not known is not told"


def test_the_queue_and_the_record_are_told(portal_site: Any) -> None:
    before = ask(portal_site)
    assert before["millpond_database_up"][()] == 1
    assert before["millpond_job_wait_seconds"][()] == 0
    assert before["millpond_log_unsealed_seconds"][()] > 0, "the fixture's people are on record"
    assert before["millpond_tasks_waiting"][()] == 0
    assert before["millpond_node_slots_free"][(("node", "local"),)] == 2

    def put(tx: Any) -> None:
        for state, name in (("dead", "a"), ("waiting", "b")):
            made = jobs.put(tx, "of-no-kind", {}, key=name)
            tx.execute(job.update().where(job.c.id == made).values(state=state))

    portal_site.database.change(put)
    after = ask(portal_site)
    assert after["millpond_jobs"][(("state", "dead"),)] == 1
    assert after["millpond_jobs"][(("state", "waiting"),)] == 1
    assert after["millpond_job_wait_seconds"][()] > 0
    assert after["millpond_nodes"][(("state", "lost"),)] == 0


def test_a_database_that_is_away_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    away = Database(f"sqlite:///{tmp_path / 'no' / 'x.db'}")

    def look(_: Transaction) -> Told:
        return pytest.fail("a database that is away was read")

    sources = Sources(lambda: {"local": {"cpu": 0.5}}, list, lambda: 3, look)
    families = {family.name: family.samples for family in Gauges(away, sources).collect()}
    away.close()
    assert families["millpond_database_up"][0].value == 0
    assert families["millpond_node_cpu_share"][0].value == 0.5
    assert families["millpond_tasks_waiting"][0].value == 3
    assert "millpond_jobs" not in families


def hold_back(site: Any) -> None:
    """Add a node whose figures are beyond two thresholds."""
    site.database.change(lambda tx: plant_node(tx, "node-1", 0.0))
    presence = site.house.cluster.presence
    presence.know("node-1", is_draining=False, slots_most=4)
    crowded = Meters(load=99.0, cores=1.0, memory_total_bytes=100, memory_used_bytes=99)
    presence.hear("node-1", crowded)


def test_a_paused_node_is_told_with_each_reason(portal_site: Any) -> None:
    assert ask(portal_site)["millpond_node_paused"] == {}
    hold_back(portal_site)
    assert set(ask(portal_site)["millpond_node_paused"]) == {
        (("node", "node-1"), ("reason", "load")),
        (("node", "node-1"), ("reason", "memory")),
    }
    portal_site.house.cluster.presence.refuse("node-1", "revoked")
    assert ask(portal_site)["millpond_node_paused"] == {
        (("node", "node-1"), ("reason", "refused")): 1
    }


def test_objects_that_lack_copies_are_told_by_the_count_of_the_health(portal_site: Any) -> None:
    told = ask(portal_site)
    assert told["millpond_objects_few_copies"][()] == 0, "they lie in a folder"
    assert told["millpond_objects_no_copy"][()] == 0


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    assert all(set(group) == {"name", "rules"} for group in groups)
    return [rule for group in groups for rule in group["rules"]]


def test_every_rule_is_whole() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 15
    for rule in rules():
        assert {"alert", "expr", "labels", "annotations"} <= set(rule) <= {
            "alert", "expr", "for", "labels", "annotations",
        }, rule["alert"]  # fmt: skip
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
        for opened, closed in ("()", "{}", "[]"):
            assert rule["expr"].count(opened) == rule["expr"].count(closed), rule["alert"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_rule_asks_for_what_a_server_tells(portal_site: Any, sample: Sample) -> None:
    portal_site.house.recorder.note("node-1", sample)
    hold_back(portal_site)
    with portal_site.browser("root") as http:
        http.get("/admin/monitor")
    told = ask(portal_site)
    labels = {name: {key for row in rows for key, _ in row} for name, rows in told.items()}
    for rule in rules():
        text = re.sub(r"\[\d+[mh]\]", "", rule["expr"])
        for name, inside in re.findall(r"\b([a-z_][a-z0-9_]*)\b(?:\{([^}]*)\})?", text):
            if name in _FUNCTIONS or (name == "up" and inside):
                continue
            if f'"{name}"' in text or f"{name}=" in text:
                continue  # Within the braces of a selector, checked below.
            assert name in told, f"{rule['alert']}: no metric {name}"
            asked = set(re.findall(r"(\w+)\s*=", inside))
            assert asked <= labels[name], f"{rule['alert']}: {name} has no labels {asked}"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_guide_names_every_metric(portal_site: Any) -> None:
    guide = GUIDE.read_text()
    families = {
        re.sub(r"_(total|bucket|count|sum|created)$", "", name) for name in ask(portal_site)
    }
    unnamed = [name for name in sorted(families) if name not in guide]
    assert not unnamed
