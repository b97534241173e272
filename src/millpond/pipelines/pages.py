"""Pages of pipelines, of their forms, of programs that belong to none, and of runs."""

import shutil
from collections.abc import Iterator

from fastapi import APIRouter

from millpond.lake.values import LakeLimits
from millpond.machines.live import LiveTasks
from millpond.pipelines.outputs import pages as output_pages
from millpond.pipelines.outputs.routes import Outputs
from millpond.pipelines.runs import pages as run_pages
from millpond.pipelines.runs.routes import HasProgram
from millpond.pipelines.scripts import pages as script_pages
from millpond.pipelines.specs import pages as spec_pages
from millpond.pipelines.starting import pages as starting_pages
from millpond.storage.port import ObjectStore
from millpond.web.portal import Portal

NAV = (*spec_pages.NAV, *run_pages.NAV)


def pages(
    portal: Portal,
    objects: ObjectStore,
    limits: LakeLimits,
    has_program: HasProgram | None = None,
    *,
    live: LiveTasks | None = None,
) -> Iterator[APIRouter]:
    """Make the pages; ``has_program`` and ``live`` are as for the routes."""
    found = has_program or (lambda name: shutil.which(name) is not None)
    yield script_pages.pages(portal, objects, limits, found)
    yield spec_pages.pages(portal, objects, limits)
    yield starting_pages.pages(portal, objects, found)
    outputs = Outputs(objects)
    yield run_pages.pages(portal, objects, outputs, live or LiveTasks())
    yield output_pages.pages(portal, objects, outputs)
