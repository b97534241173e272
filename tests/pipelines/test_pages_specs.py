"""Pages of pipelines, of their forms and of programs: what they show, keep, refuse and hide."""

import html
import io
import json
import re
import shlex
import zipfile
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.client.cli import run
from millpond.ground.canonical import digest_of
from millpond.ground.ids import new_id
from millpond.jobs.tables import job
from millpond.lake.actions import add_version
from millpond.lake.manifests import write_manifest
from millpond.lake.values import FileEntry, Manifest, object_key
from millpond.people.actions import change_project
from millpond.pipelines.forms import list_fields, read_texts
from millpond.pipelines.presets.actions import get_preset, set_preset
from millpond.pipelines.runs.actions import get_run, start_run
from millpond.pipelines.scripts.pages import read_parameters, write_parameters
from millpond.pipelines.specs import actions as specs
from millpond.pipelines.specs.tables import pipeline_version
from millpond.pipelines.values import InputSpec, OutputSpec, PipelineSpec, StepSpec

AT = "/projects/birds"
SPEC = PipelineSpec(
    name="score",
    title="Score <files>",
    description="First.\n\nSecond.",
    parameters={
        "properties": {
            "share": {"type": "number", "minimum": 0, "maximum": 1, "x-unit": "of all",
                      "description": "How much."},
            "count": {"type": "integer", "default": 3},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
            "flag": {"type": "boolean", "default": True},
            "day": {"type": "string", "format": "date", "default": "2026-01-01"},
            "note": {"type": ["string", "null"], "default": None},
            "sizes": {"type": "array", "items": {"type": "integer"}, "default": [1]},
            "pairs": {"type": "array", "default": [[1, 2]]},
        },
        "required": ["share"],
    },
    inputs=(InputSpec("files", "files", "What is scored."),
            InputSpec("one", "file", "", required=False)),
    outputs=(OutputSpec("scores", "table", "One row a file.", {"step": "s", "output": "result"}),),
    steps=(StepSpec("s", "map", "m:f", arguments={}),),
)  # fmt: skip
CODE = "from millpond import pipeline, step\n\n@pipeline\ndef tiny(n: int = 1):\n    return {}\n"


class Fields(HTMLParser):
    """Reads what a browser would send of the form of a page, and the page's faults."""

    def __init__(self, text, form="run-form"):
        super().__init__()
        self.sent, self.faults, self.ids = [], {}, set()
        self._form, self._is_in, self._area, self._select, self._fault = (
            form,
            False,
            None,
            None,
            None,
        )
        self.feed(text)
        self.faults = {name: each.strip() for name, each in self.faults.items()}

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        if facts.get("id"):
            assert facts["id"] not in self.ids, f"{facts['id']} is there twice"
            self.ids.add(facts["id"])
            if facts["id"].endswith("-fault"):
                self._fault = facts["id"].removeprefix("field-").removesuffix("-fault")
        if tag == "code" and self._fault:
            self.faults[self._fault] += "`"  # Commands are shown as code.
        if tag == "form":
            self._is_in = facts.get("id") == self._form
        if not self._is_in or (not facts.get("name") and tag != "option"):
            return
        if tag == "textarea":
            self._area, self._text = facts["name"], ""
        elif tag == "select":
            self._select, self._chosen = facts["name"], None
        elif tag == "option" and self._select and ("selected" in facts or self._chosen is None):
            self._chosen = facts["value"]
        elif tag == "input" and (facts.get("type") != "checkbox" or "checked" in facts):
            self.sent.append((facts["name"], facts.get("value", "")))

    def handle_data(self, data):
        if self._area:
            self._text += data
        if self._fault:
            self.faults[self._fault] = self.faults.get(self._fault, "") + data

    def handle_endtag(self, tag):
        if tag == "code" and self._fault:
            self.faults[self._fault] += "`"
        if tag == "textarea" and self._area:
            self.sent.append((self._area, self._text.removeprefix("\n").replace("\n", "\r\n")))
            self._area = None
        if tag == "select" and self._select:
            self.sent.append((self._select, self._chosen or ""))
            self._select = None
        if tag == "div":
            self._fault = None
        if tag == "form":
            self._is_in = False

    def with_(self, **changes):
        """Give what is sent when some fields were typed into; a list stands for several rows."""
        changed = {name.replace("__", "."): value for name, value in changes.items()}
        kept = [pair for pair in self.sent if pair[0] not in changed]
        for name, value in changed.items():
            kept += [(name, each) for each in ([value] if isinstance(value, str) else value)]
        sent = {}
        for name, value in kept:
            sent.setdefault(name, []).append(value)
        return sent


