"""One visit of a page: who visits, what the form held, and how pages are declared."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode, urlsplit

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from millpond.ground.actor import Actor
from millpond.ground.errors import NotSignedInError
from millpond.storage.database import Transaction
from millpond.web.calls import Call, OpenCall, check_same_origin, find_caller
from millpond.web.intake import check_json
from millpond.web.problems import as_error

Model = TypeVar("Model", bound=BaseModel)

CheckVisit = Callable[[Transaction, Actor, str, str], None]
"""Refuse unless an actor has a permission, in the project of this name or, without, on the site."""

_FIELDS_MOST, _FILES_MOST = 5000, 2000
_PART_BYTES = 4 << 20


class SignInFirst(Exception):  # noqa: N818 - no error: it sends the visitor to the way in.
    """Nobody is signed in: they are sent to sign in and come back."""


class Visit(Call):
    """A visit of somebody who is signed in."""

    @property
    def is_fragment(self) -> bool:
        """Tell whether a part of a page is asked for, to be put into one that is shown."""
        return _is_fragment(self.request)


class AnyVisit(OpenCall):
    """A visit that needs nobody to be signed in."""

    @property
    def is_fragment(self) -> bool:
        """Tell whether a part of a page is asked for, to be put into one that is shown."""
        return _is_fragment(self.request)


class Form:
    """What a form held, as it was typed."""

    def __init__(self, data: FormData | None = None) -> None:
        pairs = data.multi_items() if data is not None else []
        self._pairs = [(name, value) for name, value in pairs if isinstance(value, str)]
        self._files = [(name, value) for name, value in pairs if isinstance(value, UploadFile)]
        self.values = dict(self._pairs)
        check_json([text for pair in self._pairs for text in pair])

    def many(self, name: str) -> list[str]:
        """Give every value of a field, in order."""
        return [value for each, value in self._pairs if each == name]

    def files(self, name: str) -> list[UploadFile]:
        """Give the files of a field; one that was left empty counts for none."""
        return [value for each, value in self._files if each == name and value.filename]

    def to(self, model: type[Model], **more: object) -> Model:
        """Read the form as what a REST route takes; what is left empty is left out.

        Raises:
            InvalidError: the very faults that the REST route would tell of.
        """
        given: dict[str, object] = {}
        for name, field in model.model_fields.items():
            texts = self.many(name)
            if any(texts) or (texts and field.is_required()):
                is_list = getattr(field.annotation, "__origin__", None) in (list, tuple, set)
                given[name] = [text for text in texts if text] if is_list else texts[-1]
        try:
            return model.model_validate(given | more)
        except ValidationError as fault:
            raise as_error(RequestValidationError(fault.errors())) from None


def page(permission: str, **extra: Any) -> dict[str, Any]:
    """Declare a page and its permission: ``@router.get(path, **page("run.read"))``.

    Whoever lacks it does not get as far as the page.
    """
    return _declared({"x-permission": permission, **extra})


def open_page(**extra: Any) -> dict[str, Any]:
    """Declare a page for which nobody needs to be signed in."""
    return _declared({"x-permission": "open", **extra})


def sign_in_address(request: Request) -> str:
    """Give the address of the way in, which leads back to where the visitor is."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if _is_fragment(request):
        shown = urlsplit(request.headers.get("hx-current-url", "/"))
        here = shown.path + (f"?{shown.query}" if shown.query else "")
    elif request.method != "GET":
        here = "/"
    return "/sign-in" if here == "/" else f"/sign-in?{urlencode({'next': here})}"


def _declared(extra: dict[str, Any]) -> dict[str, Any]:
    return {"response_class": HTMLResponse, "response_model": None, "openapi_extra": extra}


def _is_fragment(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


async def _caller(request: Request) -> Actor | None:
    check_same_origin(request)
    try:
        return await find_caller(request)
    except NotSignedInError:
        return None


async def _visit(request: Request) -> Visit:
    actor = await _caller(request)
    if actor is None:
        raise SignInFirst
    visit = Visit(request, request.app.state.database, actor)
    check: CheckVisit = request.app.state.check_visit
    declared = request.scope["route"].openapi_extra["x-permission"]
    project = request.path_params.get("project", "")
    await run_in_threadpool(visit.read, lambda tx: check(tx, actor, declared, project))
    return visit


async def _any_visit(request: Request) -> AnyVisit:
    return AnyVisit(request, request.app.state.database, await _caller(request))


async def _form(request: Request) -> AsyncIterator[Form]:
    async with request.form(
        max_files=_FILES_MOST, max_fields=_FIELDS_MOST, max_part_size=_PART_BYTES
    ) as data:
        yield Form(data)


VisitIn = Annotated[Visit, Depends(_visit)]
AnyVisitIn = Annotated[AnyVisit, Depends(_any_visit)]
FormIn = Annotated[Form, Depends(_form)]
