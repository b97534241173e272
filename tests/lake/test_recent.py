"""What the home page shows of datasets, of one's own projects alone."""

from millpond.ground.actor import Actor
from millpond.lake import actions
from millpond.lake.recent import show_datasets
from millpond.web.panels import Place

ANA, VERA, BO = (Actor(f"user_{name}", name) for name in ("ana", "vera", "bo"))
ROOT = Actor("user_root", "root", is_admin=True)
PLACES = [Place("prj_pond", "pond"), Place("prj_other", "other")]


def shown(database, actor, limit=6):
    return database.read(lambda tx: show_datasets(tx, actor, PLACES, limit))


def test_datasets_are_shown_newest_first_with_their_newest_version(people, http):
    http.push("old", {"a": b"1"})
    http.push("young", {"a": b"1", "b": b"2"})
    http.push("old", {"a": b"2"})
    panel = shown(people, VERA)
    assert [(row.text, row.path) for row in panel.rows] == [
        ("old@2", "/projects/pond/datasets/old"),
        ("young@1", "/projects/pond/datasets/young"),
    ]
    assert panel.rows[1].note == "2 files, by ana"
    assert panel.steps[0].is_done
    assert len(shown(people, VERA, 1).rows) == 1


def test_hidden_ones_and_those_of_others_are_not_shown(people, http):
    http.push("mine", {"a": b"1"})
    http.push("gone", {"a": b"1"})
    people.change(lambda tx: actions.hide_dataset(tx, ANA, "prj_pond", "gone"))
    assert [row.text for row in shown(people, ANA).rows] == ["mine@1"]
    for actor in (BO, ROOT):
        panel = shown(people, actor)
        assert not panel.rows
        assert not panel.steps[0].is_done
