"""Pages of the queue and of the schedules, as an administrator gets them, and nobody else."""

import re
from typing import Any

import pytest

from millpond.jobs import actions, schedules
from millpond.jobs.requests import ScheduleRequest
from millpond.jobs.tables import job


@pytest.fixture
def dead_id(portal_site: Any) -> str:
    with portal_site.database.transaction() as tx:
        job_id = actions.put(tx, "sweep", {"folder": "<b>"})
        told = {"state": "dead", "tries": 3, "reason": "The disk & all."}
        tx.execute(job.update().where(job.c.id == job_id).values(**told))
    return job_id


def test_the_queue_is_filtered_by_state_and_kind(portal_site: Any, dead_id: str) -> None:
    with portal_site.database.transaction() as tx:
        waiting = actions.put(tx, "other", {})
    with portal_site.browser("root") as http:
        assert 'href="/admin/queue?state=dead"' in http.get("/admin/health").text
        both = http.get("/admin/queue").text
        assert dead_id in both
        assert waiting in both
        dead = http.get("/admin/queue", params={"state": "dead"}).text
        assert dead_id in dead
        assert waiting not in dead
        assert "The disk &amp; all." in dead
        assert dead_id not in http.get("/admin/queue", params={"kind": "other"}).text
        none = http.get("/admin/queue", params={"state": "done"}).text
        assert "There are no such jobs" in none
        assert re.search(r"dead\s*<span[^>]*>1</span>", none)
        paged = http.get("/admin/queue", params={"limit": 1}).text
        assert "Next page" in paged


def test_a_dead_job_is_requeued_and_given_up(portal_site: Any, dead_id: str) -> None:
    path = f"/admin/queue/{dead_id}"
    with portal_site.browser("root") as http:
        shown = http.get(path).text
        assert "&lt;b&gt;" in shown
        assert "Let this job wait again?" in shown
        assert "Give this job up?" not in shown
        assert http.post(f"{path}/requeue").headers["location"] == path
        waits = http.get(path).text
        assert "It waits again" in waits
        assert "Give this job up?" in waits
        assert http.post(f"{path}/requeue").status_code == 409
        assert http.post(f"{path}/cancel").status_code == 303
        assert "Cancelled by root." in http.get(path).text
        assert http.post(f"{path}/cancel").status_code == 409
        assert http.get("/admin/queue/job_00000000000000000000").status_code == 404


def test_a_schedule_is_set_switched_and_removed(portal_site: Any) -> None:
    path = "/admin/schedules"
    kind = "pipelines.run"
    with portal_site.browser("root") as http:
        assert "There are no schedules" in http.get(path).text
        wrong = {"name": "nightly", "kind": kind, "cron": "never", "time_zone": "Mars/Base"}
        told = http.post(path, data=wrong)
        assert told.status_code == 422
        for field in ("cron", "time_zone"):
            assert f'id="field-{field}-fault"' in told.text
        assert 'value="never"' in told.text
        nameless = http.post(path, data={**wrong, "name": "", "cron": "1 2 * * *"})
        assert 'id="field-name-fault"' in nameless.text
        right = {"name": "nightly", "kind": kind, "cron": "1 2 * * *", "time_zone": "UTC"}
        assert http.post(path, data=right).headers["location"] == path
        assert "Forget the schedule nightly?" in http.get(path).text
        assert http.post(f"{path}/nightly/switch").status_code == 303
        assert "puts no more jobs" in http.get(path).text
        assert http.post(f"{path}/nightly/switch").status_code == 303
        assert http.post(f"{path}/nightly/remove").status_code == 303
        assert "There are no schedules" in http.get(path).text
        assert http.post(f"{path}/nightly/remove").status_code == 404


def test_what_a_form_does_not_ask_for_stays(portal_site: Any) -> None:
    request = ScheduleRequest(
        kind="pipelines.run", cron="1 2 * * *", facts={"a": 1}, priority=5, is_enabled=False
    )
    root = portal_site.actor("root")
    with portal_site.database.transaction() as tx:
        schedules.set_schedule(tx, root, "nightly", request)
    with portal_site.browser("root") as http:
        data = {"name": "nightly", "kind": "pipelines.run", "cron": "3 4 * * *"}
        assert http.post("/admin/schedules", data=data).status_code == 303
    with portal_site.database.reading() as tx:
        found = schedules.get_schedule(tx, root, "nightly")
    assert (found.cron, found.facts, found.priority, found.is_enabled) == (
        "3 4 * * *", {"a": 1}, 5, False,
    )  # fmt: skip


@pytest.mark.parametrize("who", ["owner", "stranger"])
def test_nobody_else_sees_the_queue(portal_site: Any, dead_id: str, who: str) -> None:
    with portal_site.browser(who) as http:
        for path in ("/admin/queue", f"/admin/queue/{dead_id}", "/admin/schedules"):
            assert http.get(path).status_code == 403, path
        for path in (f"/admin/queue/{dead_id}/requeue", f"/admin/queue/{dead_id}/cancel"):
            assert http.post(path).status_code == 403, path
        data = {"name": "n", "kind": "pipelines.run", "cron": "1 2 * * *"}
        for path in ("", "/n/switch", "/n/remove"):
            assert http.post(f"/admin/schedules{path}", data=data).status_code == 403, path