def plant(site, spec=SPEC, name="score", state="ready", **values):
    actor = site.actor("editor")

    def write(tx):
        key = f"projects/{site.project_id}/manifests/aa/{new_id('m')}"
        made = specs.push_version(tx, actor, site.project_id, name, manifest_key=key)
        facts = spec.to_json()
        found = {"state": state, "spec": facts, "spec_digest": digest_of(facts), **values}
        if state != "ready":
            found["spec"] = None
        tx.execute(job.delete().where(job.c.key == made.id))  # What is planted stays as it is.
        tx.execute(
            pipeline_version.update().where(pipeline_version.c.id == made.id).values(**found)
        )

    site.database.change(write)


def push_data(site, name, files):
    objects, entries = site.house.objects, []
    for path, text in files.items():
        digest = digest_of([text])
        objects.put(object_key(site.project_id, digest), text.encode())
        entries.append(FileEntry(path, digest, len(text)))
    key, _ = write_manifest(objects, site.project_id, entries)
    manifest = Manifest(tuple(entries))
    site.database.change(
        lambda tx: add_version(
            tx, site.actor("editor"), site.project_id, name, manifest, key, "upload"
        )
    )


def run_of(site, answer):
    assert answer.status_code == 303, answer.text
    found = re.fullmatch(AT + r"/runs/(run_\w+)", answer.headers["location"])
    assert found, answer.headers["location"]
    actor = site.actor("viewer")
    return site.database.read(lambda tx: get_run(tx, actor, site.project_id, found[1]))


@pytest.fixture
def birds(portal_site):
    plant(portal_site)
    push_data(portal_site, "photos", {"a": "1", "b": "2"})
    push_data(portal_site, "photos", {"a": "11", "b": "22"})
    push_data(portal_site, "single", {"c": "3"})
    return portal_site


# Lists and one pipeline ---------------------------------------------------------------------


def test_an_empty_list_says_what_to_do_and_a_full_one_can_be_searched(portal_site):
    with portal_site.browser("viewer") as http:
        text = http.get(f"{AT}/pipelines").text
        assert "millpond pipeline push examples/filetypes --project birds" in text
        assert "/pipelines/new" not in text
        plant(portal_site)
        plant(portal_site, name="other")
        text = http.get(f"{AT}/pipelines").text
        assert "Score &lt;files&gt;" in text
        assert f'href="{AT}/pipelines/score"' in text
        assert "/run" not in text.replace("/runs", "")
        found = http.get(f"{AT}/pipelines?search=OTH").text
        assert f'href="{AT}/pipelines/other"' in found
        assert f'href="{AT}/pipelines/score"' not in found
        assert "No pipeline has" in http.get(f"{AT}/pipelines?search=zzz").text
        first = http.get(f"{AT}/pipelines?limit=1&search=o").text
        assert "Next page" in first
        assert "search=o" in first.partition("Next page")[0].rpartition("href=")[2]
    with portal_site.browser("editor") as http:
        text = http.get(f"{AT}/pipelines").text
        assert f"{AT}/pipelines/new" in text
        assert f"{AT}/pipelines/score/run" in text


def test_one_pipeline_shows_form_steps_versions_presets_and_hides_what_one_may_not(birds):
    editor = birds.actor("editor")
    birds.database.change(
        lambda tx: set_preset(
            tx, editor, birds.project_id, "score", "night", inputs={}, parameters={"share": 0.5}
        )
    )
    with birds.browser("viewer") as http:
        text = http.get(f"{AT}/pipelines/score").text
        for part in ("Score &lt;files&gt;", "First.", "Second.", "at least 0, at most 1", "of all",
                     "One row a file.", "part by part", "night", "score@1", "What is scored.",
                     "millpond run score@1 --project birds --input files=DATASET"):  # fmt: skip
            assert part in text, part
        assert "presets/night/remove" not in text
        assert "/pipelines/score/run" not in text
        assert http.get(f"{AT}/pipelines/nothing").status_code == 404
        assert http.get(f"{AT}/pipelines/score?version=9").status_code == 404
    with birds.browser("editor") as http:
        text = http.get(f"{AT}/pipelines/score").text
        assert "presets/night/remove" in text
        assert f"{AT}/pipelines/score/run?preset=night" in text
        answer = http.post(f"{AT}/pipelines/score/presets/night/remove")
        assert answer.headers["location"] == f"{AT}/pipelines/score"
        assert "The preset night is removed." in http.get(f"{AT}/pipelines/score").text
    with birds.browser("stranger") as http:
        assert http.get(f"{AT}/pipelines/score").status_code == 404


