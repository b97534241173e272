"""What runs have used: added up by day and by name, spread over time; by page, REST and command."""

import json
from datetime import UTC, date, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from millpond.client.cli import cli
from millpond.client.client import Client
from millpond.ground.errors import InvalidError, NotAllowedError, NotFoundError
from millpond.ground.ids import new_id
from millpond.machines.prices import list_prices
from millpond.machines.tables import node
from millpond.machines.values import NodePrice
from millpond.pipelines.runs.tables import run as run_table
from millpond.pipelines.runs.tables import step_run as step_table
from millpond.pipelines.runs.tables import task as task_table
from millpond.pipelines.usage.values import DayUse, TaskSpan
from millpond.storage.database import Transaction
from millpond.watch.usage import rules
from millpond.watch.usage.pages import draw_days
from millpond.watch.usage.values import Usage, UsageRow, Used

NOON = datetime(2026, 5, 2, 12, tzinfo=UTC)
TODAY = date(2026, 5, 2)


def day_use(**changes: Any) -> DayUse:
    told: dict[str, Any] = {
        "day": TODAY,
        "project_id": "prj_a",
        "user": "ana",
        "pipeline": "score",
        "node": "node-1",
        "tasks": 2,
        "cpu_seconds": 1800.0,
        "wall_seconds": 7200.0,
        "memory_byte_seconds": 2e9 * 3600,
    }
    return DayUse(**{**told, **changes})


def tell(rows: list[DayUse], prices: dict[str, NodePrice] | None = None) -> Any:
    days = (TODAY - timedelta(days=1), TODAY)
    names = {"prj_a": "birds"}
    return rules.tell_usage(rows, project="", days=days, names=names, prices=prices or {})


def test_use_is_added_up_by_each_of_its_names() -> None:
    rows = [day_use(), day_use(user="ben", pipeline="", project_id="prj_gone", cpu_seconds=3600.0)]
    found = tell(rows)
    assert found.total.tasks == 4
    assert found.total.cpu_hours == 1.5
    assert found.total.memory_gb_hours == 4
    assert [(row.key, row.used.tasks) for row in found.days] == [
        ("2026-05-01", 0),
        ("2026-05-02", 4),
    ]
    assert [row.key for row in found.users] == ["ben", "ana"], "the most processor hours first"
    assert {row.key for row in found.projects} == {"birds", "prj_gone"}
    assert {row.key for row in found.pipelines} == {"score", "program"}
    assert found.total.cost is None


def test_cost_counts_where_a_node_has_a_price() -> None:
    found = tell([day_use(), day_use(node="local")], {"node-1": NodePrice(1.0, 4)})
    assert found.total.cost == 0.5, "two hours of one slot of four"
    assert {row.key: row.used.cost for row in found.nodes} == {"node-1": 0.5, "local": None}


@pytest.mark.parametrize(
    ("slots", "gpus", "cost"),
    [
        (1.0, 0, 0.5),
        (0.5, 0, 0.25),
        (3.0, 0, 1.5),
        (1.0, 1, 1.0),  # One of the two graphics processors is more of the node than its slot is.
        (3.0, 1, 1.5),
        (1.0, 2, 2.0),
        (16.0, 0, 2.0),  # The node has become smaller since; nothing costs more than all of it.
    ],
)
def test_a_task_costs_its_share_of_the_node(slots: float, gpus: int, cost: float) -> None:
    price = {"node-1": NodePrice(1.0, 4, 2)}
    assert tell([day_use(slots=slots, gpus=gpus)], price).total.cost == cost
    spans = [span(0, 7200, slots=slots, gpus=gpus)]
    assert rules.tell_run("run_1", spans, NOON, price).total.cost == cost
    without = {"node-1": NodePrice(1.0, 4)}
    assert tell([day_use(gpus=gpus)], without).total.cost == 0.5, "it told of none"


def test_the_days_are_the_last_thirty_or_those_named() -> None:
    assert rules.choose_days(None, None, TODAY) == (date(2026, 4, 3), TODAY)
    assert rules.choose_days(TODAY, TODAY, TODAY) == (TODAY, TODAY)
    for since, until in ((TODAY, date(2026, 5, 1)), (date(2020, 1, 1), None)):
        with pytest.raises(InvalidError, match="cannot be shown"):
            rules.choose_days(since, until, TODAY)


