"""Pages of projects, members and secrets, and the home page, as a browser gets them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from millpond.client.cli import cli
from millpond.people import actions
from millpond.people.values import ProjectFilter

PAGES = ("/projects/birds", "/projects/birds/members", "/projects/birds/secrets")


def test_home_tells_a_newcomer_what_to_do_first(portal_site: Any) -> None:
    with portal_site.browser("stranger") as http:
        shown = http.get("/")
        assert shown.status_code == 200
        assert "You are in no project yet" in shown.text
        assert "millpond project make NAME" in shown.text
        made = http.post("/projects/new", data={"name": "fish", "description": "Of\r\nthe sea"})
        assert (made.status_code, made.headers["location"]) == (303, "/projects/fish")
        home = http.get("/").text
        assert "What to do first" in home
        assert "millpond dataset push FOLDER --project fish" in home
        assert "project fish" in home
        assert re.search(r"Make a project</span>\s*<span[^>]*badge", home)


def test_home_shows_what_is_mine_and_nothing_of_others(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        assert 'href="/projects/birds"' in http.get("/").text
    for who in ("stranger", "root"):
        with portal_site.browser(who) as http:
            assert "birds" not in http.get("/").text


def test_nobody_sees_a_page_before_signing_in(portal_site: Any) -> None:
    with portal_site.browser() as http:
        for path in ("/", "/projects", "/projects/new", *PAGES):
            assert http.get(path).headers["location"].startswith("/sign-in"), path


def test_projects_are_searched_and_paged(portal_site: Any) -> None:
    owner = portal_site.actor("owner")
    with portal_site.database.transaction() as tx:
        for name in ("ants", "bees"):
            actions.add_project(tx, owner, name, "Insects & <more>")
        actions.change_project(tx, owner, "bees", is_archived=True)
    with portal_site.browser("owner") as http:
        found = http.get("/projects", params={"text": "INSECTS &"}).text
        assert "/projects/ants" in found
        assert "/projects/bees" not in found
        assert "Insects &amp; &lt;more&gt;" in found
        assert "/projects/bees" in http.get("/projects", params={"which": "archived"}).text
        assert "No project holds" in http.get("/projects", params={"text": "zzz"}).text
        first = http.get("/projects", params={"limit": 1, "text": ""}).text
        assert "/projects/ants" in first
        following = re.search(r'href="(/projects\?[^"]+)">Next page', first)
        assert following
        assert "/projects/birds" in http.get(following[1].replace("&amp;", "&")).text
        assert http.get("/projects", params={"which": "all"}).status_code == 403
    with portal_site.browser("root") as http:
        assert "/projects/birds" in http.get("/projects", params={"which": "all"}).text


def test_a_new_project_tells_its_faults_and_keeps_what_was_typed(portal_site: Any) -> None:
    with portal_site.browser("owner") as http:
        wrong = http.post("/projects/new", data={"name": "Big Birds", "description": "kept <b>"})
        assert wrong.status_code == 422
        assert 'value="Big Birds"' in wrong.text
        assert "kept &lt;b&gt;" in wrong.text
        assert 'id="field-name-fault"' in wrong.text
        taken = http.post("/projects/new", data={"name": "birds"})
        assert taken.status_code == 409
        assert "is taken" in taken.text
        assert http.post("/projects/new", data={}).status_code == 422


def test_a_project_page_shows_each_what_they_may_do(portal_site: Any) -> None:
    def shown(who: str) -> str:
        with portal_site.browser(who) as http:
            answer = http.get("/projects/birds")
            assert answer.status_code == 200
            return str(answer.text)

    for who in ("owner", "root"):
        assert "Archive birds?" in shown(who)
        assert "/projects/birds/settings" in shown(who)
    for who in ("editor", "viewer"):
        assert "Archive birds?" not in shown(who)
        assert "/projects/birds/settings" not in shown(who)
    assert "You are no member" in shown("root")
    assert "No data yet." in shown("viewer")
    assert "No data yet." not in shown("root")
    assert "millpond project use birds" in shown("viewer")
    with portal_site.browser("stranger") as http:
        assert http.get("/projects/birds").status_code == 404


def test_a_project_is_described_archived_and_brought_back(portal_site: Any) -> None:
    with portal_site.browser("owner") as http:
        assert "Change the description" in http.get("/projects/birds/settings").text
        done = http.post("/projects/birds/settings", data={"description": "Songs"})
        assert done.headers["location"] == "/projects/birds"
        page = http.get("/projects/birds").text
        assert "Songs" in page
        assert "The description is changed." in page
        long = http.post("/projects/birds/settings", data={"description": "x" * 2001})
        assert long.status_code == 422
        assert "x" * 2001 in long.text
        http.post("/projects/birds/settings", data={"description": ""})
        assert "No description yet." in http.get("/projects/birds").text
        http.post("/projects/birds/settings", data={"is_archived": "true"})
        archived = http.get("/projects/birds").text
        assert "This project is archived" in archived
        assert "Bring birds back?" in archived
        assert "Set a secret" not in http.get("/projects/birds/secrets").text
        assert (
            http.post("/projects/birds/secrets", data={"name": "A", "value": "b"}).status_code
            == 409
        )
        http.post("/projects/birds/settings", data={"is_archived": "false"})
        assert "This project is archived" not in http.get("/projects/birds").text


def test_a_project_is_renamed_with_a_warning_before(portal_site: Any) -> None:
    with portal_site.browser("owner") as http:
        shown = http.get("/projects/birds/settings").text
        assert 'data-confirm="Rename birds?"' in shown
        http.post("/projects/new", data={"name": "fish"})
        for name, status in (("fish", 409), ("Not good", 422), ("", 422)):
            refused = http.post("/projects/birds/settings", data={"name": name})
            assert refused.status_code == status, name
            assert 'class="alert' in refused.text
        done = http.post("/projects/birds/settings", data={"name": "songbirds"})
        assert done.headers["location"] == "/projects/songbirds"
        assert "The project birds is called songbirds now." in http.get("/projects/songbirds").text
        assert http.get("/projects/birds").status_code == 404


@pytest.mark.parametrize(("who", "status"), [("editor", 403), ("viewer", 403), ("stranger", 404)])
def test_who_may_not_change_a_project_is_told_so(portal_site: Any, who: str, status: int) -> None:
    with portal_site.browser(who) as http:
        assert http.get("/projects/birds/settings").status_code == status
        for path, data in (
            ("settings", {"description": "x"}),
            ("members", {"user": "stranger", "role": "viewer"}),
            ("members/viewer/remove", {}),
        ):
            assert http.post(f"/projects/birds/{path}", data=data).status_code == status, path


def test_a_project_is_left_by_anybody_but_its_last_owner(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        assert "Leave birds?" in http.get("/projects/birds").text
        assert http.post("/projects/birds/leave").headers["location"] == "/"
        assert "You have left birds." in http.get("/").text
        assert http.get("/projects/birds").status_code == 404
    with portal_site.browser("owner") as http:
        alone = http.post("/projects/birds/leave")
        assert alone.status_code == 409
        assert "last owner" in alone.text
    with portal_site.browser("root") as http:
        assert "Leave birds?" not in http.get("/projects/birds").text
        assert http.post("/projects/birds/leave").status_code == 403
    with portal_site.browser("stranger") as http:
        assert http.post("/projects/birds/leave").status_code == 404


def test_members_are_added_changed_and_removed(portal_site: Any) -> None:
    path = "/projects/birds/members"
    with portal_site.browser("owner") as http:
        page = http.get(path).text
        assert "the last owner" in page
        assert "Remove editor from birds?" in page
        assert 'aria-label="Remove editor"' in page
        assert "Remove owner from birds?" not in page
        said = http.post(path, data={"user": "stranger", "role": "viewer"})
        assert said.headers["location"] == path
        assert "stranger is viewer of birds now." in http.get(path).text
        unknown = http.post(path, data={"user": "nobody-here", "role": "editor"})
        assert unknown.status_code == 422
        assert 'value="nobody-here"' in unknown.text
        assert "There is no user &#39;nobody-here&#39;." in unknown.text
        assert http.post(path, data={"user": "", "role": "editor"}).status_code == 422
        assert http.post(path, data={"user": "viewer", "role": "king"}).status_code == 422
        alone = http.post(path, data={"user": "owner", "role": "viewer"})
        assert alone.status_code == 409
        assert "last owner" in alone.text
        assert http.post(f"{path}/owner/remove").status_code == 409
        assert http.post(f"{path}/stranger/remove").status_code == 303
        assert "stranger is no member of birds any more." in http.get(path).text
        assert http.post(f"{path}/stranger/remove").status_code == 404
    with portal_site.browser("viewer") as http:
        page = http.get(path).text
        assert "editor" in page
        assert "Add somebody" not in page
        assert "Remove" not in page
    with portal_site.browser("stranger") as http:
        assert http.get(path).status_code == 404
        assert http.post(path, data={"user": "x", "role": "owner"}).status_code == 404


def test_secrets_are_set_and_never_shown(portal_site: Any) -> None:
    path = "/projects/birds/secrets"
    with portal_site.browser("editor") as http:
        assert "There are no secrets" in http.get(path).text
        wrong = http.post(path, data={"name": "lower", "value": "hunter2"})
        assert wrong.status_code == 422
        assert "hunter2" not in wrong.text
        assert 'value="lower"' in wrong.text
        assert http.post(path, data={"name": "A"}).status_code == 422
        assert http.post(path, data={"name": "KEY", "value": "xyzzy\r\nplugh"}).status_code == 303
        page = http.get(path).text
        assert "KEY is kept. It is never shown again." in page
        assert "Forget the secret KEY?" in page
        assert "xyzzy" not in page
    with portal_site.database.reading() as tx:
        values = actions.secret_values(
            tx, portal_site.project_id, ["KEY"], box=portal_site.house.box
        )
    assert values == {"KEY": "xyzzy\nplugh"}
    with portal_site.browser("viewer") as http:
        page = http.get(path).text
        assert "KEY" in page
        assert "Set a secret" not in page
        assert "Forget the secret" not in page
        assert http.post(path, data={"name": "B", "value": "b"}).status_code == 403
        assert http.post(f"{path}/KEY/remove").status_code == 403
    for who, status in (("stranger", 404), ("root", 403)):
        with portal_site.browser(who) as http:
            assert http.get(path).status_code == status
    with portal_site.browser("owner") as http:
        assert http.post(f"{path}/KEY/remove").status_code == 303
        assert http.post(f"{path}/KEY/remove").status_code == 404


def test_pages_run_nothing_inline(portal_site: Any) -> None:
    with portal_site.browser("owner") as http:
        for path in ("/", "/projects", "/projects/new", "/projects/birds/settings", *PAGES):
            text = http.get(path).text
            assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:", text), path
            assert text.count("<h1") == 1, path
    with portal_site.database.reading() as tx:
        found = actions.list_projects(tx, portal_site.actor("owner"), ProjectFilter())
    assert [project.name for project in found.items] == ["birds"]


def test_a_panel_is_given_alone_to_be_put_into_its_page(portal_site: Any) -> None:
    headers = {"HX-Request": "true"}
    with portal_site.browser("viewer") as http:
        for base in ("", "/projects/birds"):
            part = http.get(f"{base}/panels/0", headers=headers)
            assert part.status_code == 200
            assert part.text.lstrip().startswith("<section")
            assert "Nothing has run yet." in part.text
            assert 'data-live="birds runs"' in part.text
            assert http.get(f"{base}/panels/50", headers=headers).status_code == 404
    with portal_site.browser("stranger") as http:
        assert http.get("/projects/birds/panels/0").status_code == 404


def test_the_command_line_goes_along_to_the_new_name(portal_site: Any, tmp_path: Path) -> None:
    environment = {
        "MILLPOND_URL": portal_site.url,
        "MILLPOND_TOKEN": portal_site.token("owner"),
        "MILLPOND_PROJECT": "",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    run("project", "use", "birds")
    assert "called 'songbirds' now" in run("project", "rename", "birds", "songbirds", "--yes")
    assert json.loads(run("project", "show", "--json"))["name"] == "songbirds"