def test_a_version_that_failed_names_its_faults_and_one_that_compiles_is_watched(portal_site):
    fault = {"file": "pipeline.py", "line": 7, "message": "no <step>"}
    plant(portal_site, state="failed", reason="It can't be read.", faults=[fault])
    with portal_site.browser("viewer") as http:
        text = http.get(f"{AT}/pipelines/score").text
        assert "pipeline.py:7" in text
        assert "no &lt;step&gt;" in text
        plant(portal_site, name="slow", state="compiling")
        text = http.get(f"{AT}/pipelines/slow").text
        assert 'data-live="birds pipeline/slow"' in text
        part = http.get(f"{AT}/pipelines/slow?version=1", headers={"HX-Request": "true"}).text
        assert "<html" not in part
        assert 'id="pipeline"' in part
        log = http.get(f"{AT}/pipelines/slow/log?version=1&after=0").text
        assert "data-poll" in log
        assert "It wrote nothing." in http.get(f"{AT}/pipelines/score/log").text


# The form -----------------------------------------------------------------------------------


def test_the_form_shows_defaults_and_starts_a_run_untouched_but_for_what_is_needed(birds):
    with birds.browser("editor") as http:
        page = http.get(f"{AT}/pipelines/score/run")
        form = Fields(page.text)
        texts = {}
        for name, text in form.sent:
            texts.setdefault(name, []).append(text)
        assert read_texts(SPEC, texts)[1] == {
            "count": 3, "mode": "fast", "flag": True, "day": "2026-01-01",
            "note": None, "sizes": [1], "pairs": [[1, 2]],
        }  # fmt: skip
        answer = http.post(
            f"{AT}/pipelines/score/run",
            data=form.with_(parameters__share="0.25", inputs__files="photos"),
        )
    run = run_of(birds, answer)
    assert run.what == "score@1"
    assert run.parameters == {**read_texts(SPEC, texts)[1], "share": 0.25}
    assert [(one.name, one.dataset, one.number) for one in run.inputs] == [("files", "photos", 2)]


def test_every_fault_stands_at_its_field_in_the_words_of_rest_and_nothing_typed_is_lost(birds):
    typed = {
        "parameters.share": "a lot", "parameters.count": "2.5", "parameters.mode": "quick",
        "parameters.day": "tomorrow", "parameters.sizes": ["1", "two"],
        "parameters.pairs": "[1, {", "parameters.note": " <kept> ", "parameters.flag": "perhaps",
        "inputs.files": "photo", "inputs.one": "photos@1",
    }  # fmt: skip
    with birds.browser("editor") as http:
        form = Fields(http.get(f"{AT}/pipelines/score/run").text)
        sent = form.with_(**{name.replace(".", "__"): text for name, text in typed.items()})
        page = http.post(f"{AT}/pipelines/score/run", data=sent)
        assert page.status_code == 422
        shown = Fields(page.text)
        _, parameters = read_texts(SPEC, {name: tuple(rows) for name, rows in sent.items()})
        rest = http.post(
            "/api/v1/projects/birds/runs",
            json={"pipeline": "score@1", "parameters": parameters,
                  "inputs": {"files": "photo", "one": "photos@1"}},
        )  # fmt: skip
        assert rest.status_code == 422
        faults = {}
        for one in rest.json()["faults"]:
            faults.setdefault(one["field"].replace(".", "-"), []).append(one["message"])
        assert {"inputs-files", "inputs-one", "parameters-share", "parameters-sizes"} <= set(faults)
        assert shown.faults == {name: "; ".join(words) for name, words in faults.items()}
        again = shown.with_()
        for name, text in typed.items():
            assert again[name] == ([text] if isinstance(text, str) else text), name
        for name in faults:
            assert f'href="#field-{name}"' in page.text
            assert f"field-{name}" in shown.ids
        mended = form.with_(parameters__share="1", inputs__files="photos@1")
        assert run_of(birds, http.post(f"{AT}/pipelines/score/run", data=mended))


