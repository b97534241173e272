"""The server: opens the database, the objects and the engine, and joins the rooms.

``python -m millpond.main [--data DIR] [--host HOST] [--port PORT] [--settings FILE]``
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from socket import socket

from fastapi import APIRouter, FastAPI
from uv import find_uv_bin

from millpond.audit import actions as audit
from millpond.audit import routes as audit_routes
from millpond.audit.values import ProjectRef
from millpond.deploy.given import EXIT_CODES, find_settings
from millpond.engine import routes as engine_routes
from millpond.environments import routes as environment_routes
from millpond.environments import tasks as environment_tasks
from millpond.environments.actions import BUILD_KIND
from millpond.environments.sources import SandboxedSources
from millpond.ground.actor import Actor
from millpond.ground.errors import MillpondError
from millpond.ground.logs import set_up_logs
from millpond.ground.settings import Settings
from millpond.house import (
    ENDINGS,
    House,
    caps_of,
    index_variables,
    installation_of,
    is_loopback,
    open_door,
    open_house,
)
from millpond.jobs import actions as jobs
from millpond.jobs import routes as job_routes
from millpond.jobs.mail import MAIL_KIND, make_mail
from millpond.jobs.pool import Pool
from millpond.jobs.port import Handler
from millpond.lake import routes as lake_routes
from millpond.lake.manifests import ManifestCache
from millpond.lake.previews import routes as preview_routes
from millpond.lake.uploads import parts as upload_parts
from millpond.lake.uploads import routes as upload_routes
from millpond.lake.values import LakeLimits
from millpond.machines import heartbeats
from millpond.machines import routes as node_routes
from millpond.machines import tasks as machine_tasks
from millpond.machines.door.listening import listen_for_nodes
from millpond.machines.prices import list_prices
from millpond.machines.trust import routes as trust_routes
from millpond.machines.trust.addresses import first_address
from millpond.machines.trust.rules import (
    NOT_ENCRYPTED,
    choose_way,
    is_pinned,
    login_line,
    scheme_of,
    url_for_others,
)
from millpond.machines.work import MACHINE_KIND
from millpond.people import routes as people_routes
from millpond.people.accounts import actions as accounts
from millpond.people.accounts import routes as account_routes
from millpond.people.accounts.resets import routes as reset_routes
from millpond.people.accounts.sessions import routes as session_routes
from millpond.people.actions import open_project, require, secret_values
from millpond.people.invitations import routes as invitation_routes
from millpond.people.oidc import routes as oidc_routes
from millpond.people.passkeys import routes as passkey_routes
from millpond.people.vault import open_local_key
from millpond.pipelines import routes as pipeline_routes
from millpond.pipelines.outputs.collect import collect
from millpond.pipelines.port import Pace, PipelineTools
from millpond.pipelines.runs import tasks as run_tasks
from millpond.pipelines.runs.actions import RUN_KIND
from millpond.pipelines.specs import tasks as spec_tasks
from millpond.pipelines.specs.actions import COMPILE_KIND
from millpond.portal import hang_pages
from millpond.storage import events
from millpond.storage import routes as object_routes
from millpond.storage.chores import Chore, Housekeeper
from millpond.storage.database import Transaction
from millpond.storage.folder import FolderStore
from millpond.storage.locking import FolderLock
from millpond.storage.nodes.replicated import NodeStore
from millpond.watch import actions as watch
from millpond.watch import routes as watch_routes
from millpond.watch.usage import routes as usage_routes
from millpond.web import health, metrics, sse
from millpond.web.frame import build_frame
from millpond.web.hosts import Hosts
from millpond.web.serving import Door, listen, serve_app, url_of

VERSION = version_of("millpond")
_API = "/api/v1"
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_STRICT_SECONDS = 180 * 86_400
"""How long browsers come by TLS only; with a given certificate, which they take without asking."""


# Joining ---------------------------------------------------------------------------------------


def build_app(house: House) -> FastAPI:
    """Hang every room's routes into the frame."""

    def find(tx: Transaction, token: str, is_local: bool) -> Actor | None:
        return accounts.find_actor(tx, token, is_local, uses=house.uses)

    app = build_frame(
        house.database,
        find,
        version=VERSION,
        body_bytes=house.settings.server.body_bytes,
        streams=re.compile(rf"^(/objects/|{lake_routes.STREAMED}$)"),
        meters=house.meters,
        hosts=_hosts(house),
        strict_seconds=_strict_seconds(house),
    )
    app.include_router(health.routes(house.database, house.objects, VERSION))
    app.include_router(metrics.routes(house.meters, partial(require, permission="system.read")))
    if isinstance(house.objects, (FolderStore, NodeStore)):
        app.include_router(object_routes.routes(house.objects))
    for router in _rooms(house):
        app.include_router(router, prefix=_API)
    hang_pages(app, house, VERSION)
    return app


