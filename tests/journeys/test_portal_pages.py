"""Every page of the portal: who may see it, and that everybody can read it (axe)."""

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe

from millpond.client.client import Client
from millpond.ground.address import RESERVED
from millpond.people import rules

ENDINGS = ("/leave", "/sign-out-everywhere")  # After these one is somebody else.
LEFT_OUT = {"/live", "/static/{name}"}  # No pages: events and files.


def declared(site) -> Iterator[tuple[str, str, str]]:
    """Give method, path and permission of every page."""
    for path, operations in site.app.state.site.app.openapi()["paths"].items():
        for method, operation in operations.items():
            if path not in LEFT_OUT:
                yield method.upper(), path, operation.get("x-permission", "")


def refused(permission: str, who: str) -> int | None:
    """Give the status that refuses, or None where one gets through to the page."""
    least = rules.PERMISSIONS[permission]
    if who == "nobody":
        return 303
    if least == rules.SIGNED_IN:
        return None
    if least == rules.ADMIN:
        return None if who == "root" else 403
    if who == "stranger":
        return 404
    if who == "root":
        return None if permission in rules.ADMIN_IN_PROJECTS else 403
    return None if rules.ROLES.index(who) >= rules.ROLES.index(least) else 403


def test_no_thing_can_be_named_like_a_page_beside_it(portal_site):
    names = ("{project}", "{name}", "{user}", "{preset}")
    parts = [path.strip("/").split("/") for _, path, _ in declared(portal_site)]
    places = {tuple(one[: at + 1]) for one in parts for at in range(len(one))}
    named = {place[:-1] for place in places if place[-1] in names}
    words = {place[-1] for place in places if place[:-1] in named and place[-1][0] != "{"}
    assert words == RESERVED


@pytest.mark.slow
def test_every_page_lets_in_whom_the_table_of_permissions_says(portal_site):
    faults, pages = [], list(declared(portal_site))
    assert len(pages) > 20
    for who in ("nobody", *portal_site.people):
        with portal_site.browser("" if who == "nobody" else who) as http:
            for method, path, permission in pages:
                if permission == "open" or path.endswith(ENDINGS):
                    continue
                filled = re.sub(
                    r"{(\w+)(:\w+)?}", lambda m: "birds" if m[1] == "project" else "x", path
                )
                answer = http.request(method, filled)
                wanted = refused(permission, who)
                found = f"{method} {path} as {who} ({permission}): {answer.status_code}"
                to_sign_in = answer.headers.get("location", "").startswith("/sign-in")
                if who == "nobody" and to_sign_in:
                    continue
                if wanted is not None and answer.status_code != wanted:
                    faults.append(f"{found}, not {wanted}")
                elif wanted is None and (
                    answer.status_code in (401, 403) or answer.status_code >= 500
                ):
                    faults.append(found)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 360)])
def test_every_page_can_be_read_by_everybody_and_breaks_no_rule_of_its_own(
    portal_site, theme, width, furnish, shots
):
    token = portal_site.token("root")
    with Client(portal_site.url, token, environ={}) as client:
        names = furnish.furnish(client)
    shown = [*shots.addresses(names)]
    faults: list[str] = []
    said: list[str] = []
    with shots.browse() as browser:
        for who, paths in ((token, shown), ("", shots.OPEN)):
            context = shots.open_context(browser, portal_site.url, who, width, theme)
            page = context.new_page()
            page.on(
                "console",
                lambda message: said.append(message.text) if message.type == "error" else None,
            )
            page.on("pageerror", lambda error: said.append(str(error)))
            for path in paths:
                said.clear()
                answer = page.goto(portal_site.url + path)
                page.wait_for_load_state("load")
                if path != "/nothing/here" and not (answer and answer.ok):
                    faults.append(f"{path}: {answer and answer.status}")
                found = Axe().run(page).response["violations"]
                faults += [
                    f"{path}: {each['id']}: {node['html'][:200]}"
                    for each in found
                    for node in each["nodes"]
                ]
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                faults += [f"{path}: scrolls sideways by {wide}"] if wide > 0 else []
                faults += [f"{path}: {text[:200]}" for text in said if "404" not in text]
            context.close()
    assert not faults, "\n".join(faults)
    unseen = {
        path
        for method, path, _ in declared(portal_site)
        if method == "GET"
        and not any(
            re.fullmatch(pattern(path), one.partition("?")[0]) for one in (*shown, *shots.OPEN)
        )
    } - set(shots.PARTS)
    assert not unseen, f"tools/shots.py shows no page of: {sorted(unseen)}"


def pattern(path: str) -> str:
    return re.sub(r"\\{\w+(:path)?\\}", r"[^/]+", re.escape(path))