def span(begin: float, seconds: float | None, **changes: Any) -> TaskSpan:
    started = NOON + timedelta(seconds=begin)
    told: dict[str, Any] = {
        "step": "score",
        "node": "node-1",
        "state": "succeeded",
        "started_at": started,
        "ended_at": None if seconds is None else started + timedelta(seconds=seconds),
        "cpu_seconds": 0.0 if seconds is None else seconds / 2,
        "memory_peak_bytes": 1000,
        "wall_seconds": seconds or 0.0,
    }
    return TaskSpan(**{**told, **changes})


_SPANS = st.lists(
    st.tuples(st.floats(0, 500), st.floats(0, 500)).map(lambda pair: span(*pair)),
    min_size=1,
    max_size=20,
)


@given(_SPANS)
def test_no_time_of_any_task_is_lost_when_it_is_spread(spans: list[TaskSpan]) -> None:
    found = rules.tell_run("run_1", spans, NOON + timedelta(seconds=2000), {})
    (curve,) = found.by_step
    seconds = sum(
        (each.ended_at - each.started_at).total_seconds() for each in spans if each.ended_at
    )
    assert sum(curve.tasks) * found.interval_seconds == pytest.approx(seconds, abs=0.01, rel=1e-3)
    assert max(curve.tasks) <= len(spans) + 1e-6
    assert len(curve.tasks) == len(found.begins) <= 121


def test_a_run_is_told_by_step_and_node_while_it_goes_on() -> None:
    spans = [
        span(0, 100),
        span(50, 50, node="node-2", memory_peak_bytes=5000),
        span(60, None, step="join", node="node-2", state="running"),
    ]
    found = rules.tell_run(
        "run_1", spans, NOON + timedelta(seconds=120), {"node-2": NodePrice(7.2, 2)}
    )
    assert [each.step for each in found.steps] == ["score", "join"]
    score, join = found.steps
    assert (score.used.tasks, score.running, score.nodes) == (2, 0, ["node-1", "node-2"])
    assert (join.used.tasks, join.running) == (0, 1)
    assert score.memory_peak_bytes == 5000
    assert found.total.cost == pytest.approx(50 * 3.6 / 3600)
    assert {curve.name for curve in found.by_node} == {"node-1", "node-2"}
    at = int(75 / found.interval_seconds)
    assert found.by_step[0].tasks[at] == 2
    assert found.processors[at] == 1
    assert found.memory_bytes[at] == 7000
    assert found.by_step[1].tasks[-1] == 1


def test_a_run_without_tasks_has_used_nothing() -> None:
    found = rules.tell_run("run_1", [], NOON, {})
    assert found.steps == []
    assert found.total.tasks == 0


# Through the whole house -------------------------------------------------------------------------


def plant(tx: Transaction, project_id: str, user: str, pipeline: str, tasks: list[Any]) -> str:
    """Write a run with tasks of (days ago, node, seconds) without running anything."""
    run_id = new_id("run")
    empty = dict.fromkeys(
        ("reason", "spec_digest", "environment", "lock_digest", "code_digest", "code_key",
         "outputs_key", "outputs_digest"),
        "",
    )  # fmt: skip
    zero = dict.fromkeys(("seed", "fence", "output_files", "output_bytes"), 0)
    tx.execute(
        run_table.insert().values(
            id=run_id,
            project_id=project_id,
            what=pipeline or "run.py",
            pipeline=pipeline,
            state="succeeded",
            parameters={},
            inputs=[],
            progress={},
            user_id=user,
            created_at=tx.now,
            created_by=user,
            cpu_seconds=0.0,
            isolated=True,
            **empty,
            **zero,
        )
    )
    for number, (days, name, seconds) in enumerate(tasks, start=1):
        ended = tx.now - timedelta(days=days)
        tx.execute(
            task_table.insert().values(
                run_id=run_id,
                step="score",
                partition=number,
                attempt=1,
                number=number,
                state="succeeded",
                outcome="done",
                reason="",
                fork=False,
                node=name,
                isolated=True,
                cpu_seconds=seconds / 2,
                memory_peak_bytes=1_000_000_000,
                wall_seconds=seconds,
                log_bytes=0,
                started_at=ended - timedelta(seconds=seconds),
                ended_at=ended,
                outputs_key="",
            )
        )
    return run_id


