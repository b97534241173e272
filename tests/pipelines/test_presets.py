"""Presets: kept, listed, changed, removed; checked like runs; on record; over REST."""

import asyncio

import httpx
import pytest

from millpond.audit.actions import list_entries
from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, InvalidError, NotAllowedError, NotFoundError
from millpond.lake.actions import add_version
from millpond.lake.values import FileEntry, Manifest
from millpond.pipelines.presets import actions as presets
from millpond.pipelines.routes import routes
from millpond.pipelines.runs import actions as runs
from millpond.pipelines.values import InputSpec, PipelineSpec, StepSpec
from millpond.web.frame import build_frame

ANA, VERA = Actor("user_ana", "ana"), Actor("user_vera", "vera")
POND = "prj_pond"
SPEC = PipelineSpec(
    name="score",
    title="Score",
    description="",
    parameters={
        "properties": {
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
        },
        "required": ["share"],
    },
    inputs=(InputSpec("files", "files"),),
    outputs=(),
    steps=(StepSpec("s", "whole", "m:f"),),
)


@pytest.fixture
def score(plant, people):
    entry = FileEntry("a.txt", "0" * 64, 1)
    key = f"projects/{POND}/manifests/00/" + "0" * 64
    people.change(lambda tx: add_version(tx, ANA, POND, "docs", Manifest((entry,)), key, "upload"))
    return plant(SPEC)


def keep(database, name="night", actor=ANA, inputs=None, description="", **parameters):
    return database.change(
        lambda tx: presets.set_preset(
            tx, actor, POND, "score", name,
            description=description, inputs=inputs or {}, parameters=parameters,
        )
    )  # fmt: skip


def test_a_preset_is_made_changed_listed_and_removed_and_all_is_on_record(score, people):
    made = keep(people, share=0.5, description=" For the night. ")
    assert (made.name, made.pipeline, made.created_by) == ("night", "score", "ana")
    assert (made.parameters, made.inputs, made.description) == (
        {"share": 0.5},
        {},
        "For the night.",
    )
    changed = keep(people, inputs={"files": "docs"}, mode="slow")
    assert (changed.id, changed.parameters) == (made.id, {"mode": "slow"})
    assert changed.inputs == {"files": "docs"}
    assert changed.created_at == made.created_at
    keep(people, "day")
    listed = people.read(lambda tx: presets.list_presets(tx, VERA, POND, "score"))
    assert [one.name for one in listed.items] == ["day", "night"]
    first = people.read(lambda tx: presets.list_presets(tx, VERA, POND, "score", limit=1))
    after = people.read(
        lambda tx: presets.list_presets(tx, VERA, POND, "score", cursor=first.next_cursor)
    )
    assert [one.name for one in after.items] == ["night"]
    people.change(lambda tx: presets.remove_preset(tx, ANA, POND, "score", "day"))
    with pytest.raises(NotFoundError, match="no preset 'day'"):
        people.read(lambda tx: presets.get_preset(tx, ANA, POND, "score", "day"))
    entries = people.read(lambda tx: list_entries(tx, project_id=POND, limit=100))
    verbs = [one.verb for one in entries.items if one.target.startswith("preset/score/")]
    assert sorted(verbs) == ["preset.changed", "preset.made", "preset.made", "preset.removed"]


def test_what_a_preset_says_must_fit_the_form_and_every_fault_is_named_as_a_run_names_it(
    score, people
):
    wrong = {"share": 2, "mod": "fast"}
    inputs = {"files": "nothing", "file": "docs"}
    with pytest.raises(InvalidError) as refused:
        keep(people, inputs=inputs, **wrong)
    told = {fault.field: fault.message for fault in refused.value.faults}
    with pytest.raises(InvalidError) as run:
        people.change(
            lambda tx: runs.start_run(tx, ANA, POND, "score", inputs=inputs, parameters=wrong)
        )
    assert told == {fault.field: fault.message for fault in run.value.faults}
    assert told["parameters.share"] == "must be at most 1, not 2"
    assert told.keys() == {"parameters.share", "parameters.mod", "inputs.files", "inputs.file"}
    with pytest.raises(InvalidError):
        keep(people, "No Name")
    assert not people.read(lambda tx: presets.list_presets(tx, ANA, POND, "score")).items


