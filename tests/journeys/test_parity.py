"""REST, SDK and command line can do the same: each route has its method and its command."""

from collections.abc import Iterator

import click
import pytest

from millpond.client.cli import cli
from millpond.client.client import Client
from millpond.ground.settings import Settings
from millpond.main import build_app, open_house

P = "/projects/{project}"
PARITY: dict[str, tuple[str, str]] = {
    "GET /authority": ("system.authority", "system authority"),
    "GET /setup": ("account.is_setup_needed", "login"),
    "POST /setup": ("account.set_up", "login"),
    "POST /sessions": ("account.sign_in", "login"),
    "POST /resets": ("account.ask_reset", "user forgot"),
    "POST /resets/use": ("account.use_reset", "user reset"),
    "POST /users/{user}/reset-link": ("users.make_reset_link", "user reset-link"),
    "DELETE /sessions/current": ("account.sign_out", "logout"),
    "GET /sign-up": ("invitations.look", "sign-up"),
    "POST /sign-up": ("invitations.sign_up", "sign-up"),
    "GET /invitations": ("invitations.list", "invitation list"),
    "POST /invitations": ("invitations.make", "invitation make"),
    "DELETE /invitations/{invitation}": ("invitations.withdraw", "invitation withdraw"),
    "POST /invitations/accept": ("invitations.accept", "invitation accept"),
    f"GET {P}/invitations": ("invitations.list_into", "invitation list"),
    f"POST {P}/invitations": ("invitations.make_into", "invitation make"),
    f"DELETE {P}/invitations/{{invitation}}": (
        "invitations.withdraw_into",
        "invitation withdraw",
    ),
    "GET /sessions": ("account.sessions", "session list"),
    "DELETE /sessions": ("account.end_sessions", "session end-all"),
    "GET /me": ("account.me", "user me"),
    "PATCH /me": ("account.set_email", "user email"),
    "PUT /me/password": ("account.set_password", "user password"),
    "GET /me/passkeys": ("passkeys.list", "passkey list"),
    "DELETE /me/passkeys/{passkey}": ("passkeys.remove", "passkey remove"),
    "GET /me/identities": ("identities.list", "identity list"),
    "DELETE /me/identities/{identity}": ("identities.unlink", "identity unlink"),
    "GET /tokens": ("tokens.list", "token list"),
    "POST /tokens": ("tokens.make", "token make"),
    "DELETE /tokens/{token}": ("tokens.revoke", "token revoke"),
    "GET /users": ("users.list", "user list"),
    "POST /users": ("users.make", "user add"),
    "GET /users/{user}": ("users.get", "user show"),
    "PATCH /users/{user}": ("users.disable", "user disable"),
    "PUT /users/{user}/password": ("users.set_password", "user password"),
    "GET /projects": ("projects.list", "project list"),
    "POST /projects": ("projects.make", "project make"),
    f"GET {P}": ("projects.get", "project show"),
    f"PATCH {P}": ("projects.change", "project change"),
    f"GET {P}/members": ("members.list", "member list"),
    f"PUT {P}/members/{{user}}": ("members.add", "member add"),
    f"DELETE {P}/members/me": ("members.leave", "member leave"),
    f"DELETE {P}/members/{{user}}": ("members.remove", "member remove"),
    f"GET {P}/secrets": ("secrets.list", "secret list"),
    f"PUT {P}/secrets/{{name}}": ("secrets.set", "secret set"),
    f"DELETE {P}/secrets/{{name}}": ("secrets.remove", "secret remove"),
    f"GET {P}/log": ("log.list", "log show"),
    f"GET {P}/log/entries/{{number}}": ("log.entry", "log entry"),
    f"GET {P}/log/entries/{{number}}/proof": ("log.proof", "log proof"),
    "GET /log/entries/{number}": ("log.entry", "log entry"),
    "GET /log/entries/{number}/proof": ("log.proof", "log proof"),
    f"GET {P}/log/export": ("log.export", "log export"),
    f"GET {P}/log/verify": ("log.verify", "log verify"),
    "GET /log": ("log.list", "log show"),
    "GET /log/export": ("log.export", "log export"),
    "GET /log/verify": ("log.verify", "log verify"),
    "GET /log/key": ("log.key", "log key"),
    "POST /log/key": ("log.rotate_key", "log rotate-key"),
    "GET /log/checkpoint": ("log.checkpoint", "log checkpoint"),
    "GET /jobs": ("jobs.list", "job list"),
    "GET /jobs/{job_id}": ("jobs.get", "job show"),
    "POST /jobs/{job_id}/requeue": ("jobs.requeue", "job requeue"),
    "POST /jobs/{job_id}/cancel": ("jobs.cancel", "job cancel"),
    "GET /schedules": ("jobs.schedules", "job schedule list"),
    "GET /schedules/{name}": ("jobs.schedule", "job schedule show"),
    "PUT /schedules/{name}": ("jobs.set_schedule", "job schedule set"),
    "DELETE /schedules/{name}": ("jobs.remove_schedule", "job schedule remove"),
    f"POST {P}/objects/missing": ("datasets.push", "dataset push"),
    f"POST {P}/objects": ("datasets.push", "dataset push"),
    f"PUT {P}/objects/{{digest}}": ("datasets.push", "dataset push"),
    f"GET {P}/datasets": ("datasets.list", "dataset list"),
    f"GET {P}/datasets/{{name}}": ("datasets.get", "dataset show"),
    f"DELETE {P}/datasets/{{name}}": ("datasets.delete", "dataset delete"),
    f"GET {P}/datasets/{{name}}/versions": ("datasets.versions", "dataset show"),
    f"POST {P}/datasets/{{name}}/versions": ("datasets.push", "dataset push"),
    f"GET {P}/datasets/{{name}}/versions/{{number}}": ("datasets.version", "dataset show"),
    f"GET {P}/datasets/{{name}}/versions/{{number}}/files": ("datasets.files", "dataset files"),
    f"GET {P}/datasets/{{name}}/versions/{{number}}/content": (
        "datasets.download",
        "dataset download",
    ),
    f"GET {P}/datasets/{{name}}/versions/{{number}}/archive": (
        "datasets.download_zip",
        "dataset download",
    ),
    f"GET {P}/datasets/{{name}}/versions/{{number}}/tree": ("datasets.tree", "dataset files"),
    f"GET {P}/datasets/{{name}}/versions/{{number}}/content/preview": (
        "datasets.preview",
        "dataset show",
    ),
    f"GET {P}/uploads": ("uploads.list", "upload list"),
    f"GET {P}/uploads/{{upload}}": ("uploads.get", "upload show"),
    f"DELETE {P}/uploads/{{upload}}": ("uploads.remove", "upload remove"),
    f"GET {P}/environments": ("environments.list", "env list"),
    f"POST {P}/environments": ("environments.make", "env make"),
    f"GET {P}/environments/{{name}}": ("environments.get", "env show"),
    f"GET {P}/environments/{{name}}/versions": ("environments.versions", "env show"),
    f"GET {P}/environments/{{name}}/versions/{{number}}": ("environments.version", "env show"),
    f"GET {P}/environments/{{name}}/versions/{{number}}/log": ("environments.log", "env log"),
    f"GET {P}/environments/{{name}}/versions/{{number}}/lock": ("environments.lock", "env lock"),
    f"GET {P}/pipelines": ("pipelines.list", "pipeline list"),
    f"POST {P}/pipelines": ("pipelines.push", "pipeline push"),
    f"GET {P}/pipelines/{{name}}": ("pipelines.get", "pipeline show"),
    f"GET {P}/pipelines/{{name}}/versions": ("pipelines.versions", "pipeline show"),
    f"GET {P}/pipelines/{{name}}/versions/{{number}}": ("pipelines.version", "pipeline show"),
    f"GET {P}/pipelines/{{name}}/versions/{{number}}/log": ("pipelines.log", "pipeline log"),
    f"GET {P}/pipelines/{{name}}/versions/{{number}}/archive": (
        "pipelines.download_code",
        "pipeline code",
    ),
    f"GET {P}/pipelines/{{name}}/presets": ("presets.list", "preset list"),
    f"GET {P}/pipelines/{{name}}/presets/{{preset}}": ("presets.get", "preset show"),
    f"PUT {P}/pipelines/{{name}}/presets/{{preset}}": ("presets.set", "preset set"),
    f"DELETE {P}/pipelines/{{name}}/presets/{{preset}}": ("presets.remove", "preset remove"),
    f"GET {P}/runs": ("runs.list", "run list"),
    f"POST {P}/runs": ("runs.start", "run start"),
    f"GET {P}/runs/{{run}}": ("runs.get", "run show"),
    f"POST {P}/runs/{{run}}/again": ("runs.again", "run again"),
    f"POST {P}/runs/{{run}}/cancel": ("runs.cancel", "run cancel"),
    f"GET {P}/runs/{{run}}/steps": ("runs.steps", "run show"),
    f"GET {P}/runs/{{run}}/tasks": ("runs.tasks", "run tasks"),
    f"GET {P}/runs/{{run}}/log": ("runs.log", "run logs"),
    f"GET {P}/runs/{{run}}/log/search": ("runs.search_log", "run logs"),
    f"GET {P}/runs/{{run}}/log/text": ("runs.download_log", "run logs"),
    f"GET {P}/runs/{{run}}/outputs": ("runs.outputs", "run outputs"),
    f"GET {P}/runs/{{run}}/outputs/content": ("runs.download", "run outputs"),
    f"GET {P}/runs/{{run}}/outputs/content/preview": ("runs.preview", "run outputs"),
    f"GET {P}/runs/{{run}}/outputs/archive": ("runs.download_zip", "run outputs"),
    f"GET {P}/events": ("runs.wait", "run show"),
    "GET /monitor": ("monitor.get", "monitor"),
    "GET /monitor/{node}": ("monitor.node", "monitor"),
    "GET /usage": ("usage.site", "usage"),
    f"GET {P}/usage": ("usage.get", "usage"),
    f"GET {P}/runs/{{run}}/usage": ("usage.run", "usage"),
    "GET /nodes": ("nodes.list", "node list"),
    "POST /nodes": ("nodes.add", "node add"),
    "GET /nodes/sources": ("nodes.sources", "node sources"),
    "POST /nodes/tokens": ("nodes.make_token", "node token"),
    "POST /nodes/join": ("nodes.join", "node join"),
    "GET /nodes/work/{job_id}": ("nodes.work", "node work"),
    "GET /nodes/{node}": ("nodes.get", "node show"),
    "PATCH /nodes/{node}": ("nodes.set", "node set"),
    "DELETE /nodes/{node}": ("nodes.remove", "node remove"),
    "GET /nodes/{node}/findings": ("nodes.findings", "node doctor"),
    "POST /nodes/{node}/drain": ("nodes.drain", "node drain"),
    "POST /nodes/{node}/resume": ("nodes.resume", "node resume"),
    "POST /nodes/{node}/upgrade": ("nodes.upgrade", "node upgrade"),
    "POST /nodes/{node}/certificates/revoke": ("nodes.revoke", "node revoke"),
    "GET /system": ("system.facts", "doctor"),
    "GET /system/settings": ("system.settings", "system settings"),
    "GET /system/health": ("system.findings", "system health"),
    "GET /healthz": ("system.health", "doctor"),
}
REASONS = {
    "POST /sessions/challenge": "part of the sign-in of this machine, which every command does",
    "POST /sessions/local": "part of the sign-in of this machine, which every command does",
    "GET /metrics": "made for Prometheus, in its own format",
    "GET /objects/{key}": "signed addresses, which the server itself gives out",
    "HEAD /objects/{key}": "signed addresses, which the server itself gives out",
    "PUT /objects/{key}": "signed addresses, which the server itself gives out",
    "GET /openapi.json": "describes the others",
    f"GET {P}/runs/{{run}}/outputs/content/image": "`content` of an image, as pages show it",
    f"GET {P}/datasets/{{name}}/versions/{{number}}/content/image": "`content` of an image, as pages"
    " show it",
    f"OPTIONS {P}/uploads": "part of tus, by which browsers and `dataset push` send large files",
    f"POST {P}/uploads": "part of tus, by which browsers and `dataset push` send large files",
    f"HEAD {P}/uploads/{{upload}}": "part of tus; GET tells the same",
    f"PATCH {P}/uploads/{{upload}}": "part of tus; `dataset push` sends large files so",
}
LOCAL = {
    "up": "starts the server",
    "demo": "is made of the other verbs",
    "completion": "prints a script for the shell",
    "store move": "is done on the server's machine, to its end with the server stopped",
    "store remove-old": "is done on the server's machine",
    "project use": "keeps a name on this machine",
    "project rename": "is a change of a project",
    "project archive": "is a change of a project",
    "project revive": "is a change of a project",
    "session end": "withdraws a token, which a session is",
    "user enable": "is a change of a user",
    "user admin": "is a change of a user",
}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    data = tmp_path_factory.mktemp("house")
    with open_house(Settings(), data, "http://127.0.0.1:1") as house:
        described = build_app(house).openapi()["paths"]
    return {
        f"{method.upper()} {path.removeprefix('/api/v1').replace('{key:path}', '{key}')}"
        for path, methods in described.items()
        for method in methods
    }


