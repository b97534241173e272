"""Pages of the installation, as an administrator gets them, and nobody else."""

from typing import Any

import pytest


def test_health_says_what_was_found(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        text = http.get("/admin/health").text
    for words in ("database", "answers", "2 of 2", "B free for", "millpond system health"):
        assert words in text
    assert portal_site.database.engine.url.database not in text.replace(
        str(portal_site.house.data), ""
    )


def test_the_administration_begins_with_its_health(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        assert http.get("/admin").headers["location"] == "/admin/health"


def test_settings_are_shown_with_where_they_come_from(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        text = http.get("/admin/settings").text
    assert "<code>server.port</code>" in text
    assert str(portal_site.house.data / "settings.toml") in text
    chosen = text.split("<code>engine.slots</code>")[1].split("</tr>", maxsplit=1)[0]
    assert "chosen at the start" in chosen
    usual = text.split("<code>jobs.workers</code>")[1].split("</tr>", maxsplit=1)[0]
    assert "default" in usual


@pytest.mark.parametrize("who", ["owner", "stranger"])
@pytest.mark.parametrize("path", ["/admin/health", "/admin/settings"])
def test_nobody_else_is_told(portal_site: Any, who: str, path: str) -> None:
    with portal_site.browser(who) as http:
        assert http.get(path).status_code == 403
