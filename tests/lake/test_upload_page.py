"""Uploading in a real browser: what breaks goes on, and what was chosen arrives as it is."""

import base64
import hashlib
import io
import os
import re
import shutil
import socket
import threading
import zipfile
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from millpond.client.commands.lake import name_from
from millpond.lake.uploads.tables import upload
from millpond.web.portal import cookie_name

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("database", ["sqlite"], indirect=True),
]
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
NEW = "/projects/birds/datasets/new"
API = "/api/v1/projects/birds"
WAIT = 60_000


class Line:
    """A line between browser and server that can be slow, silent or broken."""

    def __init__(self, target):
        self.target = target
        self.bytes_per_second = None
        self.is_silent = False
        self.has_lost = threading.Event()
        self._is_cut = False
        self._over = threading.Event()
        self._open = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self._is_cut = True
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self._is_cut = self.is_silent = False

    def close(self):
        self._over.set()
        self.cut()
        self._listening.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self._is_cut:
                    near.close()
                    continue
                far = socket.create_connection(self.target)
                self._open |= {near, far}
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, target, is_up):
        pause = threading.Event()
        with suppress(OSError):
            while data := source.recv(64 << 10):
                if self.is_silent:  # What was under way is lost, and nobody is told.
                    self.has_lost.set()
                    self._over.wait()
                if is_up and self.bytes_per_second:
                    pause.wait(len(data) / self.bytes_per_second)
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(portal_site):
    place = urlsplit(portal_site.url)
    opened = Line((place.hostname, place.port))
    yield opened
    opened.close()


@pytest.fixture
def browser(missing_here, portal_site, line):
    found = shutil.which("chromium")
    if not found:
        missing_here("chromium", "apt-get install chromium")
    mapped = f"MAP {urlsplit(portal_site.url).netloc} 127.0.0.1:{line.port}"
    arguments = [*FLAGS, f"--host-resolver-rules={mapped}"]
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def visitor(browser, portal_site):
    """Give the context of the editor's browser; anything said as an error fails the test."""
    context = browser.new_context(base_url=portal_site.url)
    name = cookie_name(portal_site.url)
    context.add_cookies(
        [{"name": name, "value": portal_site.token("editor"), "url": portal_site.url}]
    )
    said = []
    context.on("weberror", lambda error: said.append(str(error.error)))
    yield context
    context.close()
    assert not said


def files_of(portal_site, address):
    name, _, number = address.partition("@")
    with portal_site.browser("viewer") as http:
        listed = http.get(f"{API}/datasets/{name}/versions/{number}/files?limit=1000").json()[
            "items"
        ]
    return {one["path"]: one["digest"] for one in listed}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def at_version(page, address):
    name, _, number = address.partition("@")
    page.wait_for_url(re.compile(f"/datasets/{name}/versions/{number}$"), timeout=WAIT)


def unfinished(portal_site):
    with portal_site.database.reading() as tx:
        return tx.rows(upload.select().where(upload.c.digest.is_(None)))


def test_a_folder_arrives_with_its_structure_whatever_its_names(visitor, portal_site, tmp_path):
    folder = tmp_path / "My Birds"
    contents = {
        "empty": b"",
        "in/deep/é ü.txt": b"x",
        "a line\nbreak.txt": b"1",
        "in/same": b"2",
        "same": b"2",
        "'\"<b>&.csv": b"a\n1\n",
    }
    for path, data in contents.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    page = visitor.new_page()
    page.goto(NEW)
    page.set_input_files("[data-input=folder]", folder)
    at_version(page, "my-birds@1")
    assert files_of(portal_site, "my-birds@1") == {
        path: sha256(data) for path, data in contents.items()
    }
    assert unfinished(portal_site) == []


def begun(page):
    """Wait until some of the first file has come."""
    state = page.locator("[data-rows] td").nth(1)
    expect(state).to_have_text(re.compile(r"^[1-9]\d? %$"), timeout=WAIT)


