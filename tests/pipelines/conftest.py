import hashlib
import importlib.util
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import uv

from millpond.engine.dispatch import Dispatcher
from millpond.engine.local import LocalEngine
from millpond.engine.rules import Unisolated
from millpond.engine.transfer import ObjectTransfer
from millpond.environments.actions import BUILD_KIND
from millpond.environments.tasks import give_up, make_build
from millpond.environments.uv import UvBuilder, choose_interpreter
from millpond.ground.actor import Actor
from millpond.ground.canonical import digest_of
from millpond.ground.ids import new_id
from millpond.jobs.pool import Pool
from millpond.lake.actions import add_version
from millpond.lake.manifests import write_manifest
from millpond.lake.values import FileEntry, Manifest, encode_path, object_key
from millpond.people.actions import secret_values
from millpond.people.tables import project, project_member, user_account
from millpond.people.vault import SecretBox
from millpond.pipelines.outputs.collect import collect
from millpond.pipelines.port import Pace, PipelineTools
from millpond.pipelines.runs import actions as runs
from millpond.pipelines.runs.tasks import give_up_run, make_run
from millpond.pipelines.specs import actions as specs
from millpond.pipelines.specs.tables import pipeline_version
from millpond.pipelines.specs.tasks import give_up_compile, make_compile

ANA = Actor("user_ana", "ana")
VERA = Actor("user_vera", "vera")
POND = "prj_pond"
PACE = Pace(tick_seconds=0.1, event_seconds=0.1, retry_seconds=0.01, wait_seconds=0.05)


def add_people(database):
    def make(tx):
        values = {"id": POND, "name": "pond", "description": "", "is_archived": False}
        tx.execute(project.insert().values(**values, made_at=tx.now))
        for actor, role in ((ANA, "editor"), (VERA, "viewer")):
            values = {"id": actor.user_id, "name": actor.name, "is_admin": False}
            tx.execute(user_account.insert().values(**values, is_disabled=False, made_at=tx.now))
            tx.execute(
                project_member.insert().values(
                    project_id=POND, user_id=actor.user_id, role=role, added_at=tx.now
                )
            )

    database.change(make)


