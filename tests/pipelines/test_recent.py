"""What the home page shows of runs and pipelines, of one's own projects alone."""

from millpond.ground.actor import Actor
from millpond.people.tables import project
from millpond.pipelines.runs import actions as runs
from millpond.pipelines.runs.recent import show_runs
from millpond.pipelines.runs.tables import run
from millpond.pipelines.specs.recent import show_pipelines
from millpond.pipelines.values import PipelineSpec, StepSpec
from millpond.web.panels import Place

ANA, VERA = Actor("user_ana", "ana"), Actor("user_vera", "vera")
STRANGER, ROOT = Actor("user_x", "x"), Actor("user_root", "root", is_admin=True)
PLACES = [Place("prj_pond", "pond"), Place("prj_none", "none")]
SPEC = PipelineSpec(
    name="score", title="", description="", parameters={"properties": {}}, inputs=(), outputs=(),
    steps=(StepSpec("s", "whole", "m:f"),),
)  # fmt: skip


def start(database, count):
    def make(tx):
        return [
            runs.start_run(tx, ANA, "prj_pond", "score", inputs={}, parameters={}).id
            for _ in range(count)
        ]

    return database.change(make)


def shown(database, source, actor, limit=6):
    return database.read(lambda tx: source(tx, actor, PLACES, limit))


def test_what_runs_now_comes_before_what_ended_last(people, plant):
    plant(SPEC)
    first, second, third = start(people, 3)
    with people.transaction() as tx:
        tx.execute(
            run.update()
            .where(run.c.id.in_([second, third]))
            .values(state="failed", ended_at=tx.now)
        )
        doing = {"items_done": 2, "items_total": 8}
        tx.execute(run.update().where(run.c.id == first).values(state="running", progress=doing))
    panel = shown(people, show_runs, VERA)
    assert [row.path for row in panel.rows] == [
        f"/projects/pond/runs/{one}" for one in (first, third, second)
    ]
    assert (panel.rows[0].done, panel.rows[0].total) == (2, 8)
    assert panel.rows[0].topic == f"run/{first}"
    assert (panel.rows[1].total, panel.rows[1].topic, panel.rows[1].state) == (0, "", "failed")
    assert panel.live == ["pond runs"]
    assert len(shown(people, show_runs, VERA, 2).rows) == 2
    assert [step.is_done for step in panel.steps] == [True, False]
    with people.transaction() as tx:
        tx.execute(run.update().where(run.c.id == third).values(state="succeeded"))
    assert [step.is_done for step in shown(people, show_runs, VERA).steps] == [True, True]


def test_pipelines_are_shown_with_their_newest_version(people, plant):
    plant(SPEC)
    plant(SPEC, state="failed")
    panel = shown(people, show_pipelines, VERA)
    assert [(row.text, row.state) for row in panel.rows] == [("score@2", "failed")]
    assert panel.steps[0].is_done


def test_others_are_shown_nothing(people, plant):
    plant(SPEC)
    start(people, 1)
    for actor in (STRANGER, ROOT, Actor("user_ana", "ana", scopes=frozenset({"dataset.read"}))):
        for source in (show_runs, show_pipelines):
            assert not shown(people, source, actor).rows, (actor, source)
    with people.transaction() as tx:
        values = {"name": "none", "description": "", "is_archived": False, "made_at": tx.now}
        tx.execute(project.insert().values(id="prj_none", **values))
    assert len(shown(people, show_runs, ANA).rows) == 1
