"""Pages of the activity log: a list with filters, one entry with its proof, the check."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import HTMLResponse, Response

from millpond.audit import actions
from millpond.audit.evidence import get_entry
from millpond.audit.keys import RotatingKey
from millpond.audit.serving import Chains, FindProject, May
from millpond.audit.targets import Targets
from millpond.audit.values import Entry, EntryFilter, EntryProof
from millpond.ground.errors import Fault, InvalidError
from millpond.ground.page import Page
from millpond.storage.database import Transaction
from millpond.web.calls import PageAsked, PageIn
from millpond.web.portal import Form, NavItem, Portal, Visit, VisitIn, page

_PROJECT, _SITE = "/projects/{project}/activity", "/admin/activity"
NAV = (
    NavItem("Activity", _PROJECT, icon="history", permission="log.read", order=80),
    NavItem("Activity", _SITE, icon="history", permission="site_log.read", place="admin", order=60),
)
_SHOWN_LINKS_MOST = 2000
_FILTERS = ("who", "verb", "target", "text", "since", "until", "zone")
_Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_Asked = Annotated[str, Query(max_length=400)]


class _Wanted:
    """What of a chain somebody wants to see, as it stands in the address."""

    def __init__(
        self, asked: PageIn, who: _Asked = "", verb: _Asked = "", target: _Asked = "",
        text: _Asked = "", since: _Asked = "", until: _Asked = "", zone: _Asked = "",
    ) -> None:  # fmt: skip
        self.page: PageAsked = asked
        self.typed = dict(zip(_FILTERS, (who, verb, target, text, since, until, zone), strict=True))

    def filter(self) -> EntryFilter:
        """Read it.

        Raises:
            InvalidError: a day is none.
        """
        typed, faults = self.typed, []
        days: dict[str, datetime | None] = {}
        for field, more in (("since", 0), ("until", 1)):
            try:
                days[field] = _moment(typed[field], _zone(typed["zone"]), more)
            except (ValueError, OverflowError):
                faults.append(Fault(field, f"{typed[field]!r} is no day; write 2026-01-31"))
        if faults:
            raise InvalidError("The days cannot be read.", next_step="Mend them.", faults=faults)
        return EntryFilter(
            typed["verb"], typed["who"], typed["target"], days["since"], days["until"],
            typed["text"],
        )  # fmt: skip

    def form(self) -> Form:
        """Give what was typed, to be shown again."""
        form = Form()
        form.values = {name: value for name, value in self.typed.items() if value}
        return form


WantedIn = Annotated[_Wanted, Depends(_Wanted)]


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _moment(day: str, zone: tzinfo, more: int) -> datetime | None:
    if not day:
        return None
    start = date.fromisoformat(day) + timedelta(days=more)
    return datetime.combine(start, time(), zone).astimezone(UTC)


@dataclass(frozen=True)
class _Tools:
    portal: Portal
    chains: Chains
    key: RotatingKey
    targets: Targets

    def base(self, project: str | None) -> str:
        return _SITE if project is None else _PROJECT.replace("{project}", project)


def pages(
    portal: Portal, *, may: May, find_project: FindProject, key: RotatingKey, targets: Targets
) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        may: with ``find_project`` decides who may see which chain.
        find_project: gives a project to whom may see its chain.
        key: what seals are signed with.
        targets: knows the pages of what entries speak of.
    """
    router, tools = APIRouter(), _Tools(portal, Chains(may, find_project, key), key, targets)
    _add_project_pages(router, tools)
    _add_site_pages(router, tools)
    _add_key_pages(router, tools)
    return router


def _add_project_pages(router: APIRouter, tools: _Tools) -> None:
    permission = page("log.read")

    @router.get(_PROJECT, **permission)
    def show_project_log(visit: VisitIn, project: str, wanted: WantedIn) -> HTMLResponse:
        """Show what was done in a project, newest first."""
        return _show_list(tools, visit, project, wanted)

    @router.post(_PROJECT + "/verify", **permission)
    def verify_project_log(visit: VisitIn, project: str) -> HTMLResponse:
        """Check a project's log, and say what was found."""
        return _show_verdict(tools, visit, project)

    @router.get(_PROJECT + "/export", **permission)
    def export_project_log(visit: VisitIn, project: str) -> Response:
        """Give a project's log as one file."""
        return tools.chains.export(visit, project, is_gzip=False)

    @router.get(_PROJECT + "/{number}", **permission)
    def show_project_entry(visit: VisitIn, project: str, number: _Number) -> HTMLResponse:
        """Show one entry, and where it stands in the record."""
        return _show_entry(tools, visit, project, number)

    @router.get(_PROJECT + "/{number}/proof", **permission)
    def prove_project_entry(visit: VisitIn, project: str, number: _Number) -> Response:
        """Give the file that proves one entry."""
        return tools.chains.prove(visit, project, number)


