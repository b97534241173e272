import os
from pathlib import Path

import pytest
import uv

from millpond.environments.uv import UvBuilder, choose_interpreter
from millpond.ground.actor import Actor
from millpond.people.tables import project, project_member, user_account

ANA = Actor("user_ana", "ana")


@pytest.fixture
def make_builder(tmp_path):
    """Make builders on one folder, as several processes would."""

    def make(seconds=600, **variables):
        return UvBuilder(
            tmp_path / "environments",
            uv=Path(uv.find_uv_bin()),
            interpreter=choose_interpreter(),
            environment={**os.environ, **variables},
            seconds=seconds,
        )

    return make


@pytest.fixture
def builder(make_builder):
    return make_builder()


@pytest.fixture
def people(database):
    """A project that ana edits and vera views."""

    def make(tx):
        values = {"id": "prj_pond", "name": "pond", "description": "", "is_archived": False}
        tx.execute(project.insert().values(**values, made_at=tx.now))
        for name, role in (("ana", "editor"), ("vera", "viewer"), ("bo", None)):
            values = {"id": f"user_{name}", "name": name, "is_admin": False}
            tx.execute(user_account.insert().values(**values, is_disabled=False, made_at=tx.now))
            if role:
                values = {"project_id": "prj_pond", "user_id": f"user_{name}", "role": role}
                tx.execute(project_member.insert().values(**values, added_at=tx.now))

    database.change(make)
    return database