def _hosts(house: House) -> Hosts:
    server, address = house.settings.server, house.settings.cluster.address
    urls = [house.url, f"https://{address}"] if address else [house.url]
    # On a network, others may reach a server by names that it was never told.
    return Hosts(urls, is_any=not (server.url or is_loopback(server.host)))


def _strict_seconds(house: House) -> int:
    is_near = is_loopback(house.settings.server.host)
    return _STRICT_SECONDS if house.tls.way == "given" and not is_near else 0


def _rooms(house: House) -> Iterator[APIRouter]:
    def open_project_id(tx: Transaction, actor: Actor, name: str) -> str:
        return open_project(tx, actor, name, "run.read").id

    def find_project(tx: Transaction, actor: Actor, name: str, permission: str) -> ProjectRef:
        found = open_project(tx, actor, name, permission)
        return ProjectRef(found.id, found.name)

    yield account_routes.routes(
        passwords=house.passwords,
        local_key=open_local_key(house.data / "keys"),
    )
    yield passkey_routes.routes()
    yield oidc_routes.routes()
    yield session_routes.routes()
    yield reset_routes.routes(passwords=house.passwords, url=house.url, post=house.post)
    yield invitation_routes.routes(
        passwords=house.passwords,
        policy=house.settings.people.sign_up,
        url=house.url,
        post=house.post,
    )
    yield people_routes.routes(box=house.box)
    yield audit_routes.routes(may=require, find_project=find_project, key=house.seal_key)
    yield job_routes.routes(ENDINGS.keys(), ENDINGS)
    lake_limits = LakeLimits(**asdict(house.settings.lake))
    manifests = ManifestCache(house.objects)
    yield lake_routes.routes(house.objects, lake_limits, manifests)
    yield preview_routes.routes(house.objects, manifests)
    yield upload_routes.routes(house.objects, lake_limits)
    yield environment_routes.routes(house.objects)
    yield pipeline_routes.routes(house.objects, live=house.cluster.tasks)
    yield sse.routes(house.hub, open_project_id)
    yield watch_routes.routes(house.recorder, house.cluster.tasks_on)
    yield usage_routes.routes(list_prices)
    yield engine_routes.routes(installation_of(house))
    yield trust_routes.routes(house.tls)
    yield node_routes.routes(house.cluster)


def build_pool(house: House) -> Pool:
    """Make the workers of the queue, with every room's handlers."""
    chosen = house.settings.jobs
    return Pool(
        house.database,
        _handlers(house),
        workers=chosen.workers,
        lease_seconds=chosen.lease_seconds,
        poll_seconds=chosen.poll_seconds,
        endings=ENDINGS,
        limits={BUILD_KIND: house.settings.environments.builds_at_once},
        is_alone=house.database.is_sqlite,
    )


def _handlers(house: House) -> dict[str, Handler]:
    def read_secrets(tx: Transaction, project_id: str, names: tuple[str, ...]) -> dict[str, str]:
        return secret_values(tx, project_id, names, box=house.box)

    chosen = house.settings.pipelines
    tools = PipelineTools(
        database=house.database,
        objects=house.objects,
        dispatcher=house.dispatcher,
        builder=house.builder,
        collect=collect,
        version=VERSION,
        makes_environments=house.settings.engine.kind == "local",
        pace=Pace(
            compile_seconds=chosen.compile_seconds,
            partitions=chosen.partitions,
            retries=chosen.tries,
        ),
    )
    # Without a mail server, letters of a time when there was one wait for the next.
    mail = {MAIL_KIND: make_mail(house.settings.mail, house.box)} if house.post else {}
    return {
        **mail,
        BUILD_KIND: environment_tasks.make_build(
            house.database, house.objects, house.builder, _sources(house)
        ),
        COMPILE_KIND: spec_tasks.make_compile(tools),
        MACHINE_KIND: machine_tasks.make_add(house.database, house.cluster),
        RUN_KIND: run_tasks.make_run(tools, read_secrets),
    }


