"""What an administrator is told of the installation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond.engine import system
from millpond.engine.local import LocalEngine
from millpond.engine.system import Installation
from millpond.engine.transfer import ObjectTransfer
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import NotAllowedError
from millpond.ground.settings import load_settings
from millpond.jobs import actions as jobs
from millpond.jobs.tables import job
from millpond.storage.database import Database
from millpond.storage.folder import FolderStore

ANN = Actor("user_ann", "ann")


@pytest.fixture
def installation(
    database: Database, folder_store: FolderStore, tmp_path: Path
) -> Iterator[Installation]:
    environ = {"MILLPOND_OBJECTS_SECRET_ACCESS_KEY": "hush", "MILLPOND_OBJECTS_ACCESS_KEY_ID": "a"}
    engine = LocalEngine(ObjectTransfer(folder_store), tmp_path / "scratch", slots=3)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    settings = load_settings(None, environ)
    yield Installation("1.2.3", settings, environ, data, database, folder_store, engine)
    engine.close()


def test_settings_tell_their_origin_and_keep_secrets(installation: Installation) -> None:
    database = installation.database
    found = database.read(lambda tx: system.get_settings(tx, SYSTEM, installation))
    by_key = {one.key: one for one in found.settings}
    assert by_key["objects.secret_access_key"].origin == "variable"
    assert "hush" not in str(found)
    assert found.file == str(installation.data / "settings.toml")


def test_health_is_the_worst_of_what_was_found(installation: Installation) -> None:
    health = system.get_health(SYSTEM, installation)
    found = {one.name: one for one in health.findings}
    assert found["database"].meaning.endswith("answers")
    assert "3 of 3 slots free" in found["node local"].meaning
    assert found["queue"].state == "ok"
    with installation.database.transaction() as tx:
        job_id = jobs.put(tx, "sweep", {})
        tx.execute(job.update().where(job.c.id == job_id).values(state="dead"))
    health = system.get_health(SYSTEM, installation)
    assert health.findings[-1].state == "warning"
    assert health.status != "ok"
    assert "--state dead" in health.findings[-1].next_step


def test_only_administrators_are_told(installation: Installation) -> None:
    database = installation.database
    with pytest.raises(NotAllowedError):
        system.get_health(ANN, installation)
    for look in (system.get_system, system.get_settings):
        with pytest.raises(NotAllowedError):
            database.read(lambda tx, look=look: look(tx, ANN, installation))  # type: ignore[misc]