def test_viewers_look_and_change_nothing(score, people):
    keep(people, share=0.5)
    with pytest.raises(NotAllowedError):
        keep(people, actor=VERA)
    with pytest.raises(NotAllowedError):
        people.change(lambda tx: presets.remove_preset(tx, VERA, POND, "score", "night"))
    found = people.read(lambda tx: presets.get_preset(tx, VERA, POND, "score", "night"))
    assert found.parameters == {"share": 0.5}


def test_a_preset_needs_a_version_that_is_ready_and_takes_the_newest_of_them(plant, people):
    plant(SPEC, state="failed")
    with pytest.raises(ConflictError, match="score@1 can't run"):
        keep(people)
    plant(SPEC)
    plant(SPEC, state="failed")
    assert keep(people, share=1).parameters == {"share": 1}
    with pytest.raises(NotFoundError):
        people.read(lambda tx: presets.list_presets(tx, ANA, POND, "scores"))


@pytest.fixture
def ask(people):
    actors = {"ana": ANA, "vera": VERA}
    app = build_frame(people, lambda tx, token, is_local: actors.get(token))
    app.include_router(routes(None), prefix="/api/v1")

    def send(method, path, user="ana", **rest):
        async def go():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                headers = {"Authorization": f"Bearer {user}"}
                address = f"/api/v1/projects/pond{path}"
                return await http.request(method, address, headers=headers, **rest)

        return asyncio.run(go())

    return send


def test_over_rest(score, ask):
    body = {"parameters": {"share": 0.5}, "inputs": {"files": "docs@1"}, "description": "d"}
    made = ask("PUT", "/pipelines/score/presets/night", json=body)
    assert made.status_code == 200
    assert made.json()["parameters"] == {"share": 0.5}
    assert ask("GET", "/pipelines/score/presets/night", user="vera").json() == made.json()
    assert ask("GET", "/pipelines/score/presets").json()["items"] == [made.json()]
    assert ask("PUT", "/pipelines/score/presets/night", user="vera", json=body).status_code == 403
    assert (
        ask("PUT", "/pipelines/score/presets/x", json={"parameters": {"share": "a"}}).status_code
        == 422
    )
    assert ask("DELETE", "/pipelines/score/presets/night").status_code == 204
    assert ask("GET", "/pipelines/score/presets/night").status_code == 404
    assert [one["name"] for one in ask("GET", "/pipelines?search=COR").json()["items"]] == ["score"]
    assert ask("GET", "/pipelines?search=%25").json()["items"] == []


def test_a_run_over_rest_is_filled_from_a_preset_and_what_is_given_wins(score, ask):
    body = {"parameters": {"share": 0.5, "mode": "slow"}, "inputs": {"files": "docs@1"}}
    ask("PUT", "/pipelines/score/presets/night", json=body)
    given = {"pipeline": "score@1", "preset": "night", "parameters": {"mode": "fast"}}
    started = ask("POST", "/runs", json=given)
    assert started.status_code == 201, started.text
    run = started.json()
    assert run["parameters"] == {"share": 0.5, "mode": "fast"}
    assert [(one["dataset"], one["number"]) for one in run["inputs"]] == [("docs", 1)]
    missing = ask("POST", "/runs", json={**given, "preset": "day"})
    assert (missing.status_code, "no preset 'day'" in missing.text) == (404, True)
    still = ask("POST", "/runs", json={**given, "parameters": {"share": 2}})
    assert (still.status_code, still.json()["faults"][0]["field"]) == (422, "parameters.share")
    program = {"entry": "a.py", "files": [{"path": "a.py", "digest": "0" * 64, "size": 1}]}
    refused = ask("POST", "/runs", json={"program": program, "preset": "night"})
    assert (refused.status_code, refused.json()["faults"][0]["field"]) == (422, "preset")