def test_the_form_can_be_sent_from_within_its_page_so_that_a_server_that_is_away_loses_nothing(
    birds,
):
    at, within = f"{AT}/pipelines/score/run", {"HX-Request": "true"}
    with birds.browser("editor") as http:
        form = Fields(http.get(at).text)
        wrong = http.post(at, data=form.with_(parameters__share="9"), headers=within)
        assert wrong.status_code == 422
        assert 'id="run-page"' in wrong.text
        sent = form.with_(parameters__share="1", inputs__files="photos")
        started = http.post(at, data=sent, headers=within)
        assert started.status_code == 204
        assert started.headers["hx-redirect"].startswith(f"{AT}/runs/run_")
        plant(birds, state="failed", reason="It can't be read.")
        sent["version"] = ["2"]
        refused = http.post(at, data=sent, headers=within)
        assert refused.status_code == 409
        assert "score@2 can't run" in refused.text


def test_a_list_gets_another_row_and_keeps_what_was_typed(birds):
    with birds.browser("editor") as http:
        form = Fields(http.get(f"{AT}/pipelines/score/run").text)
        sent = form.with_(
            parameters__sizes=["5", "x"], parameters__share="y", more="parameters.sizes"
        )
        page = http.post(f"{AT}/pipelines/score/run", data=sent)
        again = Fields(page.text).with_()
    assert page.status_code == 200
    assert again["parameters.sizes"] == ["5", "x", ""]
    assert again["parameters.share"] == ["y"]


def test_an_address_opens_the_filled_form_and_the_form_tells_its_address_and_command(birds):
    with birds.browser("editor") as http:
        page = http.get(f"{AT}/pipelines/score/run?share=0.5&input.files=photos@1&sizes=4&sizes=5")
        form = Fields(page.text)
        found = form.with_()
        assert found["parameters.share"] == ["0.5"]
        assert found["inputs.files"] == ["photos@1"]
        assert found["parameters.sizes"] == ["4", "5"]
        part = http.post(f"{AT}/pipelines/score/run/link", data=form.with_(parameters__count="7"))
        link = re.search(r'data-copy="([^"]+)"', part.text)[1].replace("&amp;", "&")
        assert link == (
            f"{birds.url}{AT}/pipelines/score/run?version=1&input.files=photos@1"
            "&share=0.5&count=7&sizes=4&sizes=5"
        )
        assert "--param count=7" in part.text
        again = Fields(http.get(link).text)
        assert again.with_() == form.with_(parameters__count="7") or sorted(again.sent) == sorted(
            (k, v) for k, vs in form.with_(parameters__count="7").items() for v in vs
        )
        wrong = http.get(f"{AT}/pipelines/score/run?shar=0.5")
        assert wrong.status_code == 200
        assert "did you mean" in wrong.text


def test_presets_and_earlier_runs_fill_the_form(birds):
    with birds.browser("editor") as http:
        at = f"{AT}/pipelines/score/run"
        form = Fields(http.get(at).text)
        kept = form.with_(parameters__count="9", inputs__files="photos", name="night",
                          description="For the night.")  # fmt: skip
        answer = http.post(f"{at}/preset", data=kept)
        assert answer.headers["location"] == f"{at}?preset=night"
        preset = birds.database.read(
            lambda tx: get_preset(tx, birds.actor("viewer"), birds.project_id, "score", "night")
        )
        assert (preset.parameters["count"], preset.inputs) == (9, {"files": "photos"})
        assert "share" not in preset.parameters
        page = http.get(f"{at}?preset=night&count=10")
        shown = dict(Fields(page.text).sent)
        assert (shown["name"], shown["description"]) == ("night", "For the night.")
        assert "The preset night is kept." in page.text
        filled = Fields(page.text).with_()
        assert (filled["parameters.count"], filled["inputs.files"]) == (["10"], ["photos"])
        run = birds.database.change(
            lambda tx: start_run(
                tx, birds.actor("editor"), birds.project_id, "score",
                inputs={"files": "photos"},
                parameters={"share": 1, "note": "", "sizes": [], "pairs": [None]},
            )
        )  # fmt: skip
        again = Fields(http.get(f"{at}?from_run={run.id}").text)
        twin = run_of(birds, http.post(at, data=again.with_()))
        assert json.dumps(twin.parameters) == json.dumps(run.parameters)
        assert twin.inputs == run.inputs
        assert http.get(f"{at}?preset=none").status_code == 404
        wrong = http.post(f"{at}/preset", data=form.with_(name="No Name", parameters__share="7"))
        assert wrong.status_code == 422
        again = Fields(wrong.text)
        assert again.with_()["parameters.share"] == ["7"]
        assert again.faults.keys() <= {"name", "parameters-share"}
        assert again.faults


