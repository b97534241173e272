import asyncio

import httpx
import pytest

from millpond.environments import store
from millpond.environments.logs import BuildLog, log_prefix
from millpond.environments.routes import routes
from millpond.ground.actor import Actor
from millpond.web.frame import build_frame


@pytest.fixture
def call(people, objects):
    actors = {name: Actor(f"user_{name}", name) for name in ("ana", "vera", "bo")}
    app = build_frame(people, lambda tx, token, is_local: actors.get(token))
    app.include_router(routes(objects), prefix="/api/v1")

    def send(method, path, user="ana", **rest):
        async def go():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                headers = {"Authorization": f"Bearer {user}", **rest.pop("headers", {})}
                place = f"/api/v1/projects/pond/environments{path}"
                return await http.request(method, place, headers=headers, **rest)

        return asyncio.run(go())

    return send


def test_a_version_is_asked_for_listed_and_shown(call):
    made = call("POST", "", json={"name": "small", "requirements": "six\n"})
    assert made.status_code == 201, made.text
    assert (made.json()["state"], made.json()["number"]) == ("locking", 1)
    again = call("POST", "", json={"name": "small", "requirements": "six\n"})
    assert again.json()["unchanged"] is True
    call("POST", "", json={"name": "small", "requirements": "six==1.17.0\n"})
    call("POST", "", json={"name": "another", "requirements": ""})
    listed = call("GET", "", params={"limit": 1}).json()
    assert [one["name"] for one in listed["items"]] == ["another"]
    listed = call("GET", "", params={"cursor": listed["next_cursor"]}).json()
    assert [(one["name"], one["newest"]) for one in listed["items"]] == [("small", 2)]
    versions = call("GET", "/small/versions").json()["items"]
    assert [one["number"] for one in versions] == [2, 1]
    assert call("GET", "/small").json()["number"] == 2
    assert call("GET", "/small/versions/1").json()["requirements"] == "six\n"
    assert call("GET", "/small/versions/3").status_code == 404
    assert call("GET", "/small/versions/1/lock").status_code == 409


def test_bad_requirements_and_names_are_refused_with_every_line(call):
    body = {"name": "small", "requirements": "six\n-r x\nhttps://example.org/y\n"}
    refused = call("POST", "", json=body)
    assert refused.status_code == 422
    assert [fault["message"][:7] for fault in refused.json()["faults"]] == ["line 2:", "line 3:"]
    assert call("GET", "").json()["items"] == []
    for name in ("No Name", "new"):
        refused = call("POST", "", json={"name": name, "requirements": ""})
        assert (refused.status_code, refused.json()["faults"][0]["field"]) == (422, "name")
    assert call("GET", "").json()["items"] == []


def test_packages_to_build_from_source_are_named(call):
    body = {"name": "small", "requirements": "six", "build_from_source": ["Six"]}
    assert call("POST", "", json=body).json()["build_from_source"] == ["six"]
    assert call("GET", "/small").json()["build_from_source"] == ["six"]
    refused = call("POST", "", json={**body, "build_from_source": ["six>=1"]})
    assert refused.status_code == 422
    assert refused.json()["faults"][0]["field"] == "build_from_source"
    plain = call("POST", "", json={"name": "small", "requirements": "six"}).json()
    assert (plain["number"], plain["build_from_source"]) == (2, [])


def test_the_log_is_read_while_it_grows_and_has_an_end(call, people, objects):
    version = call("POST", "", json={"name": "small", "requirements": ""}).json()
    prefix = log_prefix("prj_pond", version["id"])
    log = BuildLog(objects, prefix)
    log.add("first")
    log.flush()
    part = call("GET", "/small/versions/1/log").json()
    assert part == {"text": "first\n", "next": 1, "is_complete": False}
    with BuildLog(objects, prefix) as going_on:
        going_on.add("second \ud800")
    values = {"state": "failed", "reason": "x"}
    people.change(lambda tx: store.move_state(tx, version["id"], ("locking",), values))
    part = call("GET", "/small/versions/1/log", params={"after": 1}).json()
    assert part == {"text": "second ?\n", "next": 2, "is_complete": True}


def test_a_log_has_a_bound_and_says_so(objects):
    with BuildLog(objects, "x/log/") as log:
        for _ in range(30):
            log.add("y" * 100_000)
    sizes = [info.size for info in objects.list("x/log/")]
    assert 1_000_000 < sum(sizes) < 1_200_000
    *_, last = objects.list("x/log/")
    assert objects.get(last.key).decode().splitlines()[-1].startswith("The log is cut here")


def test_viewers_read_and_strangers_see_nothing(call):
    call("POST", "", json={"name": "small", "requirements": ""})
    for path in ("", "/small", "/small/versions", "/small/versions/1", "/small/versions/1/log"):
        assert call("GET", path, user="vera").status_code == 200
        assert call("GET", path, user="bo").status_code == 404
        assert call("GET", path, user="x").status_code == 401
    body = {"name": "small", "requirements": "six"}
    assert call("POST", "", user="vera", json=body).status_code == 403
    assert call("POST", "", user="bo", json=body).status_code == 404
