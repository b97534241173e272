"""Pages and routes of the meters, as an administrator gets them, and nobody else."""

import json
import threading
from html import unescape
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from millpond.client.cli import cli
from millpond.client.client import Client
from millpond.client.commands.monitor import sparkline
from millpond.ground.errors import NotAllowedError, NotFoundError

Sample = dict[str, Any]


@pytest.fixture
def measured(portal_site: Any, sample: Sample) -> Any:
    """Give a site that knows the host and two nodes, one of which lies by now."""
    recorder = portal_site.house.recorder
    for node in ("local", "node-1", "node-2"):
        recorder.note(node, sample)
    recorder.note("node-2", {**sample, "memory_used": 99e9})
    recorder.write()
    return portal_site


def test_all_machines_at_a_glance(measured: Any) -> None:
    with measured.browser("root") as http:
        text = unescape(http.get("/admin/monitor").text)
        assert text.index("(the host)") < text.index('href="/admin/monitor/node-1"')
        assert text.count('data-key="node-1/') == 7
        assert "Processors of node-1: busy 50 %" in text
        assert "/data:2: 50.0 GB" in text
        assert "memory_used is 9.9e+10, more than the 3.2e+10 there are" in text
        assert 'data-seconds="5"' in text
        month = http.get("/admin/monitor", params={"range": "30d"}).text
        assert 'data-seconds="600"' in month
        assert "Processors of node-1: busy 50 %" in unescape(month)


def test_one_machine_in_full(measured: Any) -> None:
    with measured.browser("root") as http:
        text = unescape(http.get("/admin/monitor/node-1", params={"range": "15m"}).text)
        assert "Space on /data:2" in text
        assert "Memory of A100: 40" in text
        assert '<th scope="col">highest (%)</th>' in text
        assert "millpond monitor node-1 --since 15m" in text
        assert http.get("/admin/monitor/nobody").status_code == 404


def test_the_live_part_gives_the_same_plots(measured: Any) -> None:
    with measured.browser("root") as http:
        page = unescape(http.get("/admin/monitor/node-1").text)
        live = http.get("/admin/monitor/node-1/live").json()
        assert live["nodes"] == ["node-1"]
        assert live["plots"]
        for key, plot in live["plots"].items():
            assert f'data-key="{key}"' in page
            lengths = {len(each["values"]) for each in plot["facts"]["series"]}
            assert lengths == {len(plot["facts"]["x"])}
        assert live["texts"]["node-1/cpu"] == "50% of 4"
        whole = http.get("/admin/monitor/live").json()
        network = whole["plots"]["node-1/network"]["facts"]
        assert network["least"] == 0.1, "a few bytes do not look like much"
        assert whole["nodes"] == ["local", "node-1", "node-2"]


def test_nobody_else_sees_them(measured: Any) -> None:
    for who in ("owner", "stranger"):
        with measured.browser(who) as http:
            assert http.get("/admin/monitor").status_code == 403
            assert http.get("/admin/monitor/live").status_code == 403
    with (
        Client(measured.url, measured.token("owner"), environ={}) as client,
        pytest.raises(NotAllowedError),
    ):
        client.monitor.get()


def test_the_sdk_gives_them(measured: Any) -> None:
    with Client(measured.url, measured.token("root"), environ={}) as client:
        whole = client.monitor.get("15m")
        assert [each.node for each in whole.nodes] == ["local", "node-1", "node-2"]
        one = client.monitor.node("node-1", "1d")
        now = one.nodes[0].now
        assert now is not None
        assert now.disks[0].free_bytes == 50_000_000_000
        with pytest.raises(NotFoundError):
            client.monitor.node("nobody")


def test_the_command_shows_curves(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_URL", measured.url)
    monkeypatch.setenv("MILLPOND_TOKEN", measured.token("root"))
    run = CliRunner().invoke
    whole = run(cli, ["monitor"])
    assert whole.exit_code == 0, whole.output
    (line,) = [line for line in whole.output.splitlines() if line.startswith("node-1")]
    assert "50%" in line
    assert "8.0 GB of 32.0 GB" in line
    one = run(cli, ["monitor", "node-1", "--since", "15m"])
    assert "disk:/data:2:written" in one.output
    told = json.loads(run(cli, ["monitor", "--json"]).output)
    assert [each["node"] for each in told["nodes"]] == ["local", "node-1", "node-2"]


def test_a_curve_is_drawn_from_nothing_up() -> None:
    assert sparkline([0.0] * 15 + [1.0] * 15, 1) == "▁" * 15 + "█" * 15
    assert sparkline([None] * 60 + [0.5] * 60, 1) == " " * 15 + "▅" * 15
    assert sparkline([]) == " " * 30


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_page_that_is_seen_follows_by_itself(measured: Any, sample: Sample, shots: Any) -> None:
    """In a real browser: a plot and a text change without the page being loaded anew."""
    recorder, ended = measured.house.recorder, threading.Event()

    def tell() -> None:
        while not ended.wait(1):
            recorder.note("node-1", {**sample, "cpu": 0.9})

    telling = threading.Thread(target=tell)
    with shots.browse() as browser:
        context = shots.open_context(browser, measured.url, measured.token("root"))
        page = context.new_page()
        page.goto(f"{measured.url}/admin/monitor/node-1?range=15m")
        assert page.locator('[data-text="node-1/cpu"]').inner_text() == "50% of 4"
        assert page.locator("canvas").count() >= 6
        legend = page.locator(".u-legend").first
        expect(legend).to_contain_text("newest")
        expect(legend).to_contain_text("50")  # Without a pointer the newest values are told.
        page.evaluate("window.isSame = true")
        page.locator("summary", has_text="As a table").first.click()
        telling.start()
        try:
            changed = page.locator('[data-text="node-1/cpu"]')
            expect(changed).to_have_text("90% of 4", timeout=60_000)
            cells = page.locator('[data-table="node-1/cpu"] td')
            expect(cells.filter(has_text="90").first).to_be_visible(timeout=60_000)
        finally:
            ended.set()
            telling.join()
        assert page.evaluate("window.isSame")
        context.close()
