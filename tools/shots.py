"""Make a picture of every page, wide and narrow, light and dark: ``./dev shots [FOLDER [PATH]]``.

Needs Debian's chromium. Pages that show one thing are shown with what ``furnish`` has made.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from furnish import furnish
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from millpond.client.client import Client
from millpond.client.process import start_server
from millpond.web.portal import cookie_name

WIDTHS = {"wide": 1400, "narrow": 360}
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
OPEN = ("/sign-in", "/setup", "/sign-up", "/reset", "/nothing/here")
SITE = (
    "/",
    "/projects",
    "/projects/new",
    "/profile",
    "/profile/sessions",
    "/profile/sessions",
    "/profile/tokens",
    "/profile/passkeys",
    "/profile/identities",
    "/admin/users",
    "/admin/invitations",
    "/admin/invitations",
    "/admin/users/new",
    "/admin/users/{user}",
    "/admin/settings",
    "/admin/health",
    "/admin/usage",
    "/admin/monitor",
    "/admin/monitor/local",
    "/admin/nodes",
    "/admin/nodes/add",
    "/admin/queue",
    "/admin/queue/{job}",
    "/admin/schedules",
    "/admin/activity",
    "/admin/activity/1",
)
PROJECT = (
    "",
    "/settings",
    "/members",
    "/invitations",
    "/invitations",
    "/secrets",
    "/activity",
    "/activity/1",
    "/datasets",
    "/datasets/new",
    "/datasets/{dataset}",
    "/datasets/{dataset}/upload",
    "/datasets/{dataset}/versions",
    "/datasets/{dataset}/versions/1",
    "/datasets/{dataset}/versions/1/files?path=depths.csv",
    "/pipelines",
    "/pipelines/new",
    "/pipelines/{pipeline}",
    "/pipelines/{pipeline}/run",
    "/programs/new",
    "/usage",
    "/environments",
    "/environments/new",
    "/environments/{environment}",
    "/runs",
    "/runs/{run}",
    "/runs/{run}/resources",
    "/runs/{failed_run}",
    "/runs/{run}/outputs",
    "/runs/{run}/outputs/file?path=predictions.csv",
)

PARTS = (
    # Parts of pages and files, which are no pages of their own; and pages of machines, of which
    # a server without nodes has none: tests/machines/test_pages.py reads these.
    "/admin",
    "/admin/activity/export",
    "/admin/monitor/live",
    "/admin/monitor/{node}/live",
    "/admin/monitor/{node}/tasks",
    "/admin/nodes/{node}",
    "/admin/nodes/work/{job_id}",
    "/admin/activity/{number}/proof",
    "/checkpoint",
    "/log-keys",
    "/panels/{place}",
    "/profile/identities/link/{name}",
    "/projects/{project}/activity/export",
    "/projects/{project}/activity/{number}/proof",
    "/projects/{project}/environments/{name}/lock",
    "/projects/{project}/environments/{name}/log",
    "/projects/{project}/panels/{place}",
    "/projects/{project}/pipelines/{name}/code",
    "/projects/{project}/pipelines/{name}/log",
    "/projects/{project}/pipelines/{name}/run/data/{field}",
    "/projects/{project}/runs/{run}/live",
    "/projects/{project}/runs/{run}/now",
    "/projects/{project}/runs/{run}/report",
    "/sign-in/back/{name}",
    "/sign-in/with/{name}",
)


def addresses(names: dict[str, str]) -> Iterator[str]:
    """Give the address of every page."""
    for path in SITE:
        yield path.format(**names)
    for path in PROJECT:
        yield f"/projects/{names['project']}" + path.format(**names)


def name_of(path: str) -> str:
    """Name the picture of a page."""
    path = re.sub(r"(run|job)_\w+", r"\1", path)
    return re.sub(r"\W+", "-", path).strip("-") or "home"


@contextmanager
def browse() -> Iterator[Browser]:
    """Start the machine's own Chromium."""
    found = shutil.which("chromium")
    if not found:
        sys.exit("This needs a browser: sudo apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def open_context(
    browser: Browser, url: str, token: str, width: int = 1400, theme: str = "light"
) -> BrowserContext:
    """Open a window of somebody who is signed in, or of nobody without a token."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    cookies = {"millpond_theme": "auto"}
    if token:
        cookies[cookie_name(url)] = token
    context.add_cookies([{"name": n, "value": v, "url": url} for n, v in cookies.items()])
    return context


def shoot(browser: Browser, client: Client, folder: Path, only: str = "") -> None:
    """Make the pictures of a running server's pages."""
    names = furnish(client)
    token = client.tokens.make("shots").text
    for theme in ("light", "dark"):
        for size, width in WIDTHS.items():
            for who, paths in ((token, list(addresses(names))), ("", OPEN)):
                context = open_context(browser, client.url, who, width, theme)
                page = context.new_page()
                for path in paths:
                    if only and only not in path:
                        continue
                    page.goto(client.url + path)
                    page.wait_for_timeout(300)
                    target = folder / f"{name_of(path)}-{size}-{theme}.png"
                    page.screenshot(path=target, full_page=True)
                    print(target)
                context.close()


def main(target: str = ".dev/shots", only: str = "") -> None:
    folder = Path(target).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: each for name, each in os.environ.items() if not name.startswith("MILLPOND_")}
    with tempfile.TemporaryDirectory(prefix="millpond-shots-") as place:
        data = Path(place) / "data"
        Path(place).chmod(0o755)
        log = Path(place) / "log"
        server = start_server(data, host="127.0.0.1", port=0, log=log, environ=kept)
        try:
            server.wait_ready()
            client = Client(data_folder=data, environ={"HOME": place})
            with browse() as browser:
                shoot(browser, client, folder, only)
        finally:
            server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:3])
