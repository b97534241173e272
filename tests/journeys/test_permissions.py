"""Every route, walked with every role, a stranger, a dead token, a narrowed token and nobody."""

import asyncio
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from millpond import main
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.settings import load_settings
from millpond.people import rules
from millpond.people.accounts import actions as accounts
from millpond.people.actions import add_project, set_member
from millpond.people.tables import access_token
from millpond.people.values import NOWHERE, User
from millpond.storage.database import Database
from millpond.web.serving import listen, url_of

ROLES = ("owner", "editor", "viewer")
CAST = ("nobody", "expired", "withdrawn", "narrow", "stranger", *ROLES, "root")
NARROWED_TO = {"token.read"}

# What an open route answers to somebody who brings nothing that is right; all others 200.
OPEN_ANSWERS = {
    "POST /api/v1/setup": 409,  # The installation is set up.
    "POST /api/v1/sessions": 401,
    "POST /api/v1/sign-up": 422,  # Its password is too short.
    "POST /api/v1/resets": 409,  # No mail server is set.
    "POST /api/v1/resets/use": 401,
    "POST /api/v1/nodes/join": 422,  # Its clock tells no time.
    "POST /api/v1/sessions/challenge": 201,
    "POST /api/v1/sessions/local": 401,
    "GET /metrics": 200,  # The walk comes over loopback.
    "GET /objects/{key}": 403,  # Signed addresses have their own tests.
    "HEAD /objects/{key}": 403,
    "PUT /objects/{key}": 403,
}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    operation: dict[str, Any]
    schemas: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def permission(self) -> str | None:
        found: str | None = self.operation.get("x-permission")
        return found

    def url(self, project: str) -> str:
        values = {"project": project}
        for part in self.operation.get("parameters", []):
            if part["in"] == "path":
                value = str(self.make(part["schema"]))
                values.setdefault(part["name"], "0" * 64 if part["name"] == "digest" else value)
        filled = re.sub(r"{(\w+)(:\w+)?}", lambda m: values.get(m[1], "x"), self.path)
        asked = {
            part["name"]: str(self.make(part["schema"]))
            for part in self.operation.get("parameters", [])
            if part["in"] == "query" and part.get("required")
        }
        return str(httpx.URL(filled, params=asked))

    def body(self) -> dict[str, Any]:
        content = self.operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            return {"json": self.make(content["application/json"]["schema"])}
        return {"content": b""} if self.method in ("PUT", "POST") else {}

    def make(self, schema: dict[str, Any]) -> Any:  # noqa: PLR0911 - one for each kind.
        """Make a small value that a schema accepts."""
        if "$ref" in schema:
            return self.make(self.schemas[schema["$ref"].rsplit("/", 1)[-1]])
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self.make(schema[choice][0])
        if "enum" in schema:
            return schema["enum"][0]
        if "const" in schema:
            return schema["const"]
        kind = schema.get("type", "object")
        if kind == "object":
            fields = schema.get("properties", {})
            return {name: self.make(fields[name]) for name in schema.get("required", [])}
        if kind == "array":
            return [self.make(schema["items"])] * schema.get("minItems", 0)
        if kind == "string":
            tries = ("x" * max(1, schema.get("minLength", 1)), "0" * 64, f"job_{'0' * 20}")
            return next(text for text in tries if re.search(schema.get("pattern", ""), text))
        return {"integer": schema.get("minimum", 1), "number": 1.0, "boolean": True}[kind]


@dataclass(frozen=True)
class Site:
    url: str
    app: FastAPI
    database: Database
    users: dict[str, User]
    project_id: str

    def routes(self) -> Iterator[Route]:
        text = self.app.openapi()
        for path, operations in text["paths"].items():
            for method, operation in operations.items():
                yield Route(method.upper(), path, operation, text["components"]["schemas"])

    def token(self, who: str) -> str:
        """Make a fresh token for one of the cast, since some routes end the one they get."""
        if who == "nobody":
            return ""
        user = self.users.get(who, self.users["owner"])
        if who == "narrow":
            actor = Actor(user.id, user.name)
            scopes = sorted(NARROWED_TO)
            made = self.database.change(
                lambda tx: accounts.add_token(tx, actor, "narrow", scopes=scopes)
            )
        else:
            made = self.database.change(lambda tx: accounts.add_session(tx, user, "walk", NOWHERE))
        with self.database.transaction() as tx:
            mine = access_token.update().where(access_token.c.id == made.token.id)
            if who == "expired":
                tx.execute(mine.values(expires_at=tx.now - timedelta(seconds=1)))
            if who == "withdrawn":
                tx.execute(mine.values(withdrawn_at=tx.now))
        return made.text

    def ask(self, http: httpx.Client, route: Route, who: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = route.url("birds")
        # Streamed, and not read to its end: live events have none.
        with http.stream(route.method, url, headers=headers, **route.body()) as answer:
            return answer.status_code


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Iterator[Site]:
    url = database.engine.url.render_as_string(hide_password=False)
    settings = load_settings(None, {"MILLPOND_DATABASE_URL": url, "MILLPOND_ENGINE_SLOTS": "1"})
    with (
        listen("127.0.0.1", 0) as socket,
        main.open_house(settings, tmp_path / "data", url_of(socket)) as house,
    ):
        app = main.build_app(house)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])))
        thread.start()
        try:
            yield Site(url_of(socket), app, house.database, *fill(house.database))
        finally:
            server.should_exit = server.force_exit = True
            thread.join(20)


