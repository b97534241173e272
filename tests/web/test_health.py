import asyncio

import httpx

from millpond.storage.database import Database
from millpond.storage.s3 import S3Store
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


def test_shows_no_address_user_or_bucket_to_anybody(caplog):
    lost = Database("postgresql://ana-of-the-lake:secret-word@127.0.0.1:1/hidden_name")
    objects = S3Store(
        bucket="hidden-bucket",
        endpoint="http://127.0.0.1:1",
        access_key_id="hidden-id",
        secret_access_key="hidden-key",
        allow_http=True,
        prefix="p",
    )
    answer = ask(lost, objects)
    lost.close()
    assert answer.status_code == 503
    told = answer.json()
    assert "it cannot be reached. Nothing was changed. Try again" in told["database"]
    assert "The object store does not answer as it should. Try again" in told["objects"]
    for word in ("127.0.0.1", "ana-of", "secret-word", "hidden", "refused"):
        assert word not in answer.text
    reasons = " ".join(getattr(record, "reason", "") for record in caplog.records)
    assert reasons.count("127.0.0.1") >= 2
