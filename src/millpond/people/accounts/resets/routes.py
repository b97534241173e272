"""Routes of forgotten passwords."""

from fastapi import APIRouter

from millpond.people.accounts.devices import device_of
from millpond.people.accounts.resets import actions, tasks
from millpond.people.accounts.resets.requests import ForgottenRequest, ResetRequest
from millpond.people.accounts.resets.values import ResetLink
from millpond.people.letters import Post
from millpond.people.passwords import Passwords
from millpond.people.values import NewToken
from millpond.web.frame import AnyoneIn, CallIn, needs, open_route


def routes(*, passwords: Passwords, url: str, post: Post | None) -> APIRouter:
    """Give the routes.

    Args:
        passwords: hashes passwords.
        url: the server's address, which links begin with.
        post: takes letters; None where no mail server is set.
    """
    router = APIRouter()

    @router.post("/resets", status_code=202, tags=["sessions"], **open_route())
    def ask_reset(call: AnyoneIn, body: ForgottenRequest) -> None:
        """Ask for a link to one's address for mail; the answer is the same for everybody."""
        tasks.ask(call.change, body.name, url=url, post=post, device=device_of(call.request))

    @router.post("/resets/use", status_code=201, tags=["sessions"], **open_route())
    def reset_password(call: AnyoneIn, body: ResetRequest) -> NewToken:
        """Set a new password with the code of a link, and sign in; works once."""
        password = body.password.get_secret_value()
        return tasks.reset(call.change, passwords, body.code, password, device_of(call.request))

    @router.post("/users/{user}/reset-link", status_code=201, tags=["users"], **needs("user.write"))
    def make_reset_link(call: CallIn, user: str) -> ResetLink:
        """Make a link that sets somebody's password; it is shown this once."""
        return call.make(lambda tx: actions.make_link(tx, call.actor, user, url=url), keep=False)

    return router