class World:
    """A server without HTTP: database, objects, engine, jobs; all real."""

    def __init__(self, database, objects, folder, pace=PACE, poll=0.05, open_engine=None, **engine):
        self.database, self.objects = database, objects
        self.box = SecretBox(b"b" * 32)
        self.engine = (
            open_engine()
            if open_engine
            else LocalEngine(
                ObjectTransfer(objects),
                folder / "scratch",
                slots=2,
                unisolated=lambda: Unisolated(is_allowed=True),
                **engine,
            )
        )
        self.dispatcher = Dispatcher(self.engine)
        self.builder = UvBuilder(
            folder / "environments",
            uv=Path(uv.find_uv_bin()),
            interpreter=choose_interpreter(),
            environment=dict(os.environ),
        )
        self.tools = PipelineTools(
            database=database,
            objects=objects,
            dispatcher=self.dispatcher,
            builder=self.builder,
            collect=collect,
            version="0.1.0",
            pace=pace,
        )
        handlers = {
            specs.COMPILE_KIND: make_compile(self.tools),
            runs.RUN_KIND: make_run(self.tools, self.read_secrets),
            BUILD_KIND: make_build(database, objects, self.builder, None),
        }
        endings = {
            specs.COMPILE_KIND: give_up_compile,
            runs.RUN_KIND: give_up_run,
            BUILD_KIND: give_up,
        }
        self.pool = Pool(
            database, handlers, endings=endings, poll_seconds=poll, is_alone=True, workers=4
        )
        self.pool.start()

    def read_secrets(self, tx, project_id, names):
        return secret_values(tx, project_id, names, box=self.box)

    def close(self):
        self.leave()
        self.engine.close()

    def leave(self):
        """Stop as a server does: what outlives it goes on."""
        self.pool.stop(5)
        self.dispatcher.close()
        self.engine.leave()

    def keep(self, files):
        """Store files (path, text or bytes, to content); give their manifest and its key."""
        entries = []
        for path, data in files.items():
            content = data.encode() if isinstance(data, str) else data
            raw = path if isinstance(path, bytes) else path.encode()
            digest = hashlib.sha256(content).hexdigest()
            key = object_key(POND, digest)
            if not self.objects.exists(key):
                self.objects.put(key, content)
            text, path_bytes = encode_path(raw)
            entries.append(FileEntry(text, digest, len(content), path_bytes))
        key, _ = write_manifest(self.objects, POND, entries)
        return Manifest(tuple(entries)), key

    def push_data(self, name, files, kind="files"):
        manifest, key = self.keep(files)
        return self.database.change(
            lambda tx: add_version(tx, ANA, POND, name, manifest, key, "upload", kind)
        )

    def push(self, code, name="sample", requirements="", function="", seconds=60):
        files = code if isinstance(code, dict) else {"pipeline.py": code}
        _, key = self.keep(files)
        made = self.database.change(
            lambda tx: specs.push_version(
                tx,
                ANA,
                POND,
                name,
                manifest_key=key,
                function=function,
                requirements=requirements,
            )
        )
        return self.until(
            lambda: self.database.read(lambda tx: specs.get_version(tx, POND, made.address)),
            lambda version: version.state != "compiling",
            seconds=seconds,
        )

    def start(self, what="sample", inputs=None, **parameters):
        return self.database.change(
            lambda tx: runs.start_run(
                tx, ANA, POND, what, inputs=inputs or {}, parameters=parameters
            )
        )

    def run(self, what="sample", inputs=None, **parameters):
        return self.wait(self.start(what, inputs, **parameters).id)

    def cancel(self, run_id):
        return self.database.change(lambda tx: runs.cancel_run(tx, ANA, POND, run_id))

    def get(self, run_id):
        return self.database.read(lambda tx: runs.get_run(tx, ANA, POND, run_id))

    def wait(self, run_id, states=("succeeded", "failed", "cancelled"), seconds=60):
        return self.until(
            lambda: self.get(run_id), lambda run: run.state in states, seconds=seconds
        )

    def steps(self, run_id):
        listed = self.database.read(lambda tx: runs.list_steps(tx, ANA, POND, run_id))
        return {step.name: step for step in listed}

    def tasks(self, run_id):
        page = self.database.read(lambda tx: runs.list_tasks(tx, ANA, POND, run_id, limit=1000))
        return page.items

    def until(self, look, is_good, seconds=60):
        end, pause = time.monotonic() + seconds, threading.Event()
        while True:
            found = look()
            if is_good(found):
                return found
            assert time.monotonic() < end, f"it never came to that: {found}"
            pause.wait(0.02)


@pytest.fixture(scope="session")
def filling():
    """Give the bench's module that makes many finished runs without running any."""
    path = Path(__file__).parents[2] / "bench" / "filling.py"
    spec = importlib.util.spec_from_file_location("millpond_filling", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def people(database):
    add_people(database)
    return database


@pytest.fixture
def world(people, folder_store, tmp_path):
    made = World(people, folder_store, tmp_path)
    yield made
    made.close()


@pytest.fixture
def make_world(people, folder_store, tmp_path):
    """Give what opens one server after another on the same database and objects."""
    return lambda **facts: World(people, folder_store, tmp_path, **facts)


@pytest.fixture
def plant(people):
    """Give what adds a pipeline version that was compiled, or has failed, without compiling it."""

    def add(spec, name="score", state="ready"):
        def write(tx):
            made = specs.push_version(
                tx, ANA, POND, name, manifest_key=f"projects/{POND}/manifests/aa/{new_id('m')}"
            )
            facts = spec.to_json()
            values = {"state": state, "spec": facts, "spec_digest": digest_of(facts)}
            if state != "ready":
                values |= {"spec": None, "reason": "It can't be read."}
            tx.execute(
                pipeline_version.update().where(pipeline_version.c.id == made.id).values(**values)
            )
            return specs.get_version(tx, POND, made.address)

        return people.change(write)

    return add
