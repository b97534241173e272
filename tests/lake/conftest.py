import asyncio
import hashlib
import io
import re
import tarfile

import httpx
import pytest

from millpond.ground.actor import SYSTEM, Actor
from millpond.lake.manifests import ManifestCache
from millpond.lake.previews import routes as preview_routes
from millpond.lake.routes import STREAMED, routes
from millpond.lake.uploads import routes as upload_routes
from millpond.lake.values import LakeLimits
from millpond.people.tables import project, project_member, user_account
from millpond.web.frame import build_frame

ANA = Actor("user_ana", "ana")
VERA = Actor("user_vera", "vera")
BO = Actor("user_bo", "bo")
LIMITS = LakeLimits(
    files=50,
    total_bytes=40 << 20,
    file_bytes=30 << 20,
    pack_bytes=4 << 20,
    open_uploads=6,
    unfinished_bytes=29 << 20,
)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def pack(contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in contents:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def people(database):
    """Two projects: ana edits the first and vera views it; bo owns the second."""

    def make(tx):
        for actor in (ANA, VERA, BO):
            values = {"id": actor.user_id, "name": actor.name, "is_admin": False}
            tx.execute(user_account.insert().values(**values, is_disabled=False, made_at=tx.now))
        for name in ("pond", "other"):
            values = {"id": f"prj_{name}", "name": name, "description": "", "is_archived": False}
            tx.execute(project.insert().values(**values, made_at=tx.now))
        for name, actor, role in (
            ("pond", ANA, "editor"),
            ("pond", VERA, "viewer"),
            ("other", BO, "owner"),
        ):
            tx.execute(
                project_member.insert().values(
                    project_id=f"prj_{name}", user_id=actor.user_id, role=role, added_at=tx.now
                )
            )

    database.change(make)
    return database


class Http:
    def __init__(self, app):
        self.app = app

    def send(self, method, path, *, user="ana", **rest):
        async def go():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                headers = {"Authorization": f"Bearer {user}", **rest.pop("headers", {})}
                return await http.request(method, f"/api/v1{path}", headers=headers, **rest)

        return asyncio.run(go())

    def get(self, path, **rest):
        return self.send("GET", path, **rest)

    def post(self, path, **rest):
        return self.send("POST", path, **rest)

    def push(self, name, files, user="ana", project="pond"):
        """Send files (path to content) as a pack and make a version of them."""
        body = pack([(digest(data), data) for data in set(files.values())])
        sent = self.post(f"/projects/{project}/objects", content=body, user=user)
        assert sent.status_code == 201, sent.text
        listed = [
            {"path": path, "digest": digest(data), "size": len(data)}
            for path, data in files.items()
        ]
        path = f"/projects/{project}/datasets/{name}/versions"
        return self.post(path, json={"files": listed}, user=user)


@pytest.fixture
def http(people, objects):
    actors = {actor.name: actor for actor in (ANA, VERA, BO, SYSTEM)}
    app = build_frame(
        people, lambda tx, token, is_local: actors.get(token), streams=re.compile(STREAMED)
    )
    app.include_router(routes(objects, LIMITS), prefix="/api/v1")
    app.include_router(preview_routes.routes(objects, ManifestCache(objects)), prefix="/api/v1")
    app.include_router(upload_routes.routes(objects, LIMITS), prefix="/api/v1")
    return Http(app)


@pytest.fixture
def limits():
    return LIMITS