def _add_site_pages(router: APIRouter, tools: _Tools) -> None:
    permission = page("site_log.read")

    @router.get(_SITE, **permission)
    def show_site_log(visit: VisitIn, wanted: WantedIn) -> HTMLResponse:
        """Show what was done outside of projects, newest first."""
        return _show_list(tools, visit, None, wanted)

    @router.post(_SITE + "/verify", **permission)
    def verify_site_log(visit: VisitIn) -> HTMLResponse:
        """Check the site's log, and say what was found."""
        return _show_verdict(tools, visit, None)

    @router.get(_SITE + "/export", **permission)
    def export_site_log(visit: VisitIn) -> Response:
        """Give the site's log as one file."""
        return tools.chains.export(visit, None, is_gzip=False)

    @router.get(_SITE + "/{number}", **permission)
    def show_site_entry(visit: VisitIn, number: _Number) -> HTMLResponse:
        """Show one entry, and where it stands in the record."""
        return _show_entry(tools, visit, None, number)

    @router.get(_SITE + "/{number}/proof", **permission)
    def prove_site_entry(visit: VisitIn, number: _Number) -> Response:
        """Give the file that proves one entry."""
        return tools.chains.prove(visit, None, number)


def _add_key_pages(router: APIRouter, tools: _Tools) -> None:
    @router.post(_SITE + "/key", **page("log_key.write"))
    def change_key(visit: VisitIn) -> Response:
        """Seal with a new key from now on."""

        def change(tx: Transaction) -> str:
            tools.chains.may(tx, visit.actor, "log_key.write", None)
            return actions.change_key(tx, visit.actor, tools.key).keys[0].key_id

        said = f"Seals are signed with the key {visit.change(change)} from now on."
        return tools.portal.go(visit, _SITE, said)

    @router.get("/checkpoint", **page("checkpoint.make"))
    def give_checkpoint(visit: VisitIn) -> Response:
        """Give a seal of now, to be kept somewhere else."""

        def make(tx: Transaction) -> dict[str, Any]:
            tools.chains.may(tx, visit.actor, "checkpoint.make", None)
            return asdict(actions.make_checkpoint(tx, tools.key))

        return _file(visit.change(make), "millpond-log-checkpoint.json")

    @router.get("/log-keys", **page("profile.read"))
    def give_keys(visit: VisitIn) -> Response:
        """Give the public keys that seals are checked with, to be kept somewhere else."""
        found = visit.read(lambda tx: actions.public_keys(tx, tools.key))
        return _file(asdict(found), "millpond-log-keys.json")


def _file(value: Any, name: str) -> Response:
    text = json.dumps(value, indent=2, default=str) + "\n"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/json", headers=headers)


def _show_list(
    tools: _Tools, visit: Visit, project: str | None, wanted: _Wanted, **more: Any
) -> HTMLResponse:
    fault: InvalidError | None = None
    try:
        asked = wanted.filter()
    except InvalidError as wrong:
        fault, asked = wrong, EntryFilter()

    def read(tx: Transaction) -> tuple[Page[Entry], list[Any]]:
        chain = tools.chains.open(tx, visit, project)
        entries: Page[Entry] = Page([])
        if fault is None:
            entries = actions.list_entries(
                tx,
                None if chain is None else chain.id,
                cursor=wanted.page.cursor,
                limit=wanted.page.limit,
                asked=asked,
            )
        return entries, actions.public_keys(tx, tools.key).keys

    found, keys = visit.read(read)
    return tools.portal.render(
        visit,
        "audit/list.html",
        422 if fault else 200,
        found=found,
        keys=keys,
        form=wanted.form(),
        fault=fault,
        is_filtered=any(wanted.typed[name] for name in _FILTERS if name != "zone"),
        is_narrowed=any(wanted.typed[name] for name in ("who", "verb", "target", "since", "until")),
        base=tools.base(project),
        path_of=lambda target: tools.targets.path(target, project or ""),
        **({"verdict": None} | more),
    )


def _show_verdict(tools: _Tools, visit: Visit, project: str | None) -> HTMLResponse:
    verdict = tools.chains.verify(visit, project)
    if visit.is_fragment:
        return tools.portal.render(
            visit, "audit/verdict.html", verdict=verdict, base=tools.base(project)
        )
    return _show_list(tools, visit, project, _Wanted(PageAsked()), verdict=verdict)


def _show_entry(tools: _Tools, visit: Visit, project: str | None, number: int) -> HTMLResponse:
    def read(tx: Transaction) -> EntryProof:
        return get_entry(tx, tools.chains.open(tx, visit, project), number)

    found = visit.read(read)
    return tools.portal.render(
        visit,
        "audit/entry.html",
        found=found,
        verdict=_check(tools, visit, project, found),
        path_of=lambda target: tools.targets.path(target, project or ""),
        base=tools.base(project),
    )


def _check(tools: _Tools, visit: Visit, project: str | None, found: EntryProof) -> Any:
    """Check the entry's proof as its reader would, where it is short enough to do so now."""
    head = found.head
    if head is None or head.number - found.entry.number > _SHOWN_LINKS_MOST:
        return None
    return tools.chains.check(visit, project, found.entry.number)