def test_data_is_found_by_a_part_of_its_name_and_only_what_fits(birds):
    at = f"{AT}/pipelines/score/run/data"
    with birds.browser("editor") as http:
        both = http.get(f"{at}/files?inputs.files=").text
        assert 'data-value="photos"' in both
        assert 'data-value="single"' in both
        assert 'data-value="photos"' not in http.get(f"{at}/one?inputs.one=").text
        assert 'data-value="single"' not in http.get(f"{at}/files?inputs.files=PHO").text
        chosen = http.get(f"{at}/files?inputs.files=photos@1").text
        assert 'data-value="photos@2"' in chosen
        assert "photos@1" in chosen
        assert "No dataset that fits" in http.get(f"{at}/files?inputs.files=zz").text
        assert http.get(f"{at}/nothing").status_code == 404


def test_viewers_and_strangers_can_start_and_keep_nothing(birds):
    at = f"{AT}/pipelines/score/run"
    for who, status in (("viewer", 403), ("stranger", 404)):
        with birds.browser(who) as http:
            for method, path in (
                ("GET", at), ("POST", at), ("POST", f"{at}/link"), ("POST", f"{at}/preset"),
                ("GET", f"{at}/data/files"), ("GET", f"{AT}/programs/new"),
                ("POST", f"{AT}/programs/new"), ("GET", f"{AT}/pipelines/new"),
                ("POST", f"{AT}/pipelines/new"),
                ("POST", f"{AT}/pipelines/score/presets/x/remove"),
            ):  # fmt: skip
                data = {"a": "b"} if method == "POST" else None
                answer = http.request(method, path, data=data)
                assert answer.status_code == status, (who, method, path)
    with birds.browser() as http:
        assert http.get(at).headers["location"].startswith("/sign-in?next=")


def test_every_kind_of_field_can_be_sent_as_it_is_shown(birds):
    names = {one.name for one in list_fields(SPEC)}
    with birds.browser("editor") as http:
        page = http.get(f"{AT}/pipelines/score/run").text
    form = Fields(page)
    assert names <= {name for name, _ in form.sent}
    assert "style=" not in page
    assert not re.search(r"\son[a-z]+=", page)
    for label in re.findall(r'<label[^>]* for="([^"]+)"', page):
        assert label in form.ids, label


# Pushing ------------------------------------------------------------------------------------


def zipped(files):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return held.getvalue()


def test_code_is_pushed_as_a_folder_as_files_and_as_an_archive_and_comes_back(portal_site):
    with portal_site.browser("editor") as http:
        assert "millpond pipeline push FOLDER" in http.get(f"{AT}/pipelines/new").text
        folder = [
            ("folder", ("my/pipeline.py", CODE.encode())),
            ("folder", ("my/more/x.py", b"X = 1\n")),
            ("folder", ("my/__pycache__/x.pyc", b"\0")),
        ]
        answer = http.post(f"{AT}/pipelines/new", files=folder)
        assert answer.headers["location"] == f"{AT}/pipelines/tiny"
        code = http.get(f"{AT}/pipelines/tiny/code?version=1")
        with zipfile.ZipFile(io.BytesIO(code.content)) as archive:
            assert sorted(archive.namelist()) == ["more/x.py", "pipeline.py"]
        packed = zipped({"top/pipeline.py": CODE, "top/more/x.py": "X = 1\n"})
        http.post(f"{AT}/pipelines/new", files=[("archive", ("a.zip", packed))])
        plain = [("files", ("pipeline.py", CODE.encode()))]
        http.post(f"{AT}/pipelines/new", files=plain, data={"name": "named"})
        versions = http.get("/api/v1/projects/birds/pipelines/tiny/versions").json()["items"]
        assert len({one["code_digest"] for one in versions}) == 1
        assert http.get(f"{AT}/pipelines/named").status_code == 200


