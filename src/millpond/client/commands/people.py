"""Commands for signing in, for accounts and for tokens."""

import sys

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.client import Client
from millpond.client.commands.trusting import fingerprint_option, meet
from millpond.client.people import AccountRoom
from millpond.client.screen import Column
from millpond.client.transport import Transport
from millpond.ground.errors import InvalidError, NotSignedInError
from millpond.people.values import User


@click.command()
@click.argument("address", metavar="[URL]", required=False)
@click.option("--user", "name", help="Who to sign in as; asked for when left out.")
@click.option("--with-token", is_flag=True, help="Give an API token instead of a password.")
@click.option("--setup", is_flag=True, help="Make the first administrator, with the one-time code.")
@fingerprint_option
@shared
def login(
    call: Call,
    address: str | None,
    name: str | None,
    with_token: bool,
    setup: bool,
    fingerprint: str | None,
) -> None:
    """Sign in to the server at URL and keep a token for it, readable by you alone.

    The password, the token and the code come from a prompt or, one a line, from standard input.
    Without URL it is the server on this machine, which needs no password from who runs it.

    A server with an authority of its own shows its fingerprint: compare it with what you were
    told, or give that as --fingerprint. From then on only a server of that authority is spoken to.
    """
    url = address or call.url
    if url is None and not (name or with_token or setup):
        with Client() as client:
            me = client.account.me()
            call.say(f"{client.url}: signed in as {me.user.name}.", me)
        return
    if url is None:
        with Client() as client:
            url = client.url
    transport = meet(call, url, fingerprint)
    try:
        text = _read_token(call, transport, name, with_token=with_token, setup=setup)
    finally:
        transport.close()
    with Client(url, text) as client:
        me = client.account.me()
    call.change_config(url=url.rstrip("/"), token=text)
    call.say(f"{url}: signed in as {me.user.name}.", me)


def _read_token(
    call: Call, transport: Transport, name: str | None, *, with_token: bool, setup: bool
) -> str:
    if with_token:
        return call.read_secret("Token").strip()
    code = read_line("One-time code", hidden=False) if setup else ""
    chosen = name or read_line("Name", hidden=False)
    account = AccountRoom(transport)
    password = call.read_secret("Password", twice=setup)
    if setup:
        return account.set_up(code, chosen, password).text
    return account.sign_in(chosen, password).text


def read_line(what: str, *, hidden: bool) -> str:
    """Read one line from a prompt, or from standard input when that is no terminal.

    Raises:
        InvalidError: nothing came.
    """
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=hidden, err=True))
    text = sys.stdin.readline().strip()
    if not text:
        raise InvalidError(
            f"No {what.lower()} came on standard input.", next_step="Type it, or pipe it in."
        )
    return text


@click.command()
@shared
def logout(call: Call) -> None:
    """Withdraw the token that `login` kept, and forget the server."""
    kept = call.config()
    if not kept.token:
        call.say("Nobody is signed in.", {"signed_out": False})
        return
    try:
        with Client(kept.url, kept.token) as client:
            client.account.sign_out()
    except NotSignedInError:
        pass  # It was withdrawn or had expired already.
    call.change_config(url="", token="")
    call.say(f"Signed out of {kept.url}.", {"signed_out": True})


@click.group()
def user() -> None:
    """Manage accounts (administrators), and your own."""


_COLUMNS: list[Column] = [
    ("NAME", lambda one: one.name),
    ("ADMIN", lambda one: one.is_admin),
    ("STATE", lambda one: "disabled" if one.is_disabled else "active"),
    ("EMAIL", lambda one: one.email),
    ("MADE", lambda one: one.made_at),
]


def _facts(one: User) -> list[tuple[str, object]]:
    return [
        ("name", one.name),
        ("administrator", one.is_admin),
        ("state", "disabled" if one.is_disabled else "active"),
        ("email", one.email),
        ("made", one.made_at),
        ("id", one.id),
    ]


@user.command("me")
@shared
def show_me(call: Call) -> None:
    """Show who you are, and what your token allows."""
    with call.client() as client:
        me = client.account.me()
    scopes = "everything that you may do" if me.scopes is None else me.scopes
    call.show(me, [*_facts(me.user), ("token", me.token_id), ("token allows", scopes)])


@user.command("add")
@click.argument("name")
@click.option("--email", help="Mail address.")
@click.option("--admin", is_flag=True, help="Make them a site administrator.")
@click.option("--no-password", is_flag=True, help="Set one later; until then they can't sign in.")
@shared
def add_user(call: Call, name: str, email: str | None, admin: bool, no_password: bool) -> None:
    """Make an account NAME; the password comes from a prompt or from standard input."""
    password = None if no_password else call.read_secret(f"Password of {name}", twice=True)
    with call.client() as client:
        made = client.users.make(name, password, email=email, is_admin=admin)
    call.say(f"Made the account {made.name!r}.", made)


@user.command("list")
@click.option("--text", help="Only those whose name or mail address holds it.")
@shared
def list_users(call: Call, text: str | None) -> None:
    """List the accounts."""
    with call.client() as client:
        found = client.users.list(text=text)
    call.show_list(found, _COLUMNS, "There are no accounts.")


@user.command("show")
@click.argument("name")
@shared
def show_user(call: Call, name: str) -> None:
    """Show the account NAME."""
    with call.client() as client:
        found = client.users.get(name)
    call.show(found, _facts(found))


