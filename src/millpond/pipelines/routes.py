"""REST of pipelines, presets and runs."""

import shutil

from fastapi import APIRouter

from millpond.machines.live import LiveTasks
from millpond.pipelines.outputs import routes as output_routes
from millpond.pipelines.presets import routes as preset_routes
from millpond.pipelines.runs import routes as run_routes
from millpond.pipelines.runs.logs import routes as log_routes
from millpond.pipelines.runs.routes import HasProgram
from millpond.pipelines.specs import routes as spec_routes
from millpond.storage.port import ObjectStore


def routes(
    objects: ObjectStore, has_program: HasProgram | None = None, *, live: LiveTasks | None = None
) -> APIRouter:
    """Make the routes on an object store.

    Args:
        objects: the store.
        has_program: says whether tasks find a program such as ``Rscript``; when left out, this
            machine's own PATH does.
        live: knows what the tasks that run take; when left out, nobody does.
    """
    router = APIRouter(prefix="/projects/{project}")
    spec_routes.add_routes(router, objects)
    preset_routes.add_routes(router)
    run_routes.add_routes(router, objects, has_program or _is_here, live or LiveTasks())
    log_routes.add_routes(router, objects)
    output_routes.add_routes(router, objects)
    return router


def _is_here(name: str) -> bool:
    return shutil.which(name) is not None
