"""REST of presets."""

from fastapi import APIRouter

from millpond.ground.page import Page
from millpond.people.actions import open_project
from millpond.pipelines.presets import actions
from millpond.pipelines.presets.requests import PresetIn
from millpond.pipelines.presets.values import Preset
from millpond.storage.database import Transaction
from millpond.web.frame import CallIn, PageIn, needs

_LIST = "/pipelines/{name}/presets"
_ONE = _LIST + "/{preset}"


def add_routes(router: APIRouter) -> None:
    """Add the routes of presets."""
    _add_looking(router)
    _add_changing(router)


def _add_looking(router: APIRouter) -> None:
    @router.get(_LIST, **needs("preset.read"))
    def list_presets(call: CallIn, project: str, name: str, page: PageIn) -> Page[Preset]:
        """List a pipeline's presets by name."""

        def look(tx: Transaction) -> Page[Preset]:
            project_id = open_project(tx, call.actor, project, "preset.read").id
            cursor, limit = page.cursor, page.limit
            return actions.list_presets(
                tx, call.actor, project_id, name, cursor=cursor, limit=limit
            )

        return call.read(look)

    @router.get(_ONE, **needs("preset.read"))
    def get_preset(call: CallIn, project: str, name: str, preset: str) -> Preset:
        """Show a preset."""

        def look(tx: Transaction) -> Preset:
            project_id = open_project(tx, call.actor, project, "preset.read").id
            return actions.get_preset(tx, call.actor, project_id, name, preset)

        return call.read(look)


def _add_changing(router: APIRouter) -> None:
    @router.put(_ONE, **needs("preset.write"))
    def set_preset(call: CallIn, project: str, name: str, preset: str, asked: PresetIn) -> Preset:
        """Keep a filling of the pipeline's form under a name; it may leave fields open."""

        def keep(tx: Transaction) -> Preset:
            project_id = open_project(tx, call.actor, project, "preset.write").id
            return actions.set_preset(
                tx,
                call.actor,
                project_id,
                name,
                preset,
                description=asked.description,
                inputs=asked.inputs,
                parameters=asked.parameters,
            )

        return call.change(keep)

    @router.delete(_ONE, status_code=204, **needs("preset.write"))
    def remove_preset(call: CallIn, project: str, name: str, preset: str) -> None:
        """Remove a preset; runs that were started with it stay."""

        def remove(tx: Transaction) -> None:
            project_id = open_project(tx, call.actor, project, "preset.write").id
            actions.remove_preset(tx, call.actor, project_id, name, preset)

        call.change(remove)
