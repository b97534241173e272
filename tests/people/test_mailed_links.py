"""Links by mail, from the page that asks for them to the letter that a mail server takes."""

import re
import socket
import time
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from tests.conftest import serve_portal

from millpond.ground.actor import SYSTEM
from millpond.people.accounts import actions as accounts
from millpond.storage.database import Database

WORDS, NEW = "correct horse battery", "staple of the new kind"


class Mailbox:
    def __init__(self) -> None:
        self.letters: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.letters.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"

    def take(self) -> tuple[str, str]:
        """Wait for a letter; give its address and its link's path."""
        end = time.monotonic() + 30
        while not self.letters:
            assert time.monotonic() < end
            time.sleep(0.02)
        letter = self.letters.pop()
        found = re.search(r"http://[^/\s]+(/\S+)", letter.get_content())
        assert found
        return letter["To"], found[1]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_invitations_and_new_passwords_come_by_mail(database: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    settings = {
        "MILLPOND_DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
        "MILLPOND_MAIL_HOST": "127.0.0.1",
        "MILLPOND_MAIL_PORT": str(port),
        "MILLPOND_MAIL_TLS": "none",
        "MILLPOND_MAIL_SENDER": "pond@lab.example",
    }
    controller.start()
    try:
        with serve_portal(settings, tmp_path / "data") as site, site.browser() as http:
            hashed = site.house.passwords.hash(WORDS)
            database.change(lambda tx: accounts.set_password(tx, SYSTEM, "root", hashed))
            database.change(
                lambda tx: accounts.change_user(tx, SYSTEM, "root", email="r@lab.example")
            )
            http.post("/sign-in", data={"name": "root", "password": WORDS})
            body = {"role": "viewer", "email": "ann@lab.example"}
            http.post("/api/v1/projects/birds/invitations", json=body)
            to, link = mailbox.take()
            assert to == "ann@lab.example"
            assert link.startswith("/sign-up?invitation=")
            http.post("/admin/invitations", data={"email": "bob@lab.example", "days": "7"})
            assert mailbox.take()[0] == "bob@lab.example"
            http.post("/sign-out")
            assert "Look into your mail" in http.post("/reset", data={"name": "nobody"}).text
            assert "Look into your mail" in http.post("/reset", data={"name": "root"}).text
            to, link = mailbox.take()
            assert to == "r@lab.example"
            form = {"code": link.partition("code=")[2], "password": NEW, "again": NEW}
            assert http.post("/reset/new", data=form).status_code == 303
            assert http.get("/admin/users").status_code == 200
    finally:
        controller.stop()
