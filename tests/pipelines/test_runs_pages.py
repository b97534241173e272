"""Pages of runs: the list, a run while it goes on and after, its log, its outputs; who may do what."""

import html
import json
import re

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from millpond.client.cli import cli
from millpond.client.client import Client
from millpond.pipelines.runs import actions
from millpond.pipelines.runs.tables import run as run_table
from millpond.pipelines.runs.tables import step_run
from millpond.storage import events

AT = "/projects/birds/runs"
CODE = """
import time
from millpond import File, Files, Table, pipeline, step

@step(map=True, files_per_task=1, memory="128 MiB")
def look(files: Files, pause: float, fail: bool) -> Table:
    for file in files:
        print("looking at", ascii(file.name), flush=True)
        time.sleep(pause)
        if fail:
            raise ValueError("<b>no bottom</b>")
        yield {"path": file.name, "size": file.size}

@step(memory="128 MiB")
def drawn(rows: Table) -> File:
    return ("plot.svg", "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'></svg>")

@pipeline
def lakes(files: Files, pause: float = 0.0, fail: bool = False):
    rows = look(files, pause, fail)
    return {"sizes": rows, "plot": drawn(rows)}
"""


class Lakes:
    """A project with one pipeline and data, and those who start runs in it."""

    def __init__(self, site, folder):
        self.site = site
        self.client = Client(site.url, site.token("editor"), project="birds")
        code, data = folder / "code", folder / "data"
        for path, text in {
            code / "pipeline.py": CODE, data / "one.txt": "1", data / "two.txt": "22",
        }.items():  # fmt: skip
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        self.client.pipelines.push(code, "lakes")
        self.data = self.client.datasets.push(data, "data").version.address
        self.address = self.client.pipelines.wait("lakes").address

    def start(self, **parameters):
        return self.client.runs.start(self.address, {"files": self.data}, parameters)

    def run(self, **parameters):
        return self.client.runs.wait(self.start(**parameters).id)


@pytest.fixture
def lakes(portal_site, tmp_path):
    made = Lakes(portal_site, tmp_path / "lakes")
    with made.client:
        yield made


