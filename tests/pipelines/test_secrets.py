"""Secrets of a run: asked for by its steps, missing in the project, given to the steps that ask."""

import pytest

from millpond.ground.actor import Actor
from millpond.ground.errors import InvalidError
from millpond.people.actions import remove_secret, set_secret
from millpond.pipelines.runs import actions

ANA = Actor("user_ana", "ana")
POND = "prj_pond"
CODE = """
import os
from millpond import Table, pipeline, step

@step(secrets=["API_KEY", "OTHER_KEY"], memory="128 MiB")
def ask(least: int) -> Table:
    yield {"length": len(os.environ["API_KEY"]), "other": "OTHER_KEY" in os.environ}

@step(secrets=["API_KEY"], memory="128 MiB")
def again(rows: Table) -> Table:
    for row in rows:
        yield {**row, "same": len(os.environ["API_KEY"]), "none": "OTHER_KEY" not in os.environ}

@pipeline
def keys(least: int = 0):
    return {"found": again(ask(least))}
"""


def test_missing_secrets_are_named_at_the_start_with_all_other_faults(world):
    push(world)
    with pytest.raises(InvalidError) as caught:
        world.start("keys", inputs={"files": "absent"}, least="many")
    fields = {fault.field: fault.message for fault in caught.value.faults}
    assert set(fields) == {
        "inputs.files", "parameters.least", "secrets.API_KEY", "secrets.OTHER_KEY"
    }  # fmt: skip
    assert "step ask, again asks for" in fields["secrets.API_KEY"]
    assert fields["secrets.OTHER_KEY"].endswith("set it with `millpond secret set OTHER_KEY`")
    keep(world, "API_KEY")
    with pytest.raises(InvalidError) as caught:
        world.start("keys")
    assert [fault.field for fault in caught.value.faults] == ["secrets.OTHER_KEY"]
    assert not world.database.read(lambda tx: actions.list_runs(tx, ANA, POND)).items


def test_each_step_is_given_the_secrets_that_it_asks_for(world):
    push(world)
    for name in ("API_KEY", "OTHER_KEY"):
        keep(world, name)
    run = world.run("keys")
    assert run.state == "succeeded", run.reason


def test_a_secret_removed_before_the_run_begins_ends_it_in_words(world):
    push(world)
    for name in ("API_KEY", "OTHER_KEY"):
        keep(world, name)

    def start_and_remove(tx):
        run = actions.start_run(tx, ANA, POND, "keys", inputs={}, parameters={})
        remove_secret(tx, ANA, "pond", "API_KEY")
        return run.id

    run = world.wait(world.database.change(start_and_remove))
    assert run.state == "failed"
    assert "no secret API_KEY" in run.reason
    assert "millpond secret set" in run.reason


def push(world):
    version = world.push(CODE, "keys")
    assert version.state == "ready", version.faults


def keep(world, name):
    world.database.change(
        lambda tx: set_secret(tx, ANA, "pond", name, "a word nobody guesses", box=world.box)
    )
