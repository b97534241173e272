"""Pages stay live: many tabs of one browser, a server that dies and comes back, nothing retyped."""

import re

import pytest
from playwright.sync_api import expect

from millpond.client.client import Client

SLOW = """from time import sleep

from millpond import Files, Table, pipeline, step


@step(map=True, files_per_task=1)
def look(files: Files) -> Table:
    for file in files:
        print("looking at", file.name, flush=True)
        sleep(0.7)
        yield {"name": file.name}


@pipeline
def slow(files: Files) -> Table:
    "Take one's time."
    return look(files)
"""


@pytest.fixture
def client(own_server, tmp_path):
    with Client(data_folder=tmp_path / "data", environ={"HOME": str(tmp_path)}) as client:
        client.projects.make("lakes")
        code, data = tmp_path / "slow", tmp_path / "texts"
        code.mkdir()
        data.mkdir()
        (code / "pipeline.py").write_text(SLOW)
        for number in range(12):
            (data / f"{number}.txt").write_text(str(number))
        client.pipelines.push(code, "slow", project="lakes")
        client.pipelines.wait("slow", project="lakes")
        client.datasets.push(data, "texts", project="lakes")
        yield client


def start(client: Client) -> str:
    return client.runs.start("slow", {"files": "texts"}, project="lakes").id


@pytest.mark.slow
def test_more_than_six_tabs_of_one_browser_stay_live(shots, client):
    token = client.tokens.make("browser").text
    with shots.browse() as browser:
        context = shots.open_context(browser, client.url, token)
        run = start(client)
        tabs = [context.new_page() for _ in range(8)]
        for tab in tabs:
            tab.goto(f"{client.url}/projects/lakes/runs/{run}")
            tab.evaluate("window.isTheSame = true")
        for tab in tabs:
            expect(tab.locator("[data-log-lines]")).to_contain_text("looking at", timeout=60_000)
        client.runs.wait(run, project="lakes")
        for tab in tabs:
            expect(tab.locator("main")).to_contain_text("succeeded", timeout=60_000)
            assert tab.evaluate("window.isTheSame")


@pytest.mark.slow
def test_a_killed_server_is_picked_up_without_a_reload_and_typing_is_kept(
    shots, client, own_server
):
    token = client.tokens.make("browser").text
    with shots.browse() as browser:
        context = shots.open_context(browser, client.url, token)
        form, runs = context.new_page(), context.new_page()
        form.goto(f"{client.url}/projects/lakes/pipelines/slow/run")
        field = form.locator("#field-inputs-files")
        field.fill("texts")
        first = start(client)
        runs.goto(f"{client.url}/projects/lakes/runs")
        for tab in (form, runs):
            tab.evaluate("window.isTheSame = true")
        expect(runs.locator("#runs-list")).to_contain_text(first)
        own_server.kill()
        expect(runs.locator("#live-state")).to_be_visible(timeout=60_000)
        own_server.start()
        expect(runs.locator("#live-state")).to_be_hidden(timeout=60_000)
        second = start(client)
        expect(runs.locator("#runs-list")).to_contain_text(second, timeout=60_000)
        client.runs.wait(first, project="lakes")
        client.runs.wait(second, project="lakes")
        expect(runs.locator(f"tr:has-text('{second}')")).to_contain_text(
            "succeeded", timeout=60_000
        )
        expect(field).to_have_value("texts")
        for tab in (form, runs):
            assert tab.evaluate("window.isTheSame")
        form.get_by_role("button", name="Start the run").click()
        form.wait_for_url("**/runs/run_*", timeout=60_000)


