"""Pages of nodes: the cluster at a glance, one node, the ways to add a machine."""

import html
import re
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from tests.machines.conftest import METERS, NodeSite

from millpond.ground.errors import NotAllowedError


def text_of(answer: httpx.Response) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))


def test_the_empty_page_says_how_to_begin(node_site: NodeSite) -> None:
    with node_site.site.browser("root") as browser:
        page = text_of(browser.get("/admin/nodes"))
    assert "No machine has joined yet" in page
    assert "millpond node add USER@HOST" in page
    assert "millpond node token" in page


def test_the_cluster_is_seen_at_a_glance(node_site: NodeSite) -> None:
    node_site.add("owl")
    node_site.source.beat("owl", meters={**METERS, "load1": 36.8}, running=("r/s/0/1",))
    with node_site.site.browser("root") as browser:
        page = text_of(browser.get("/admin/nodes"))
    for said in ("owl", "✓ up", "1 of ", "9.20", "! held back load 9.2 per core is above 2.0"):
        assert said in page, said


def test_one_node_is_shown_changed_drained_and_removed(node_site: NodeSite) -> None:
    node_site.add("owl")
    node_site.source.beat("owl", running=("r/s/0/1",))
    with node_site.site.browser("root") as browser:
        page = browser.get("/admin/nodes/owl")
        assert "r/s/0/1" in page.text
        assert "/admin/monitor/owl" in page.text
        sent = {"labels": "room=cellar\nlake = north", "slots_most": "2", "price_per_hour": "0.5"}
        sent["gpus_most"] = "3"
        assert browser.post("/admin/nodes/owl", data=sent).status_code == 303
        page = browser.get("/admin/nodes/owl")
        assert "room=cellar\nlake=north" in page.text
        assert re.search(r'name="gpus_most"[^>]*value="3"', page.text)
        wrong = browser.post("/admin/nodes/owl", data={"labels": "room", "slots_most": "-1"})
        assert wrong.status_code == 422
        assert browser.post("/admin/nodes/owl/drain").status_code == 303
        assert "draining" in text_of(browser.get("/admin/nodes/owl"))
        assert browser.post("/admin/nodes/owl/resume").status_code == 303
        stuck = browser.post("/admin/nodes/owl/remove")
        assert stuck.status_code == 409
        assert "owl runs 1 task now." in text_of(stuck)
        assert "Remove it by force" in stuck.text
        assert browser.post("/admin/nodes/owl/remove", data={"force": "true"}).status_code == 303
        assert "removed" in text_of(browser.get("/admin/nodes/owl"))
        assert browser.get("/admin/nodes/kite").status_code == 404


def test_a_certificate_is_revoked_on_the_page(node_site: NodeSite) -> None:
    node_site.add("owl")
    with node_site.site.browser("root") as browser:
        path = "/admin/nodes/owl/certificates/revoke"
        assert "Revoke its certificates" in text_of(browser.get("/admin/nodes/owl"))
        assert browser.post(path).status_code == 303
        shown = text_of(browser.get("/admin/nodes/owl"))
        assert "root revoked it by the portal" in shown
        assert "Revoke its certificates" not in shown


def test_a_token_is_shown_once_and_an_order_leads_to_its_work(node_site: NodeSite) -> None:
    with node_site.site.browser("root") as browser:
        page = browser.get("/admin/nodes/add")
        assert "ssh-ed25519 AAAAC3Nza millpond" in page.text
        made = browser.post("/admin/nodes/token", data={"name": "owl"})
        assert re.search(r"millpond node join http://\S+ mpj_\S+ --name owl", made.text)
        assert "mpj_" not in browser.get("/admin/nodes/add").text
        wrong = browser.post("/admin/nodes/token", data={"name": "Owl!"})
        assert wrong.status_code == 422
        assert "lower-case letters" in wrong.text
        sent = {"address": "127.0.0.1", "name": "kite", "labels": "room=loft", "port": "22"}
        answer = browser.post("/admin/nodes/add", data=sent)
        assert answer.status_code == 303, answer.text
        work = answer.headers["location"]
        assert re.fullmatch(r"/admin/nodes/work/job_\w+", work)
        assert "millpond node work job_" in browser.get(work).text
        wrong = browser.post("/admin/nodes/add", data={"address": "-x", "labels": "nothing"})
        assert wrong.status_code == 422
        assert "KEY=VALUE" in wrong.text


def test_work_that_was_given_up_leads_to_what_can_be_done(node_site: NodeSite) -> None:
    node_site.source.fault = NotAllowedError("It refuses the key.", next_step="Copy the key.")
    with node_site.client() as client:
        started = client.nodes.add("127.0.0.1", name="kite")
        ended = client.nodes.wait(started, print, lambda _: None)
    assert ended.state == "dead"
    with node_site.site.browser("root") as browser:
        page = browser.get(f"/admin/nodes/work/{started.id}")
    assert "It refuses the key. Copy the key." in text_of(page)
    assert f'href="/admin/queue/{started.id}"' in page.text
    assert 'href="/admin/nodes/add"' in page.text
    assert f"millpond job requeue {started.id}" in page.text


def test_only_administrators_see_nodes(node_site: NodeSite) -> None:
    node_site.add("owl")
    for who in ("owner", "stranger"):
        with node_site.site.browser(who) as browser:
            for path in ("", "/owl", "/add", "/work/job_00000000000000000000"):
                assert browser.get(f"/admin/nodes{path}").status_code == 403


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 360)])
def test_every_page_of_nodes_can_be_read_by_everybody(
    node_site: NodeSite, theme: str, width: int, shots: Any
) -> None:
    node_site.add("owl")
    node_site.source.beat("owl", meters={**METERS, "load1": 400.0}, running=("r/s/0/1",))
    node_site.add("kite")
    with node_site.client() as client:
        client.nodes.drain("kite")
        started = client.nodes.add("127.0.0.1", name="wren")
        client.nodes.wait(started, lambda _: None, lambda _: None)
    paths = ("", "/owl", "/kite", "/wren", "/add", f"/work/{started.id}")
    faults: list[str] = []
    with shots.browse() as browser:
        token = node_site.site.token("root")
        context = shots.open_context(browser, node_site.site.url, token, width, theme)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        for path in paths:
            answer = page.goto(f"{node_site.site.url}/admin/nodes{path}")
            page.wait_for_load_state("load")
            assert answer
            assert answer.ok
            faults += [
                f"{path}: {each['id']}: {node['html'][:200]}"
                for each in Axe().run(page).response["violations"]
                for node in each["nodes"]
            ]
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            faults += [f"{path}: scrolls sideways by {wide}"] if wide > 0 else []
        context.close()
    assert not faults, "\n".join(faults)