def words(text):
    """Give what a reader sees of a page."""
    shown = re.sub(r"<(script|style|noscript).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(shown).split())


def test_a_finished_run_shows_all_that_is_known_of_it(lakes):
    run = lakes.run()
    with lakes.site.browser("viewer") as http:
        answer = http.get(f"{AT}/{run.id}")
        assert answer.status_code == 200
        text, seen = answer.text, words(answer.text)
        assert "style=" not in text
        assert "data-live" not in text.replace("millpond-live", "")
        for told in (
            "Run of lakes@1", "succeeded", "2 of 2 steps", "2 of 2 files", "look", "drawn",
            "looking at 'one.txt'", "predictions.csv", "files data@1 2", "pause", "plain Python",
            "editor", run.code_digest, "Processor time", f"millpond run show {run.id}",
        ):  # fmt: skip
            assert told in seen, told
        assert "dag-succeeded" in text
        assert f'href="/api/v1{AT}/{run.id}/outputs/archive"' in text
        assert "data-complete" in text
        # A viewer looks; changing is for editors.
        for hidden in ("Run again", "Change and run", f"{AT}/{run.id}/cancel"):
            assert hidden not in text
        assert http.post(f"{AT}/{run.id}/again").status_code == 403
        assert http.post(f"{AT}/{run.id}/cancel").status_code == 403
    with lakes.site.browser("editor") as http:
        text = http.get(f"{AT}/{run.id}").text
        assert f"/projects/birds/pipelines/lakes/run?from_run={run.id}" in text
        assert "Run again" in text
    with lakes.site.browser("stranger") as http:
        for path in (
            "",
            f"/{run.id}",
            f"/{run.id}/live",
            f"/{run.id}/outputs",
            f"/{run.id}/report",
        ):
            assert http.get(AT + path).status_code == 404, path
    with lakes.site.browser("owner") as http:
        assert http.get(f"{AT}/run_none").status_code == 404


def test_outputs_are_looked_at_and_the_report_opens_shut_in(lakes):
    run = lakes.run()
    with lakes.site.browser("viewer") as http:
        listed = words(http.get(f"{AT}/{run.id}/outputs?limit=3").text)
        assert "Next page" in listed

        def look(path):
            return http.get(f"{AT}/{run.id}/outputs/file", params={"path": path})

        table = words(look("predictions.csv").text)
        assert "size whole number" in table
        assert "one.txt 1" in table
        assert '"run": "' in html.unescape(look("statistics.json").text)
        assert "two.txt" in words(look("tables/sizes.parquet").text)
        assert look("no such file").status_code == 404
        page = look("files/plot/plot.svg").text
        source = html.unescape(re.search(r'<img class="mw-100" src="([^"]+)"', page).group(1))
        image = http.get(source)
        assert image.headers["content-type"].startswith("image/svg+xml")
        assert "sandbox" in image.headers["content-security-policy"]
        refused = http.get(
            source.replace("plot.svg", "x").replace("files%2Fplot%2Fx", "report.html")
        )
        assert refused.status_code == 404
        report = http.get(f"{AT}/{run.id}/report")
        assert report.headers["content-type"] == "text/html; charset=utf-8"
        policy = report.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert policy.endswith("; sandbox")
        own = re.search(r"style-src &#x27;(sha256-[^&]+)&#x27;", report.text).group(1)
        assert own in policy, "the style that the report itself allows"
        assert "<svg" in report.text


def test_a_failed_run_says_on_top_what_failed_and_what_to_do(lakes):
    run = lakes.run(fail=True)
    assert run.state == "failed"
    with lakes.site.browser("viewer") as http:
        text = http.get(f"{AT}/{run.id}").text
        seen = words(text)
        assert seen.index("It failed") < seen.index("Steps")
        assert "<b>no bottom</b>" not in text
        assert "no bottom" in seen
        assert "Next: look at the log of what failed" in seen
        failed = words(http.get(f"{AT}/{run.id}?step=look&which=failed").text)
        assert "Tasks of look" in failed
        tasks = lakes.client.runs.tasks(run.id)  # Of two, one may be stopped before its first word.
        part = next(task.partition for task in tasks if task.state == "failed")
        log = http.get(f"{AT}/{run.id}?step=look&partition={part}").text
        assert f"Log of look, partition {part}" in words(log)
        names = ["one.txt", "two.txt"]
        assert f"looking at '{names.pop(part)}'" in words(log)
        assert f"looking at '{names[0]}'" not in words(log)
        assert "skipped" in seen


def test_a_live_run_is_followed_by_parts_that_stop_when_it_ends(lakes):
    run = lakes.start(pause=60.0)
    lakes.client.runs.log(run.id)
    with lakes.site.browser("editor") as http:
        for _ in range(600):
            text = http.get(f"{AT}/{run.id}").text
            if "looking at" in text:
                break
        assert f'data-live="birds run/{run.id}"' in text
        assert 'hx-trigger="look"' in text
        assert "Cancel this run?" in text
        assert "Writing now: look, partition" in words(text)
        assert '<progress value="0" max="2"' in text
        part = html.unescape(re.search(r'hx-get="([^"]+/live[^"]*)"', text).group(1))
        fragment = {"HX-Request": "true"}
        same = http.get(part, headers=fragment)
        assert same.status_code == 204, "nothing has changed, so nothing is sent"
        listed = http.get(AT).text
        assert f'<tr data-live="birds run/{run.id}">' in listed
        assert 'data-live="birds runs"' in listed
        gone = http.post(f"{AT}/{run.id}/cancel")
        assert (gone.status_code, gone.headers["location"]) == (303, f"{AT}/{run.id}")
        assert lakes.client.runs.wait(run.id).state == "cancelled"
        last = http.get(part, headers=fragment)
        assert last.status_code == 200
        assert "data-live" not in last.text
        assert "<html" not in last.text
        assert last.text.count('hx-swap-oob="true"') == 2
        assert "Cancelled by editor." in words(last.text)
        assert http.post(f"{AT}/{run.id}/cancel").status_code == 409


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_waits_for_a_slot_is_not_listed_as_running(lakes, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}.txt").write_text("x")
    data = lakes.client.datasets.push(folder, "many").version.address
    run = lakes.client.runs.start(lakes.address, {"files": data}, {"pause": 600.0})
    told = None
    with lakes.site.browser("viewer") as http:
        while not told:
            text = http.get(f"{AT}/{run.id}/now").text
            told = re.search(r"Running now (\d+) tasks? on local: .* All 9 (\d+) more", words(text))
    running, waiting = map(int, told.groups())
    assert running + waiting == 9
    assert text.count('<th scope="row"') == running
    lakes.client.runs.cancel(run.id)
    lakes.client.runs.wait(run.id)


def test_again_leads_to_a_new_run_of_the_same(lakes):
    run = lakes.run()
    with lakes.site.browser("editor") as http:
        answer = http.post(f"{AT}/{run.id}/again")
    assert answer.status_code == 303
    made = lakes.client.runs.wait(answer.headers["location"].rpartition("/")[2])
    assert made.id != run.id
    assert (made.state, made.inputs, made.parameters) == ("succeeded", run.inputs, run.parameters)


def test_who_follows_a_project_hears_of_every_run(lakes):
    run = lakes.run()
    told = lakes.site.database.read(
        lambda tx: events.after(tx, 0, project_id=lakes.site.project_id, topic="runs")
    )
    assert [event.kind.rpartition(".")[2] for event in told] == [
        "queued", "preparing", "running", "succeeded",
    ]  # fmt: skip
    assert {event.facts["run"] for event in told} == {run.id}


# The list --------------------------------------------------------------------------------------


@pytest.fixture
def many(portal_site, filling):
    filling.fill(portal_site.database, portal_site.house.objects, portal_site.project_id, runs=120)
    return portal_site


def rows(text):
    return re.findall(r'<th scope="row" class="words"><a id="row-(run_\w+)"', text)


def test_the_list_is_narrowed_and_paged_by_its_address(many):
    with many.browser("viewer") as http:
        text = http.get(AT).text
        first = rows(text)
        assert len(first) == 50
        assert 'data-live="birds runs"' in text
        more = html.unescape(re.search(r'class="btn ms-auto" href="([^"]+)"', text).group(1))
        text = http.get(more).text
        second = rows(text)
        assert "data-live=" not in text, "only the first page changes under its reader"
        assert len(second) == 50
        assert min(first) > max(second)
        some = {"state": "failed", "pipeline": "birds", "text": "BIRDS@", "by": "bench"}
        found = http.get(AT, params=some)
        narrowed = rows(found.text)
        assert 0 < len(narrowed) < 50
        assert 'value="BIRDS@"' in found.text
        part = http.get(AT, params=some, headers={"HX-Request": "true"})
        assert rows(part.text) == narrowed
        assert part.text.lstrip().startswith('<div id="runs-list"')
        empty = http.get(AT, params={"text": "nothing like it"}).text
        assert "No such run" in words(empty)
        assert rows(http.get(AT, params={"state": "live"}).text) == []
        wrong = http.get(AT, params={"state": "odd", "since": "yesterday"})
        assert wrong.status_code == 422
        assert "must be a day, such as 2026-05-01" in words(wrong.text)
        until = http.get(AT, params={"until": "2020-01-01"})
        assert rows(until.text) == []


def test_an_empty_list_says_what_to_do_next(portal_site):
    with portal_site.browser("viewer") as http:
        seen = words(http.get(AT).text)
    assert "Nothing has run yet" in seen
    assert "millpond run PIPELINE" in seen


def test_two_hundred_steps_and_odd_names_are_shown(many):
    with many.browser("viewer") as http:
        run_id = rows(http.get(AT).text)[0]

        def widen(tx):
            found = tx.rows(sa.select(step_run).where(step_run.c.run_id == run_id))[0]
            facts = dict(found._mapping)
            more = [
                {**facts, "name": f"<i>{n}&", "place": n + 10, "needs": ["load"]}
                for n in range(200)
            ]
            tx.execute(step_run.insert(), more)
            tx.execute(
                run_table.update().where(run_table.c.id == run_id).values(reason="<script>x")
            )

        many.database.change(widen)
        text = http.get(f"{AT}/{run_id}").text
    assert text.count('class="dag-box"') == 203
    assert "<i>" not in text
    assert "<script>x" not in text


# REST of logs ----------------------------------------------------------------------------------


def test_logs_over_rest_sdk_and_command_line_agree(lakes, monkeypatch, tmp_path):
    run = lakes.run()
    client = lakes.client
    whole = client.runs.log(run.id).text
    assert whole.startswith("== look, partition 0 ==\nlooking at 'one.txt'\n")
    assert client.runs.tail_log(run.id, 1).text.endswith(
        "== look, partition 1 ==\nlooking at 'two.txt'\n"
    )
    assert client.runs.tail_log(run.id, 1000).text == whole
    assert "".join(part.text for part in client.runs.follow_log(run.id)) == whole
    found = list(client.runs.search_log(run.id, "LOOKING AT"))
    assert [(one.step, one.partition) for one in found] == [("look", 0), ("look", 1)]
    assert client.runs.preview(run.id, "predictions.csv").rows[1] == ("two.txt", "2")
    saved = client.runs.download_log(run.id, tmp_path / "run.log")
    assert saved.read_text() == whole
    part = client.runs.download_log(run.id, tmp_path / "part.log", step="look", partition=1)
    assert "one.txt" not in part.read_text()
    with lakes.site.browser("viewer") as http:
        at = f"/api/v1{AT}/{run.id}/log"
        assert http.get(f"{at}?after=1.0.0&before=end").status_code == 422
        assert http.get(f"{at}?before=x").json()["faults"][0]["field"] == "before"
        sent = http.get(f"{at}/text")
        assert sent.headers["content-type"].startswith("text/plain")
        assert "attachment" in sent.headers["content-disposition"]
    with lakes.site.browser("stranger") as http:
        for path in ("", "/search?text=a", "/text"):
            assert http.get(at + path).status_code == 404


def test_the_command_line_reads_searches_and_keeps_logs_and_runs_again(
    lakes, monkeypatch, tmp_path
):
    run = lakes.run()
    given = {
        "HOME": str(tmp_path), "MILLPOND_URL": lakes.site.url,
        "MILLPOND_TOKEN": lakes.site.token("editor"),
    }  # fmt: skip
    monkeypatch.delenv("MILLPOND_CONFIG", raising=False)

    def call(*words):
        done = CliRunner().invoke(cli, ["run", *words, "--project", "birds"], env=given)
        assert done.exit_code == 0, done.output
        return done.output

    assert call("logs", run.id, "--tail", "1").endswith("looking at 'two.txt'\n")
    assert call("logs", run.id, "--follow") == call("logs", run.id)
    assert call("logs", run.id, "--tail", "1", "--follow").count("\n") == 2
    found = call("logs", run.id, "--search", "TWO.TXT")
    assert "looking at 'two.txt'" in found
    assert "one.txt" not in found
    kept = tmp_path / "kept.log"
    call("logs", run.id, "--step", "look", "--output", str(kept))
    assert kept.read_text() == call("logs", run.id)
    assert "two.txt" in call("outputs", run.id, "predictions.csv")
    assert "succeeded" in call("again", run.id, "--wait")
    listed = call("list", "--state", "succeeded", "--by", "editor", "--search", "LAKES", "--json")
    assert len(json.loads(listed)) == 2
    assert json.loads(call("list", "--until", "2020-01-01", "--json")) == []
    assert json.loads(call("tasks", run.id, "--state", "failed", "--json")) == []
    both = ["run", "logs", run.id, "--search", "a", "--tail", "3", "--project", "birds"]
    assert CliRunner().invoke(cli, both, env=given).exit_code == 2


def test_runs_are_listed_by_what_one_asks_for_over_rest(many):
    with many.browser("viewer") as http:
        asked = [("state", "failed"), ("state", "cancelled"), ("text", "birds@")]
        found = http.get(f"/api/v1{AT}", params=asked).json()["items"]
        assert {one["state"] for one in found} == {"failed", "cancelled"}
        none = http.get(f"/api/v1{AT}", params={"since": "2999-01-01T00:00:00"})
        assert none.json()["items"] == []
    with Client(many.url, many.token("viewer"), project="birds") as client:
        listed = client.runs.list(state=["failed", "cancelled"], text="birds@", most=None)
    assert json.dumps([one.id for one in listed]) == json.dumps([one["id"] for one in found])
    page = many.database.read(
        lambda tx: actions.list_runs(tx, many.actor("viewer"), many.project_id, limit=1000)
    )
    assert len(page.items) == 120
