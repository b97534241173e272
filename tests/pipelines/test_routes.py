"""REST of pipelines and runs, from sent files to downloaded outputs."""

import asyncio
import hashlib
import io
import json
import time
import zipfile

import httpx
import pytest

from millpond.ground.actor import Actor
from millpond.pipelines.routes import routes
from millpond.web.frame import build_frame

CODE = """
from millpond import Files, Table, pipeline, step

@step(map=True, memory="64 MiB")
def size(files: Files, least: int) -> Table:
    for file in files:
        print(file.name)
        yield {"name": file.name, "size": file.size}

@pipeline
def sizes(files: Files, least: int = 0):
    return {"sizes": size(files, least)}
"""
SCRIPT = """
import json, os, pathlib
data = pathlib.Path(os.environ["MILLPOND_INPUT_DATA"])
values = json.load(open(os.environ["MILLPOND_PARAMETERS"]))
pathlib.Path("answer.txt").write_text(" ".join(sorted(p.name for p in data.iterdir())) * values["times"])
"""


class Http:
    def __init__(self, app):
        self.app = app

    def send(self, method, path, *, user="ana", **rest):
        async def go():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                headers = {"Authorization": f"Bearer {user}"}
                address = f"/api/v1/projects/pond{path}"
                return await http.request(method, address, headers=headers, **rest)

        return asyncio.run(go())

    def get(self, path, status=200, **rest):
        answer = self.send("GET", path, **rest)
        assert answer.status_code == status, answer.text
        return answer

    def post(self, path, body, status=201, **rest):
        answer = self.send("POST", path, json=body, **rest)
        assert answer.status_code == status, answer.text
        return answer.json()

    def until(self, path, states):
        end = time.monotonic() + 60
        while True:
            found = self.get(path).json()
            if found["state"] in states:
                return found
            assert time.monotonic() < end, found


def listed(world, files):
    world.keep(files)
    return [
        {"path": path, "digest": hashlib.sha256(text.encode()).hexdigest(), "size": len(text)}
        for path, text in files.items()
    ]


@pytest.fixture
def http(world):
    actors = {name: Actor(f"user_{name}", name) for name in ("ana", "vera")}
    app = build_frame(world.database, lambda tx, token, is_local: actors.get(token))
    app.include_router(routes(world.objects), prefix="/api/v1")
    return Http(app)


def test_pipeline_is_pushed_run_and_its_outputs_downloaded(world, http):
    files = listed(world, {"pipeline.py": CODE})
    made = http.post("/pipelines", {"files": files})
    assert (made["pipeline"], made["number"], made["state"]) == ("sizes", 1, "compiling")
    ready = http.until("/pipelines/sizes/versions/1", ("ready", "failed"))
    assert ready["spec"]["parameters"]["properties"]["least"]["default"] == 0
    assert http.post("/pipelines", {"files": files})["unchanged"]
    assert http.get("/pipelines").json()["items"][0]["name"] == "sizes"
    assert len(http.get("/pipelines/sizes/versions").json()["items"]) == 1
    world.push_data("docs", {"a": "123", b"\xff": "4"})
    run = http.post("/runs", {"pipeline": "sizes", "inputs": {"files": "docs"}})
    http.post("/runs", {"pipeline": "sizes"}, status=403, user="vera")
    ended = http.until(f"/runs/{run['id']}", ("succeeded", "failed"))
    assert ended["state"] == "succeeded", ended["reason"]
    assert http.get("/runs?pipeline=sizes&state=succeeded", user="vera").json()["items"]
    at = f"/runs/{run['id']}"
    assert [step["state"] for step in http.get(f"{at}/steps").json()["items"]] == ["succeeded"]
    assert [task["state"] for task in http.get(f"{at}/tasks").json()["items"]] == ["done"]
    log = http.get(f"{at}/log").json()
    assert log["is_complete"]
    assert log["text"] == "== size, partition 0 ==\na\n\\xff\n"
    assert http.get(f"{at}/log?after={log['next']}").json()["text"] == ""
    outputs = [entry["path"] for entry in http.get(f"{at}/outputs").json()["items"]]
    assert "predictions.csv" in outputs
    text = http.get(f"{at}/outputs/content", params={"path": "predictions.csv"}).text
    assert text.splitlines() == ["name,size", "a,3", "\\xff,1"]
    part = http.send("GET", f"{at}/outputs/archive")
    with zipfile.ZipFile(io.BytesIO(part.content)) as archive:
        assert len(archive.namelist()) == len(outputs)
    http.post(f"{at}/cancel", {}, status=409)


def test_every_fault_comes_in_one_answer_and_failed_code_names_its_lines(world, http):
    files = listed(world, {"pipeline.py": CODE.replace("least)}", "lesat)}")})
    http.post("/pipelines", {"files": files, "name": "broken"})
    failed = http.until("/pipelines/broken/versions/1", ("ready", "failed"))
    assert failed["state"] == "failed"
    assert failed["faults"][0]["line"] == 12
    assert "lesat" in failed["faults"][0]["message"]
    http.post("/pipelines", {"files": files, "name": "new"}, status=422)
    http.post("/runs", {"pipeline": "broken"}, status=409)
    http.post("/runs", {"pipeline": "absent"}, status=404)
    http.post("/runs", {}, status=422)
    http.get("/runs/run_absent", status=404)
    missing = {"path": "pipeline.py", "digest": "0" * 64, "size": 3}
    http.post("/pipelines", {"files": [missing]}, status=422)


def test_undecorated_program_runs_on_any_data(world, http):
    world.push_data("docs", {"b": "2", "a": "1"})
    body = {
        "program": {"entry": "main.py", "files": listed(world, {"main.py": SCRIPT})},
        "inputs": {"data": "docs"},
        "parameters": {"times": 2},
    }
    run = http.post("/runs", body)
    assert (run["what"], run["pipeline_version_id"]) == ("main.py", None)
    ended = http.until(f"/runs/{run['id']}", ("succeeded", "failed"))
    assert ended["state"] == "succeeded", json.dumps(http.get(f"/runs/{run['id']}/log").json())
    path = {"path": "files/output/answer.txt"}
    assert http.get(f"/runs/{run['id']}/outputs/content", params=path).text == "a ba b"
