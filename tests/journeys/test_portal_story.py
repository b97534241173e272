"""A newcomer's first day in the browser, from the invitation to the passkey."""

import re
import zipfile

import pytest
from playwright.sync_api import expect

from millpond.client.client import Client

PASSWORD = "a heron stood in the reeds"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
SLOW = """from time import sleep
from typing import Annotated

from millpond import Files, Param, Table, pipeline, step


@step(map=True, files_per_task=1)
def measure(files: Files, pause: Annotated[float, Param(ge=0, le=5, unit="s")] = 0.5) -> Table:
    for file in files:
        print("measuring", file.name, flush=True)
        sleep(pause)
        yield {"name": file.name, "bytes": len(file.read_bytes())}


@pipeline
def sizes(files: Files, pause: Annotated[float, Param(ge=0, le=5, unit="s")] = 0.5) -> Table:
    "Measure files.\\n\\nArgs:\\n    files: what to measure.\\n    pause: how long to rest after each."
    return measure(files, pause=pause)
"""


@pytest.fixture
def client(own_server, tmp_path):
    with Client(data_folder=tmp_path / "data", environ={"HOME": str(tmp_path)}) as client:
        client.projects.make("ponds", "How large is what we wrote?")
        code = tmp_path / "sizes"
        code.mkdir()
        (code / "pipeline.py").write_text(SLOW)
        client.pipelines.push(code, "sizes", project="ponds")
        client.pipelines.wait("sizes", project="ponds")
        yield client


def drop(page, place, paths):
    """Drop files and folders from the desktop onto a place of the page."""
    box = page.locator(place).bounding_box()
    spot = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
    wire = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        wire.send("Input.dispatchDragEvent", {"type": kind, "data": data, **spot})


def hold_passkeys(page):
    """Give the page's browser a place to keep passkeys; give the wire and the place's id."""
    wire = page.context.new_cdp_session(page)
    wire.send("WebAuthn.enable")
    return wire, wire.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})[
        "authenticatorId"
    ]


@pytest.mark.slow
def test_a_newcomer_is_invited_runs_on_own_data_and_comes_back_with_a_passkey(
    shots, client, own_server, tmp_path
):
    texts = tmp_path / "texts"
    for name in ("a/one.txt", "a/two.txt", "b/three.txt", "four.txt"):
        (texts / name).parent.mkdir(parents=True, exist_ok=True)
        (texts / name).write_text(name * 50)
    url = f"http://localhost:{own_server.port}"  # Passkeys need a name.
    with shots.browse() as browser:
        owner = shots.open_context(browser, url, client.tokens.make("owner").text).new_page()
        link = invite(owner, url)
        context = browser.new_context(accept_downloads=True)
        page = context.new_page()
        sign_up(page, link.replace("127.0.0.1", "localhost"))
        push_by_dropping(page, url, texts)
        run = run_wrongly_then_rightly(page, url)
        watch_through_a_lost_connection(page, context)
        download(page, tmp_path)
        run_again(page, run)
        look_at_the_record(page, url)
        passkey = make_a_passkey(page, url)
        context.close()
        sign_in_elsewhere(browser.new_context().new_page(), url, passkey)


def invite(page, url):
    page.goto(f"{url}/projects/ponds/invitations")
    page.locator("#invite-role").select_option("editor")
    page.get_by_role("button", name="Make an invitation").click()
    shown = page.locator("section .cli code").first.inner_text()
    return re.search(r"https?://\S+/sign-up\?invitation=[\w-]+", shown).group()


def sign_up(page, link):
    page.goto(link)
    page.locator("#field-name").fill("hanna")
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    expect(page.locator("header")).to_contain_text("hanna")


def push_by_dropping(page, url, folder):
    page.goto(f"{url}/projects/ponds/datasets/new")
    drop(page, "[data-drop]", [folder])
    page.wait_for_url("**/datasets/texts/**", timeout=60_000)
    expect(page.locator("main")).to_contain_text("four.txt")


def run_wrongly_then_rightly(page, url):
    page.goto(f"{url}/projects/ponds/pipelines/sizes/run")
    page.locator("#field-inputs-files").fill("texts")
    page.locator("#field-parameters-pause").fill("77")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#field-parameters-pause-fault")).to_be_visible()
    expect(page.locator("#field-parameters-pause")).to_have_value("77")
    expect(page.locator("#field-inputs-files")).to_have_value("texts")
    page.locator("#field-parameters-pause").fill("2.5")
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url("**/runs/run_*")
    return page.url.rsplit("/", 1)[1]


def watch_through_a_lost_connection(page, context):
    expect(page.locator("[data-log-lines]")).to_contain_text("measuring", timeout=60_000)
    context.set_offline(True)
    page.wait_for_timeout(1500)
    context.set_offline(False)
    expect(page.locator("main")).to_contain_text("succeeded", timeout=60_000)


def download(page, folder):
    with page.expect_download() as found:
        page.get_by_role("link", name="zip").first.click()
    target = folder / "outputs.zip"
    found.value.save_as(target)
    names = zipfile.ZipFile(target).namelist()
    assert any(name.endswith("predictions.csv") for name in names)
    assert any(name.endswith("report.html") for name in names)


def run_again(page, run):
    page.get_by_role("button", name="Run again", exact=True).click()
    page.wait_for_url(re.compile(rf"/runs/run_(?!{run[4:]})\w+$"))


def look_at_the_record(page, url):
    page.goto(f"{url}/projects/ponds/activity")
    expect(page.locator("main")).to_contain_text("hanna")


def make_a_passkey(page, url):
    page.goto(f"{url}/profile/passkeys")
    wire, place = hold_passkeys(page)
    page.locator("#field-name").fill("my laptop")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.locator("table")).to_contain_text("my laptop")
    return wire.send("WebAuthn.getCredentials", {"authenticatorId": place})["credentials"][0]


def sign_in_elsewhere(page, url, passkey):
    page.goto(f"{url}/sign-in")
    wire, place = hold_passkeys(page)
    wire.send("WebAuthn.addCredential", {"authenticatorId": place, "credential": passkey})
    page.reload()
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.locator("header")).to_contain_text("hanna")