def test_code_that_cannot_be_a_pipeline_is_refused_at_the_form(portal_site):
    with portal_site.browser("editor") as http:
        at = f"{AT}/pipelines/new"
        nothing = http.post(at, data={"name": ""})
        assert nothing.status_code == 422
        assert "one of these" in nothing.text
        other = http.post(at, files=[("files", ("x.py", b"1"))], data={"name": "kept"})
        assert other.status_code == 422
        assert "pipeline.py is missing" in other.text
        assert 'value="kept"' in other.text
        bad = http.post(at, files=[("archive", ("a.zip", b"PK\x03\x04no"))])
        assert bad.status_code == 422
        for name in ("A B", "new"):
            files = [("files", ("pipeline.py", CODE.encode()))]
            named = http.post(at, files=files, data={"name": name})
            assert named.status_code == 422
            assert "Choose a" in named.text


# Programs -----------------------------------------------------------------------------------


def test_a_pasted_script_runs_and_can_be_run_again_with_changes(birds):
    at = f"{AT}/programs/new"
    with birds.browser("editor") as http:
        page = http.get(at)
        assert "plain Python" in page.text
        sent = {
            "program.entry": "main.sh", "script": "echo 1\r\necho 2", "environment": "",
            "input_name": ["data", ""], "input_data": ["photos@1", ""],
            "parameters": "times=3\nword=hello\nlist=[1, 2]", "program.slots": "1",
            "program.memory_bytes": "512", "program.seconds": "60",
        }  # fmt: skip
        run = run_of(birds, http.post(at, data=sent))
        assert run.what == "main.sh"
        assert run.parameters == {"times": 3, "word": "hello", "list": [1, 2]}
        assert [(one.name, one.number) for one in run.inputs] == [("data", 1)]
        again = http.get(f"{at}?from_run={run.id}").text
        assert "echo 1\necho 2" in again
        assert "word=hello" in again
        assert 'value="photos@1"' in again
        assert 'value="512"' in again
        files = [("files", ("a.sh", b"echo a\n"))]
        offered = {"program.entry": "main.py", "input_name": "data", "input_data": ""}
        twin = run_of(birds, http.post(at, data=offered, files=files))
        assert twin.inputs == ()
        assert twin.what == "a.sh"
        third = run_of(birds, http.post(at, data={"from_run": run.id, "program.entry": ""}))
        assert (third.what, third.code_digest) == ("main.sh", run.code_digest)