def test_a_broken_line_a_pause_and_a_closed_tab_lose_nothing(visitor, portal_site, line, tmp_path):
    data = os.urandom(24 << 20)
    (tmp_path / "big.bin").write_bytes(data)
    page = visitor.new_page()
    page.goto(NEW)
    page.fill("[data-name]", "big")
    line.bytes_per_second = 3 << 20
    page.set_input_files("[data-input=files]", tmp_path / "big.bin")
    begun(page)
    line.cut()
    rest = page.locator("[data-rest]")
    expect(rest).to_contain_text("cannot be reached", timeout=WAIT)
    (before,) = unfinished(portal_site)
    line.mend()
    expect(rest).to_contain_text("left", timeout=WAIT)
    page.click("[data-do=pause]")
    expect(rest).to_have_text("Paused.")
    expect(page.locator("[data-rows] td").nth(1)).to_contain_text("paused at")
    page.close()

    line.bytes_per_second = None
    page = visitor.new_page()
    page.goto(NEW)
    expect(page.locator("[data-unfinished]")).to_contain_text("big.bin")
    sent = []
    page.on("request", lambda one: sent.append((one.method, one.url.rpartition("/")[2])))
    page.fill("[data-name]", "big")
    page.set_input_files("[data-input=files]", tmp_path / "big.bin")
    at_version(page, "big@1")
    assert files_of(portal_site, "big@1") == {"big.bin": sha256(data)}
    assert ("HEAD", before.id) in sent
    assert ("POST", "uploads") not in sent


def test_a_line_that_falls_silent_is_given_up_and_asked_anew(visitor, portal_site, line, tmp_path):
    data = os.urandom(12 << 20)
    (tmp_path / "big.bin").write_bytes(data)
    page = visitor.new_page()
    page.goto(NEW)
    line.bytes_per_second = 3 << 20
    page.set_input_files("[data-input=files]", tmp_path / "big.bin")
    begun(page)
    line.is_silent = True
    assert line.has_lost.wait(30)
    line.mend()
    line.bytes_per_second = None
    at_version(page, "big@1")
    assert files_of(portal_site, "big@1") == {"big.bin": sha256(data)}


