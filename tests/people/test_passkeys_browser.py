"""Passkeys with the real buttons, in a browser that holds one as a device does."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SHOTS = Path(__file__).parents[2] / "tools" / "shots.py"


@pytest.fixture
def shots(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SHOTS.parent))
    spec = importlib.util.spec_from_file_location("shots", SHOTS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_passkey_is_made_and_used_by_its_buttons(portal_site: Any, shots: Any) -> None:
    url = portal_site.url.replace("127.0.0.1", "localhost")
    said: list[str] = []
    with shots.browse() as browser:
        context = shots.open_context(browser, url, portal_site.token("viewer"))
        page = context.new_page()
        page.on("pageerror", lambda fault: said.append(str(fault)))
        tools = context.new_cdp_session(page)
        tools.send("WebAuthn.enable")
        device = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        tools.send("WebAuthn.addVirtualAuthenticator", {"options": device})
        page.goto(url + "/profile/passkeys")
        page.get_by_label("Name").fill("This laptop")
        page.get_by_role("button", name="Add a passkey").click()
        page.get_by_text("You can sign in with This laptop from now on.").wait_for()
        page.get_by_label("Name").fill("Once more")
        page.get_by_role("button", name="Add a passkey").click()
        page.get_by_text("This device holds a passkey of yours for this server already.").wait_for()
        assert page.get_by_label("Name").input_value() == "Once more"
        context.clear_cookies()
        page.goto(url + "/sign-in?next=/profile/passkeys")
        page.get_by_role("button", name="Sign in with a passkey").click()
        page.wait_for_url(url + "/profile/passkeys")  # Not the sign-in that names it as next.
        assert "not yet" not in page.inner_text("main")
        page.goto(portal_site.url + "/sign-in")
        assert page.get_by_role("link", name="this page at the name localhost").is_visible()
    assert not said