def plant_step(tx: Transaction, run_id: str, slots: float, gpus: int) -> None:
    """Write what each task of a run's one step counts for."""
    values: dict[str, Any] = {"state": "succeeded", "reason": "", "kind": "map", "needs": []}
    numbers = dict.fromkeys(("place", "partitions", "partitions_done", "memory_peak_bytes"), 0)
    tx.execute(
        step_table.insert().values(
            run_id=run_id,
            name="score",
            cpu_seconds=0.0,
            slots=slots,
            gpus=gpus,
            **values,
            **numbers,
        )
    )


def plant_node(tx: Transaction, name: str, price: float) -> None:
    texts = dict.fromkeys(("address", "version", "refused", "serial", "told_state"), "")
    objects: dict[str, Any] = {key: {} for key in ("labels", "meters", "store", "machine")}
    tx.execute(
        node.insert().values(
            name=name,
            stage="joined",
            is_draining=False,
            slots_most=4,
            price_per_hour=price,
            facts={"slots": 8, "gpus": 1},
            running=[],
            joined_at=tx.now,
            **texts,
            **objects,
        )
    )


@pytest.fixture
def used(portal_site: Any) -> Any:
    """Give a site where two people have used two nodes, one of which has a price."""

    def write(tx: Transaction) -> str:
        plant_node(tx, "node-1", 2.0)
        plant_node(tx, "node-2", 0.0)
        project = portal_site.project_id
        run_id = plant(tx, project, "editor", "score", [(0, "node-1", 3600), (1, "node-2", 1800)])
        plant(tx, project, "owner", "", [(0, "local", 900)])
        plant(tx, project, "owner", "", [(40, "local", 999)])
        plant(tx, "prj_elsewhere", "root", "other", [(0, "local", 7200)])
        return run_id

    portal_site.run_id = portal_site.database.change(write)
    return portal_site


def test_a_price_is_shared_by_the_slots_that_count(used: Any) -> None:
    assert used.database.read(list_prices) == {"node-1": NodePrice(2.0, 4, 1)}


def test_a_task_of_several_slots_costs_them_all(used: Any) -> None:
    def write(tx: Transaction) -> tuple[str, str]:
        wide = plant(tx, used.project_id, "ben", "wide", [(0, "node-1", 3600)])
        plant_step(tx, wide, 3.0, 0)
        cards = plant(tx, used.project_id, "ben", "cards", [(0, "node-1", 1800)])
        plant_step(tx, cards, 1.0, 1)
        return wide, cards

    wide, cards = used.database.change(write)
    with Client(used.url, used.token("viewer"), project="birds", environ={}) as client:
        costs = {row.key: row.used.cost for row in client.usage.get().pipelines}
        assert costs["score"] == pytest.approx(0.5), "one slot of four, for an hour of 2.00"
        assert costs["wide"] == pytest.approx(1.5)
        assert costs["cards"] == pytest.approx(1.0), "all graphics processors, for half an hour"
        assert client.usage.run(wide).total.cost == pytest.approx(1.5)
        assert client.usage.run(cards).steps[0].used.cost == pytest.approx(1.0)


def test_members_see_their_project_and_administrators_all(used: Any) -> None:
    with Client(used.url, used.token("viewer"), project="birds", environ={}) as client:
        mine = client.usage.get()
        assert mine.project == "birds"
        assert mine.total.tasks == 3
        assert mine.total.cpu_hours == pytest.approx((1800 + 900 + 450) / 3600)
        assert mine.total.memory_gb_hours == pytest.approx(6300 / 3600)
        assert mine.total.cost == pytest.approx(0.5)
        assert len(mine.days) == 30
        assert [row.used.tasks for row in mine.days][-2:] == [1, 2]
        assert [row.key for row in mine.projects] == ["birds"]
        with pytest.raises(NotAllowedError):
            client.usage.site()
    with Client(used.url, used.token("stranger"), project="birds", environ={}) as client:
        with pytest.raises(NotFoundError):
            client.usage.get()
        with pytest.raises(NotFoundError):
            client.usage.run(used.run_id)
    with Client(used.url, used.token("root"), environ={}) as client:
        whole = client.usage.site()
        assert {row.key for row in whole.projects} == {"birds", "prj_elsewhere"}
        today = whole.until
        assert client.usage.site(since=today, until=today).total.tasks == 3
        with pytest.raises(InvalidError):
            client.usage.site(since=today, until=today - timedelta(days=1))


