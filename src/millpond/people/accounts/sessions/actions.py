"""What can be done with one's own sessions: look, end all."""

from millpond.audit.actions import note
from millpond.ground.actor import Actor
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.people.accounts import store
from millpond.people.accounts.rules import describe_agent
from millpond.people.actions import require
from millpond.people.values import Session
from millpond.storage.database import Transaction


def list_sessions(
    tx: Transaction, actor: Actor, *, cursor: str | None, limit: int
) -> Page[Session]:
    """Give where one is signed in, the newest first."""
    require(tx, actor, "token.read")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_sessions(tx, actor.user_id, after=after, limit=limit + 1)
    sessions = [_shown(one, actor.token_id) for one in found]
    return make_page(sessions, limit, lambda session: [session.id])


def end_all(tx: Transaction, actor: Actor) -> None:
    """End every session of one's own, this one too; API tokens stay."""
    require(tx, actor, "token.write")
    count = store.withdraw_tokens(tx, actor.user_id, kinds=("session",))
    note(tx, actor, "session.ended.all", f"user/{actor.name}", after={"sessions": count})


def _shown(found: store.FoundSession, current: str) -> Session:
    token = found.token
    return Session(
        id=token.id,
        device=describe_agent(found.device.agent),
        address=found.device.address,
        how=token.name,
        made_at=token.made_at,
        last_used_at=token.last_used_at,
        expires_at=token.expires_at,
        is_current=token.id == current,
    )