def _sources(house: House) -> SandboxedSources:
    settings = house.settings
    return SandboxedSources(
        house.data / "gateways",
        builder=house.builder,
        dispatcher=house.dispatcher,
        objects=house.objects,
        uv=Path(find_uv_bin()),
        environment=index_variables(settings, os.environ),
        is_isolated=lambda: house.engine.nodes()[0].isolated,  # The host's own.
        seconds=settings.environments.build_seconds,
        caps=caps_of(settings),
    )


# Serving ---------------------------------------------------------------------------------------


def serve(settings: Settings, data: Path) -> None:
    """Run a server until it is told to stop."""
    chosen = settings.server
    with (
        FolderLock(data) as lock,
        listen(chosen.host, chosen.port) as listening,
        listen_for_nodes(settings) as (settings, door),  # noqa: PLR1704 - with the door's port.
    ):
        way = choose_way(chosen, is_near=is_loopback(chosen.host))
        near = url_of(listening, scheme_of(way))
        url = url_for_others(chosen, settings.cluster, near, first_address())
        lock.tell(url)
        with open_house(settings, data, url) as house:
            pool, keeper = build_pool(house), Housekeeper(house.database, _chores(house))

            def ready() -> None:
                pool.start()
                keeper.start()
                house.recorder.start()
                lock.announce(url, VERSION, here=near, **house.tls.announced())
                _greet(house)

            try:
                serve_app(
                    build_app(house),
                    listening,
                    ready=ready,
                    closing=house.hub.close,
                    chosen=chosen,
                    context=house.tls.context,
                    doors=_doors(house, door),
                )
            finally:
                pool.stop(chosen.stop_seconds)  # First, so that its handlers give their jobs back.
                house.dispatcher.close()
                house.recorder.stop()
                keeper.stop()


def _doors(house: House, listening: socket | None) -> list[Door]:
    if listening is None:
        return []
    return [Door(open_door(house), listening, house.tls.door_context(datetime.now(UTC)))]


def _greet(house: House) -> None:
    _say(f"Millpond is ready at {house.url}")
    if is_pinned(house.settings.server, house.tls.way):
        _say(f"Others sign in with: {login_line(house.url, house.tls.authority.fingerprint)}")
    elif house.tls.way == "open":
        _say(NOT_ENCRYPTED, is_fault=True)
    if code := house.database.change(accounts.make_setup_code):
        _say(f"Make the first administrator: {house.url}/setup?code={code}")
        _say(f"The code, good once and until the next start: {code}")


def _chores(house: House) -> list[Chore]:
    key, seconds = house.seal_key, house.settings.audit.seal_seconds
    return [
        Chore(seconds, lambda tx: audit.seal_if_due(tx, key, seconds), at_end=True),
        Chore(_MINUTE, house.uses.write, at_end=True),
        Chore(_MINUTE, watch.tidy),
        Chore(_HOUR, events.forget_old),
        Chore(_HOUR, lambda _: house.tls.refresh(datetime.now(UTC))),
        Chore(_HOUR, lambda tx: upload_parts.clear(tx, house.objects)),
        Chore(_DAY, jobs.forget_old),
        *heartbeats.chores(house.cluster),
    ]


def _say(text: str, *, is_fault: bool = False) -> None:
    stream = sys.stderr if is_fault else sys.stdout
    stream.write(text + "\n")
    stream.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the settings and serve; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m millpond.main", description="Run the server.")
    parser.add_argument("--data", type=Path, help="folder of all data")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--tls", action="store_true", help="speak TLS on loopback too")
    parser.add_argument("--insecure", action="store_true", help="speak plain HTTP on a network")
    parser.add_argument("--settings", type=Path, help="TOML file; default: DATA/settings.toml")
    given = parser.parse_args(arguments)
    try:
        settings, data = find_settings(given, os.environ)
        set_up_logs(settings.server.log_level)
        serve(settings, data)
    except MillpondError as fault:
        _say(f"{fault.message}\n{fault.next_step}", is_fault=True)
        return EXIT_CODES.get(fault.status, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