def fill(database: Database) -> tuple[dict[str, User], str]:
    with database.transaction() as tx:
        users = {
            name: accounts.add_user(tx, SYSTEM, name, is_admin=name == "root")
            for name in (*ROLES, "stranger", "root")
        }
        owner = Actor(users["owner"].id, "owner")
        project = add_project(tx, owner, "birds")
    add_members(database, users)
    return users, project.id


def add_members(database: Database, users: dict[str, User]) -> None:
    owner = Actor(users["root"].id, "root", is_admin=True)
    with database.transaction() as tx:
        for role in ROLES:
            set_member(tx, owner, "birds", role, role)


def expected(route: Route, who: str) -> int | None:  # noqa: PLR0911 - one for each rule.
    """Give the status that refuses, or None where the call must get through to the route."""
    permission = route.permission
    assert permission is not None
    if who in ("nobody", "expired", "withdrawn"):
        return 401
    least = rules.PERMISSIONS[permission]
    if who == "narrow":
        is_in = permission in NARROWED_TO or permission == "profile.read"
        return None if is_in else 403
    if least == rules.SIGNED_IN:
        return None
    if least == rules.ADMIN:
        return None if who == "root" else 403
    if who == "stranger":
        return 404
    if who == "root":
        return None if permission in rules.ADMIN_IN_PROJECTS else 403
    return None if rules.ROLES.index(who) >= rules.ROLES.index(least) else 403


def fault_of(site: Site, route: Route, who: str, status: int) -> str:
    found = f"{route} as {who} ({route.permission}): {status}"
    refused = expected(route, who)
    if refused is not None:
        return "" if status == refused else f"{found}, not {refused}"
    return found if status in (401, 403) or status >= 500 else ""


@pytest.mark.slow
def test_every_route_lets_in_whom_the_table_of_permissions_says(site: Site) -> None:
    faults, tokens = [], {who: site.token(who) for who in CAST}
    routes = [route for route in site.routes() if route.permission != "open"]
    assert len(routes) > 40
    with httpx.Client(base_url=site.url, timeout=30) as http:
        for route in routes:
            for who in CAST:
                status = site.ask(http, route, who, tokens[who])
                faults.append(fault_of(site, route, who, status))
                if route.permission == "project.leave":
                    add_members(site.database, site.users)
                if "/sessions" in route.path or status == 401:
                    tokens[who] = site.token(who)
    assert not list(filter(None, faults)), "\n".join(filter(None, faults))


def test_an_open_route_gives_nobody_anything_but_what_is_everybodys(site: Site) -> None:
    with httpx.Client(base_url=site.url, timeout=30) as http:
        answers = {
            str(route): site.ask(http, route, "nobody", "")
            for route in site.routes()
            if route.permission == "open"
        }
    assert answers == {name: OPEN_ANSWERS.get(name, 200) for name in answers}
    assert OPEN_ANSWERS.keys() <= answers.keys()


def test_every_route_says_which_permission_it_needs_or_that_it_is_open(site: Site) -> None:
    silent = [
        f"{route}: {route.permission}"
        for route in site.routes()
        if route.permission != "open" and route.permission not in rules.PERMISSIONS
    ]
    assert not silent, "\n".join(silent)


def test_every_route_is_in_the_description(site: Site) -> None:
    described = {str(route) for route in site.routes()}
    assert "GET /api/v1/projects/{project}/log" in described
    with httpx.Client(base_url=site.url) as http:
        assert http.get("/docs").status_code == 404
        assert http.get("/api/v1/nothing").status_code == 404