def test_the_pages_show_it(used: Any) -> None:
    with used.browser("viewer") as http:
        text = unescape(http.get("/projects/birds/usage").text)
        assert "By person" in text
        assert "at the nodes' prices of today" in text
        assert "By project" not in text
        assert "/admin/" not in text.partition("<main")[2], "no way to what members may not see"
        assert "data-plot" in text
        assert http.get("/projects/birds/usage", params={"since": "soon"}).status_code == 422
        old = http.get(
            "/projects/birds/usage", params={"since": "2020-01-01", "until": "2020-01-02"}
        )
        assert "Nothing was used in these days" in old.text
        path = f"/projects/birds/runs/{used.run_id}"
        run = unescape(http.get(f"{path}/resources").text)
        assert "node-1, node-2" in run
        assert "Tasks at a time, by node" in run
        assert http.get("/admin/usage").status_code == 403
        assert http.get(f"/projects/birds/runs/{new_id('run')}/resources").status_code == 404
    with used.browser("root") as http:
        text = http.get("/admin/usage").text
        assert "prj_elsewhere" in text
        assert 'href="/projects/birds/usage"' in text
        assert 'href="/admin/monitor/node-1"' in text
        assert "prj_elsewhere/usage" not in text, "there is no such page"


def test_a_little_use_is_drawn_in_a_unit_that_shows_it() -> None:
    day = date(2026, 5, 1)
    for hours, unit, value in ((2e-5, "s", 0.072), (0.5, "min", 30.0), (1.5, "h", 1.5)):
        used = Used(1, hours, hours, hours, None)
        found = Usage("p", day, day, used, [UsageRow("2026-05-01", used)], [], [], [], [])
        drawn = dict(draw_days(found))
        assert drawn["Processor time"]["unit"] == unit
        assert drawn["Memory times time"]["unit"] == f"GB {unit}"
        assert drawn["Processor time"]["series"][0]["values"] == [value]


def test_the_command_shows_it(used: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_URL", used.url)
    monkeypatch.setenv("MILLPOND_TOKEN", used.token("owner"))
    run = CliRunner().invoke
    days = run(cli, ["usage", "-p", "birds"])
    assert days.exit_code == 0, days.output
    assert len(days.output.splitlines()) == 4, "a head, two days, and all"
    assert days.output.splitlines()[-1].split() == ["all", "3", "0.875", "1.750", "1.750", "0.50"]
    people = json.loads(run(cli, ["usage", "-p", "birds", "--json"]).output)["users"]
    assert [each["key"] for each in people] == ["editor", "owner"]
    nodes = run(cli, ["usage", "-p", "birds", "--by", "node"]).output
    assert nodes.splitlines()[1].startswith("node-1")
    one = run(cli, ["usage", "-p", "birds", "--run", used.run_id])
    assert "node-1, node-2" in one.output
    assert "CPU TIME" in one.output, "hours would all be naught for a short run"
    assert run(cli, ["usage", "--all"]).exit_code != 0
    assert "goes with neither" in str(run(cli, ["usage", "--run", "x", "--all"]).exception)
    nothing = run(cli, ["usage", "-p", "birds", "--since", "2020-01-01", "--until", "2020-01-02"])
    assert "Nothing was used from 2020-01-01 to 2020-01-02." in nothing.output


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_a_real_run_used_is_what_its_tasks_tell(portal_site: Any, tmp_path: Path) -> None:
    program = tmp_path / "burn.py"
    program.write_text(
        "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    )
    with Client(
        portal_site.url, portal_site.token("editor"), project="birds", environ={}
    ) as client:
        started = client.runs.start_program(program)
        ended = client.runs.wait(started.id)
        assert ended.state == "succeeded"
        tasks = client.runs.tasks(started.id)
        found = client.usage.run(started.id)
        assert found.total.cpu_hours * 3600 == pytest.approx(sum(t.cpu_seconds for t in tasks))
        assert found.total.cpu_hours * 3600 >= 0.5
        assert found.by_node[0].name == tasks[0].node
        assert client.usage.get().total.tasks == len(tasks)
