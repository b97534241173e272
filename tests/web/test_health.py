import asyncio

import httpx

from millpond.storage.database import Database
from millpond.web import health
from millpond.web.frame import build_frame


def ask(database, objects):
    app = build_frame(database, lambda *_: None)
    app.include_router(health.routes(database, objects, "1.2.3"))

    async def go():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/healthz")

    return asyncio.run(go())


def test_says_that_all_is_well(database, objects):
    answer = ask(database, objects)
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "version": "1.2.3",
        "database": "ok",
        "objects": "ok",
    }


def test_says_what_does_not_answer(tmp_path, folder_store):
    lost = Database(f"sqlite:///{tmp_path / 'no' / 'x.db'}")
    answer = ask(lost, folder_store)
    lost.close()
    assert answer.status_code == 503
    assert answer.json()["status"] == "failing"
    assert "does not take requests" in answer.json()["database"]
    assert answer.json()["objects"] == "ok"
