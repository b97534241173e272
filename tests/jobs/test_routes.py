import asyncio

import httpx
import pytest

from millpond.ground.actor import Actor
from millpond.jobs import actions, store
from millpond.jobs.routes import routes
from millpond.web.frame import build_frame

ACTORS = {"root": Actor("user_root", "root", is_admin=True), "ana": Actor("user_ana", "ana")}
ROOT = {"Authorization": "Bearer root"}


class Client:
    """Call the application as a browser would, without a socket."""

    def __init__(self, app):
        self.app = app

    def request(self, method, path, **sent):
        async def send():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                return await http.request(method, path, **{"headers": ROOT, **sent})

        return asyncio.run(send())

    def get(self, path, **sent):
        return self.request("GET", path, **sent)

    def put(self, path, **sent):
        return self.request("PUT", path, **sent)

    def post(self, path, **sent):
        return self.request("POST", path, **sent)

    def delete(self, path):
        return self.request("DELETE", path)


@pytest.fixture
def client(database):
    app = build_frame(database, lambda tx, token, is_local: ACTORS.get(token))
    app.include_router(routes(["sweep"]), prefix="/api/v1")
    return Client(app)


def dead_job(database):
    with database.transaction() as tx:
        job_id = actions.put(tx, "sweep", {"n": 1})
        store.change(tx, job_id, {"state": "dead", "reason": "It broke."})
    return job_id


def test_dead_letter_is_seen_requeued_and_cancelled(client, database):
    job_id = dead_job(database)
    page = client.get("/api/v1/jobs", params={"state": "dead", "kind": "sweep"}).json()
    assert [(job["id"], job["reason"]) for job in page["items"]] == [(job_id, "It broke.")]
    assert client.post(f"/api/v1/jobs/{job_id}/requeue").json()["state"] == "waiting"
    assert client.post(f"/api/v1/jobs/{job_id}/requeue").status_code == 409
    assert client.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert client.get(f"/api/v1/jobs/{job_id}").json()["reason"] == "Cancelled by root."
    assert client.get("/api/v1/jobs/job_0none").status_code == 404
    assert client.get("/api/v1/jobs", params={"state": "odd"}).status_code == 422
    other = client.get("/api/v1/jobs/run_1")
    assert other.status_code == 422
    assert other.json()["detail"] == "job id: 'run_1' is not formed like one: ^job_[0-9a-z]+$."
    assert "list" in other.json()["next_step"]


def test_requeue_with_the_same_idempotency_key_answers_alike(client, database):
    job_id = dead_job(database)
    headers = {**ROOT, "Idempotency-Key": "k1"}
    first = client.post(f"/api/v1/jobs/{job_id}/requeue", headers=headers)
    again = client.post(f"/api/v1/jobs/{job_id}/requeue", headers=headers)
    assert (first.status_code, again.json()) == (200, first.json())


def test_schedule_is_set_switched_listed_and_removed(client):
    path = "/api/v1/schedules/nightly"
    body = {"kind": "sweep", "cron": "30 2 * * *", "time_zone": "Europe/Berlin"}
    made = client.put(path, json=body).json()
    assert (made["is_enabled"], made["last_at"]) == (True, None)
    assert made["next_at"].endswith(("00:30:00Z", "01:30:00Z"))
    assert client.put(path, json={**body, "is_enabled": False}).json()["next_at"] is None
    assert [one["name"] for one in client.get("/api/v1/schedules").json()["items"]] == ["nightly"]
    assert client.get(path).json()["id"] == made["id"]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_bad_schedule_names_every_fault(client):
    body = {"kind": "", "cron": "61 * * * *", "time_zone": "Nowhere"}
    answer = client.put("/api/v1/schedules/bad", json=body)
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["faults"]] == ["kind", "cron", "time_zone"]
    for body in ({"cron": "0 " * 99}, {"project_id": "a\0b"}, {"project_id": "p_" + "a" * 50}):
        sent = {"kind": "sweep", "cron": "0 0 * * *", **body}
        assert client.put("/api/v1/schedules/bad", json=sent).status_code == 422


@pytest.mark.parametrize("path", ["/schedules/a%00b", "/jobs/a%00b", "/jobs?kind=%00"])
def test_odd_characters_are_refused_in_words(client, path):
    assert client.get(f"/api/v1{path}").status_code == 422


@pytest.mark.parametrize(("token", "status"), [("ana", 403), ("nobody", 401)])
def test_others_are_kept_out(client, database, token, status):
    job_id, headers = dead_job(database), {"Authorization": f"Bearer {token}"}
    body = {"kind": "sweep", "cron": "* * * * *"}
    calls = [
        ("GET", "/jobs"), ("GET", f"/jobs/{job_id}"), ("POST", f"/jobs/{job_id}/requeue"),
        ("POST", f"/jobs/{job_id}/cancel"), ("GET", "/schedules"), ("GET", "/schedules/x"),
        ("PUT", "/schedules/x"), ("DELETE", "/schedules/x"),
    ]  # fmt: skip
    for method, path in calls:
        sent = {"json": body} if method == "PUT" else {}
        answer = client.request(method, f"/api/v1{path}", headers=headers, **sent)
        assert answer.status_code == status, (method, path)