@user.command("disable")
@click.argument("name")
@yes_option
@shared
def disable_user(call: Call, name: str, yes: bool) -> None:
    """Refuse NAME's sign-in and tokens from now on; what they made stays."""
    call.confirm(f"Disable {name!r}, with all tokens?", yes=yes)
    with call.client() as client:
        found = client.users.disable(name)
    call.say(f"{found.name} can't sign in any more.", found)


@user.command("enable")
@click.argument("name")
@shared
def enable_user(call: Call, name: str) -> None:
    """Let NAME sign in again."""
    with call.client() as client:
        found = client.users.enable(name)
    call.say(f"{found.name} can sign in again.", found)


@user.command("admin")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Make them an ordinary user instead.")
@yes_option
@shared
def set_admin(call: Call, name: str, remove: bool, yes: bool) -> None:
    """Make NAME a site administrator."""
    if not remove:
        call.confirm(f"Let {name!r} administer the whole site?", yes=yes)
    with call.client() as client:
        found = client.users.set_admin(name, is_admin=not remove)
    call.say(f"{found.name} is {'an administrator' if found.is_admin else 'a user'} now.", found)


@user.command("password")
@click.argument("name", required=False)
@shared
def set_password(call: Call, name: str | None) -> None:
    """Change your password, or, as an administrator, that of NAME.

    From standard input: for your own the old one on the first line (empty when none was set), then
    the new one.
    """
    if name is not None:
        password = call.read_secret(f"New password of {name}", twice=True)
        with call.client() as client:
            client.users.set_password(name, password)
        call.say(f"Changed the password of {name}, who is signed out everywhere.", {"user": name})
        return
    if sys.stdin.isatty():
        old = str(
            click.prompt("Old password", hide_input=True, default="", show_default=False, err=True)
        )
    else:
        old = sys.stdin.readline().removesuffix("\n")
    password = call.read_secret("New password", twice=True)
    with call.client() as client:
        client.account.set_password(password, old or None)
    call.say("Changed your password.", {"changed": True})


@user.command("reset-link")
@click.argument("name")
@yes_option
@shared
def make_reset_link(call: Call, name: str, yes: bool) -> None:
    """Make a link by which NAME sets a new password; it is shown once, on standard output."""
    call.confirm(f"Whoever has the link can take over the account {name!r}. Make it?", yes=yes)
    with call.client() as client:
        made = client.users.make_reset_link(name)
    call.tell(f"For {name}, good once and until {made.expires_at:%Y-%m-%d %H:%M} UTC:")
    call.say(made.link, made)


@user.command("forgot")
@click.argument("name")
@fingerprint_option
@shared
def ask_reset(call: Call, name: str, fingerprint: str | None) -> None:
    """Let a link that sets a new password be sent to the mail address of NAME."""
    transport = meet(call, _address(call), fingerprint)
    try:
        AccountRoom(transport).ask_reset(name)
    finally:
        transport.close()
    call.say("If that account has a mail address, a link is on its way to it.", {"asked": name})


@user.command("reset")
@fingerprint_option
@shared
def use_reset(call: Call, fingerprint: str | None) -> None:
    """Set a new password with the code of a link, and sign in.

    The code (what stands behind `code=`) and the password come from a prompt or, one a line, from
    standard input.
    """
    url = _address(call)
    transport = meet(call, url, fingerprint)
    try:
        code = read_line("Code", hidden=False)
        password = call.read_secret("New password", twice=True)
        text = AccountRoom(transport).use_reset(code, password).text
    finally:
        transport.close()
    with Client(url, text) as client:
        me = client.account.me()
    call.change_config(url=url.rstrip("/"), token=text)
    call.say(f"{url}: your password is set, and you are signed in as {me.user.name}.", me)


def _address(call: Call) -> str:
    if address := call.url or call.config().url:
        return address
    with Client() as client:
        return client.url


@user.command("email")
@click.argument("address", required=False)
@shared
def set_email(call: Call, address: str | None) -> None:
    """Set your mail address to ADDRESS; without it, forget it."""
    with call.client() as client:
        found = client.account.set_email(address)
    call.say(f"Your mail address is {found.email or 'forgotten'}.", found)


@click.group()
def token() -> None:
    """Make, list and revoke your API tokens."""


@token.command("make")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, metavar="PERMISSION",
    help="Limit it, for example to run.read or dataset.*; may be repeated.",
)  # fmt: skip
@click.option("--days", type=click.IntRange(1, 3650), help="For how long; else the site's default.")
@shared
def make_token(call: Call, name: str, scopes: tuple[str, ...], days: int | None) -> None:
    """Make a token called NAME; it is shown this once, on standard output."""
    with call.client() as client:
        made = client.tokens.make(name, scopes=scopes or None, days=days)
    call.tell(f"{made.token.id}, good until {made.token.expires_at:%Y-%m-%d}; it is shown once:")
    call.say(made.text, made)


@token.command("list")
@shared
def list_tokens(call: Call) -> None:
    """List your tokens and sessions."""
    with call.client() as client:
        found = client.tokens.list()
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("KIND", lambda one: one.kind),
        ("NAME", lambda one: one.name),
        ("ALLOWS", lambda one: "everything" if one.scopes is None else one.scopes),
        ("EXPIRES", lambda one: one.expires_at),
        ("LAST USED", lambda one: one.last_used_at),
    ]
    call.show_list(found, columns, "You have no tokens.")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@yes_option
@shared
def revoke_token(call: Call, token_id: str, yes: bool) -> None:
    """Withdraw the token ID; it is refused from now on."""
    call.confirm(f"Withdraw {token_id}?", yes=yes)
    with call.client() as client:
        client.tokens.revoke(token_id)
    call.say(f"{token_id} is refused from now on.", {"revoked": token_id})