names_st = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_]{0,8}\Z")
json_st = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))) | st.sampled_from(["", " a", "5", "null"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names_st, inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@given(st.dictionaries(names_st, json_st, max_size=4))
def test_parameters_of_a_program_survive_the_lines_they_are_written_in(values):
    sent = write_parameters(values).replace("\n", "\r\n")
    found, faults = read_parameters(sent)
    assert not faults
    assert json.dumps(found) == json.dumps(values)


def test_a_project_that_is_archived_shows_and_starts_nothing(birds):
    owner = birds.actor("owner")
    birds.database.change(lambda tx: change_project(tx, owner, "birds", is_archived=True))
    with birds.browser("editor") as http:
        for path in ("pipelines", "pipelines/score", "environments"):
            text = http.get(f"{AT}/{path}").text
            assert "/new" not in text
            assert "/run" not in text.replace("/runs", "")
        refused = http.post(f"{AT}/pipelines/score/run", data={"parameters.share": "1"})
        assert refused.status_code == 409


def test_faults_of_a_program_stand_at_their_fields_and_the_script_stays(birds):
    with birds.browser("editor") as http:
        sent = {
            "program.entry": "main.py", "script": "print('<b>')", "input_name": ["data", ""],
            "input_data": ["nothing", "photos"], "parameters": "what", "program.slots": "many",
        }  # fmt: skip
        page = http.post(f"{AT}/programs/new", data=sent)
        assert page.status_code == 422
        for part in ("no dataset", "has no name", "is not NAME=VALUE",
                     "print(&#39;&lt;b&gt;&#39;)", 'value="nothing"'):  # fmt: skip
            assert part in page.text, part
        sent |= {"input_name": ["data"], "input_data": ["photos"], "parameters": ""}
        page = http.post(f"{AT}/programs/new", data=sent)
        assert page.status_code == 422
        assert "program.slots" in page.text
        assert 'value="many"' in page.text
        empty = http.post(f"{AT}/programs/new", data={"program.entry": "main.py"})
        assert "paste a script" in empty.text


# The same by SDK and command line -----------------------------------------------------------


@pytest.fixture
def millpond(birds, monkeypatch, tmp_path, capsys):
    """Give what runs a command as the editor of ``birds`` and gives its JSON."""
    monkeypatch.setenv("MILLPOND_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MILLPOND_URL", birds.url)
    monkeypatch.setenv("MILLPOND_TOKEN", birds.token("editor"))
    monkeypatch.setenv("MILLPOND_PROJECT", "birds")

    def command(*words, code=0):
        capsys.readouterr()
        assert run([*words, "--json"]) == code
        said = capsys.readouterr()
        return json.loads(said.out or said.err.splitlines()[-1])

    return command


def test_presets_are_kept_shown_run_and_removed_by_the_command_line(birds, millpond):
    made = millpond("preset", "set", "score", "night", "--param", "share=0.5", "-d", "For later.")
    assert (made["name"], made["parameters"], made["description"]) == (
        "night", {"share": 0.5}, "For later.",
    )  # fmt: skip
    assert [one["name"] for one in millpond("preset", "list", "score")] == ["night"]
    started = millpond("run", "score", "--preset", "night", "-i", "files=photos@1",
                       "--param", "count=4")  # fmt: skip
    assert started["parameters"] | {"share": 0.5, "count": 4} == started["parameters"]
    again = millpond("preset", "set", "score", "twin", "--from-run", started["id"],
                     "--param", "mode=slow")  # fmt: skip
    assert again["inputs"] == {"files": "photos@1"}
    assert again["parameters"]["mode"] == "slow"
    assert millpond("preset", "show", "score", "twin")["parameters"] == again["parameters"]
    fault = millpond("preset", "set", "score", "bad", "--param", "share=7", code=6)["error"]
    assert fault["faults"] == [
        {"field": "parameters.share", "message": "must be at most 1 of all, not 7"}
    ]
    assert millpond("preset", "remove", "score", "night", "--yes") == {"removed": "night"}
    millpond("run", "score", "--preset", "night", code=3)
    millpond("run", "--program", __file__, "--preset", "night", code=2)


def test_the_command_that_the_form_shows_starts_the_run_that_the_form_starts(birds, millpond):
    typed = {"parameters.share": "0.25", "parameters.note": "5", "parameters.sizes": ["4", "2"],
             "parameters.pairs": '[null, "x"]', "inputs.files": "photos@1"}  # fmt: skip
    with birds.browser("editor") as http:
        at = f"{AT}/pipelines/score/run"
        form = Fields(http.get(at).text)
        sent = form.with_(**{name.replace(".", "__"): text for name, text in typed.items()})
        by_form = run_of(birds, http.post(at, data=sent))
        shown = http.post(f"{at}/link", data=sent).text
    command = html.unescape(re.findall(r'data-copy="([^"]+)"', shown)[1])
    by_command = millpond(*shlex.split(command)[1:])
    assert by_command["parameters"] == by_form.parameters
    assert [one["number"] for one in by_command["inputs"]] == [1]


def test_code_and_what_compiling_it_wrote_come_by_the_command_line(birds, millpond, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "pipeline.py").write_text("print('reading it')\n" + CODE)
    pushed = millpond("pipeline", "push", str(tmp_path / "tiny"), "--no-wait")
    assert millpond("pipeline", "log", "tiny")["text"] == "reading it\n"
    target = tmp_path / "code.zip"
    millpond("pipeline", "code", f"tiny@{pushed['number']}", "--zip", str(target))
    with zipfile.ZipFile(target) as archive:
        assert archive.read("pipeline.py").decode().endswith(CODE)
    assert [one["name"] for one in millpond("pipeline", "list", "--search", "TIN")] == ["tiny"]
    with birds.browser("viewer") as http:
        log = http.get(f"{AT}/pipelines/tiny/log?version=1&after=0").text
        assert log.startswith("reading it")
        assert "data-poll" not in log