@pytest.mark.slow
def test_lists_home_queue_and_health_show_by_themselves_what_is_new(shots, client, tmp_path):
    token = client.tokens.make("browser").text
    with shots.browse() as browser:
        context = shots.open_context(browser, client.url, token)
        places = ("/", "/projects/lakes", "/projects/lakes/datasets", "/projects/lakes/pipelines",
                  "/projects/lakes/activity", "/admin/queue", "/admin/health")  # fmt: skip
        tabs = {place: context.new_page() for place in places}
        for place, tab in tabs.items():
            tab.goto(client.url + place)
            tab.evaluate("window.isTheSame = true")
        (tmp_path / "note.txt").write_text("new")
        client.datasets.push(tmp_path / "note.txt", "notes", project="lakes")
        for place in ("/", "/projects/lakes"):
            expect(tabs[place].locator("#what-changed")).to_contain_text("notes")
            expect(tabs[place].locator("section:has(h2:text('Datasets'))")).to_contain_text(
                "notes@1"
            )
        expect(tabs["/projects/lakes/datasets"].locator("#datasets-list")).to_contain_text("notes")
        expect(tabs["/projects/lakes/activity"].locator("#entries")).to_contain_text("notes@1")
        client.pipelines.push(tmp_path / "slow", "slower", project="lakes")
        expect(tabs["/projects/lakes/pipelines"].locator("main")).to_contain_text("slower")
        health = tabs["/admin/health"]
        free = health.locator("#nodes td").nth(1)
        idle = free.inner_text()
        run = start(client)
        health.evaluate("document.getElementById('nodes').dataset.every = 1")
        expect(free).not_to_have_text(idle, timeout=60_000)
        expect(tabs["/admin/queue"].locator("#jobs")).to_contain_text("pipelines.run")
        client.runs.wait(run, project="lakes")
        for tab in tabs.values():
            assert tab.evaluate("window.isTheSame")


@pytest.mark.slow
def test_the_log_of_a_run_follows_all_running_tasks_and_is_read_back_searched_and_ended(
    shots, client
):
    run = start(client)
    with shots.browse() as browser:
        context = shots.open_context(browser, client.url, client.tokens.make("browser").text)
        page = context.new_page()
        page.goto(f"{client.url}/projects/lakes/runs/{run}")
        lines, beside = page.locator("[data-log-lines]"), page.get_by_label("side by side")
        expect(beside).to_be_checked()
        # Two tasks write at once, and both show before either has ended for all.
        expect(page.locator("[data-log-state]")).to_have_text(
            re.compile("look, partition [0-9]+; look, partition [0-9]+"), timeout=60_000
        )
        beside.uncheck()
        expect(lines).to_contain_text("== look, partition 0 ==")
        beside.check()
        expect(lines).to_contain_text("== look, partition 11 ==", timeout=60_000)
        client.runs.wait(run, project="lakes")
        expect(beside).to_be_hidden(timeout=60_000)  # Ended: task by task, as it is kept.
        kept = "".join(f"== look, partition {n} ==\nlooking at {name}\n" for n, name in files())
        expect(lines).to_have_text(kept, use_inner_text=True)
        search = page.get_by_label("Text in the log")
        search.fill("AT 7.TXT")
        search.press("Enter")
        found = page.get_by_role("button", name="looking at 7.txt")
        found.click()
        expect(lines).to_contain_text("looking at 7.txt")
        expect(page.locator("[data-log-found] p")).to_have_text("1 line found.")


def files() -> list[tuple[int, str]]:
    """Give partitions and their files, which are ordered by name."""
    return list(enumerate(sorted(f"{number}.txt" for number in range(12))))


@pytest.mark.slow
def test_on_a_narrow_screen_the_menu_shows_where_one_is(shots, client):
    token = client.tokens.make("browser").text
    with shots.browse() as browser:
        page = shots.open_context(browser, client.url, token, width=360).new_page()
        for path in ("", "/runs", "/secrets"):
            page.goto(f"{client.url}/projects/lakes{path}")
            page.wait_for_load_state("load")
            place = page.locator(".project-nav [aria-current]").bounding_box()
            assert 0 <= place["x"] <= 360 - place["width"], path


@pytest.mark.slow
def test_a_filled_form_is_there_again_after_looking_elsewhere(shots, client):
    token = client.tokens.make("browser").text
    with shots.browse() as browser:
        page = shots.open_context(browser, client.url, token).new_page()
        page.goto(f"{client.url}/projects/lakes/pipelines/slow/run")
        page.locator("#field-inputs-files").fill("no-such")
        page.get_by_role("button", name="Start the run").click()
        expect(page.locator("#field-inputs-files-fault")).to_be_visible()
        page.locator("#field-inputs-files").fill("texts@1")
        page.get_by_role("link", name="Bring in new data").click()
        page.wait_for_url("**/datasets/new")
        page.go_back()
        expect(page.locator("#field-inputs-files")).to_have_value("texts@1")
        page.reload()
        expect(page.locator("#field-inputs-files")).to_have_value("texts@1")