def test_dropped_files_of_one_name_are_both_kept_and_the_name_is_asked_for(visitor, portal_site):
    page = visitor.new_page()
    page.goto(NEW)
    page.fill("[data-name]", "Not a Name")
    page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            for (const [text, at] of [["one", 1], ["two", 2], ["one", 1]])
                transfer.items.add(new File([text], "a.txt", { lastModified: at }));
            const zone = document.querySelector("[data-drop]");
            zone.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true,
                cancelable: true }));
        }"""
    )
    expect(page.locator("[data-name-fault]")).to_contain_text("Give the dataset a name")
    expect(page.locator("[data-name]")).to_be_focused()
    page.fill("[data-name]", "pair")
    page.keyboard.press("Tab")
    at_version(page, "pair@1")
    assert files_of(portal_site, "pair@1") == {"a.txt": sha256(b"one"), "a (2).txt": sha256(b"two")}


def test_a_name_that_is_there_is_taken_only_where_that_is_meant(visitor, portal_site, tmp_path):
    folder, other = tmp_path / "Süße Läufe", tmp_path / "other.txt"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    other.write_text("b")
    page = visitor.new_page()
    page.goto(NEW)
    page.set_input_files("[data-input=folder]", folder)
    at_version(page, "susse-laufe@1")
    assert name_from(folder) == "susse-laufe"
    page.goto(NEW)
    page.fill("[data-name]", "susse-laufe")
    page.set_input_files("[data-input=files]", other)
    fault = page.locator("[data-name-fault]")
    expect(fault).to_contain_text("susse-laufe is there already", timeout=WAIT)
    expect(page.locator("[data-next]")).to_contain_text("make these files its version 2")
    page.fill("[data-name]", "free")
    page.keyboard.press("Tab")
    at_version(page, "free@1")
    page.goto(NEW)
    page.fill("[data-name]", "susse-laufe")
    page.set_input_files("[data-input=files]", other)
    expect(fault).to_contain_text("susse-laufe is there already", timeout=WAIT)
    page.check("[data-next] input")
    at_version(page, "susse-laufe@2")
    assert files_of(portal_site, "susse-laufe@1") == {"a.txt": sha256(b"a")}
    assert files_of(portal_site, "susse-laufe@2") == {"other.txt": sha256(b"b")}


def test_an_archive_is_unpacked_and_files_are_added(visitor, portal_site, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("in/a.txt", "a")
        packed.writestr("b.txt", "b")
    (tmp_path / "pack.zip").write_bytes(buffer.getvalue())
    (tmp_path / "b.txt").write_bytes(b"new b")
    page = visitor.new_page()
    page.goto(NEW)
    page.set_input_files("[data-input=files]", tmp_path / "pack.zip")
    at_version(page, "pack@1")
    assert files_of(portal_site, "pack@1") == {"in/a.txt": sha256(b"a"), "b.txt": sha256(b"b")}
    page.click("text=Upload a new version")
    page.check("input[value=add]")
    page.set_input_files("[data-input=files]", tmp_path / "b.txt")
    at_version(page, "pack@2")
    assert files_of(portal_site, "pack@2") == {"in/a.txt": sha256(b"a"), "b.txt": sha256(b"new b")}


def test_a_refusal_is_told_in_the_servers_words_and_tried_again(visitor, portal_site, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x")
    page = visitor.new_page()
    page.goto(NEW)
    cookies = visitor.cookies()
    visitor.clear_cookies()
    page.set_input_files("[data-input=files]", tmp_path / "a.txt")
    expect(page.locator("[data-rows]")).to_contain_text("Nobody is signed in", timeout=WAIT)
    visitor.add_cookies(cookies)
    page.click("[data-do=retry]")
    at_version(page, "a@1")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no zip at all")
    page.goto(NEW)
    page.set_input_files("[data-input=files]", tmp_path / "bad.zip")
    expect(page.locator("[data-fault]")).to_contain_text("The archive was refused", timeout=WAIT)
    page.uncheck("[data-unpack] input")
    page.click("[data-do=retry]")
    at_version(page, "bad@1")


def test_many_files_are_sent_and_only_some_rows_shown(visitor, portal_site, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(260):
        (folder / f"{number:03}.txt").write_bytes(b"%d" % number)
    page = visitor.new_page()
    page.goto(NEW)
    page.set_input_files("[data-input=folder]", folder)
    expect(page.locator("[data-more]")).to_have_text("And 60 more.")
    assert page.locator("[data-rows] tr").count() == 200
    at_version(page, "many@1")
    assert len(files_of(portal_site, "many@1")) == 260
    kept = "Object.keys(localStorage).filter((key) => key.startsWith('millpond-upload')).length"
    assert page.evaluate(kept) == 0


def test_cancelling_asks_and_leaves_nothing(visitor, portal_site, line, tmp_path):
    (tmp_path / "big.bin").write_bytes(os.urandom(16 << 20))
    page = visitor.new_page()
    page.goto(NEW)
    page.on("dialog", lambda dialog: dialog.accept())
    line.bytes_per_second = 3 << 20
    page.set_input_files("[data-input=files]", tmp_path / "big.bin")
    begun(page)
    with page.expect_response(lambda one: one.request.method == "DELETE"):
        page.click("[data-do=cancel]")
    expect(page.locator("[data-state]")).to_be_hidden()
    assert unfinished(portal_site) == []


def test_an_image_is_shown_under_the_pages_own_policy(visitor, tmp_path):
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    (tmp_path / "dot.png").write_bytes(picture)
    page = visitor.new_page()
    page.goto(NEW)
    page.set_input_files("[data-input=files]", tmp_path / "dot.png")
    at_version(page, "dot@1")
    page.click("text=dot.png")
    page.wait_for_url(re.compile("/files"), timeout=WAIT)
    page.wait_for_function("document.querySelector('main img').naturalWidth === 1", timeout=WAIT)