def test_every_route_has_a_method_and_a_command_or_a_reason(routes: set[str]) -> None:
    gaps = sorted(routes - PARITY.keys() - REASONS.keys())
    assert not gaps, "give each a method, a command and a line here"


def test_nothing_here_speaks_of_a_route_that_is_gone(routes: set[str]) -> None:
    hidden = {"GET /openapi.json", "GET /objects/{key}", "PUT /objects/{key}", "GET /metrics"}
    assert not sorted(PARITY.keys() - routes)
    assert not sorted(REASONS.keys() - routes - hidden)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = str(tmp_path_factory.mktemp("home"))
    with Client("http://127.0.0.1:1", "t", environ={"HOME": home}) as opened:
        yield opened


@pytest.mark.parametrize("method", sorted({method for method, _ in PARITY.values()}))
def test_the_method_is_there(client: Client, method: str) -> None:
    room, _, name = method.partition(".")
    found = getattr(getattr(client, room), name)
    assert callable(found)
    assert found.__doc__


def test_every_public_method_of_the_sdk_is_here_or_made_of_others(client: Client) -> None:
    made_of_others = {
        "datasets.push_files", "environments.wait", "pipelines.wait", "runs.start_program",
        "nodes.wait",
        "runs.tail_log", "runs.follow_log",
        "users.enable", "users.set_admin",
    }  # fmt: skip
    rooms = {
        f"{room}.{name}"
        for room, found in vars(client).items()
        if room != "transport"
        for name in dir(found)
        if name[0] != "_"
    }
    assert rooms - made_of_others == {method for method, _ in PARITY.values()}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from leaves(found, (*path, name))


def test_every_command_has_its_routes_or_a_reason() -> None:
    named = {words for _, words in PARITY.values()}
    commands = set(leaves(cli))
    assert not named - commands
    assert commands - named == LOCAL.keys()


def test_what_lists_is_called_list_everywhere() -> None:
    assert not [words for words in leaves(cli) if words.split()[-1] == "ls"]
