"""Signing in through a provider, in moves: nobody waits for it inside a transaction."""

import hmac
import secrets
from collections.abc import Mapping

from millpond.ground.actor import Actor
from millpond.ground.errors import NotAllowedError, NotFoundError, TooManyError
from millpond.people.accounts.actions import digest_of_token
from millpond.people.accounts.tasks import Change
from millpond.people.oidc import actions, rules, store
from millpond.people.oidc.provider import Provider
from millpond.people.oidc.values import Back, Identity
from millpond.people.values import Device, NewToken
from millpond.storage.database import Transaction


def find_provider(providers: Mapping[str, Provider], name: str) -> Provider:
    """Give the provider of this name."""
    if name not in providers:
        raise NotFoundError(
            f"Nobody signs in here through {name!r}.",
            next_step="Choose one of the ways that the page of signing in shows.",
        )
    return providers[name]


def begin(
    change: Change,
    provider: Provider,
    browser: str,
    address: str,
    *,
    link_to: Actor | None = None,
    then: str = "/",
) -> str:
    """Give the address at the provider to which somebody is sent.

    Args:
        change: runs an action in one transaction.
        provider: where to.
        browser: the secret of the browser; nobody comes back in another one.
        address: where it asks from.
        link_to: who wants to link their account there; None for signing in.
        then: the page to go to afterwards.
    """
    ask = rules.ask_of(browser, secrets.token_urlsafe(32))
    user_id = None if link_to is None else link_to.user_id
    away = store.Away(digest_of_token(browser), provider.name, user_id, then[:2000])

    def keep(tx: Transaction) -> None:
        if link_to is not None:
            actions.refuse_link(tx, link_to)
        ends = tx.now + rules.VISIT_LIFE
        opened = store.add_visit(tx, digest_of_token(ask.state), away, address, ends)
        if opened > rules.VISITS_PER_ADDRESS:
            raise TooManyError(
                "Too many people sign in from this address at once.",
                next_step="Try again in some minutes.",
                retry_after_seconds=rules.VISIT_LIFE.total_seconds(),
            )

    page = provider.address(ask)
    change(keep)
    return page


def finish(
    change: Change,
    provider: Provider,
    browser: str,
    back: Back,
    device: Device,
    *,
    actor: Actor | None,
) -> tuple[NewToken | Identity, str]:
    """Give a session, or the account that was linked, and the page to go to.

    Raises:
        NotAllowedError: they come back twice, late, or in another browser; or the provider's word
            does not hold; or nobody here is linked.
        BusyError: the provider cannot be reached.
    """
    # In a transaction of its own: a visit ends even when all else goes wrong.
    away = change(lambda tx: store.end_visit(tx, digest_of_token(back.state)))
    now = change(lambda tx: tx.now)
    if away is None or not _is_same(away, provider, browser):
        raise _strayed()
    claims = provider.redeem(back, rules.ask_of(browser, back.state), now)
    if away.user_id is None:
        return change(lambda tx: actions.sign_in(tx, provider, claims, device)), away.next
    if actor is None or actor.user_id != away.user_id:
        raise _strayed()
    return change(lambda tx: actions.link(tx, actor, provider, claims)), away.next


def _is_same(away: store.Away, provider: Provider, browser: str) -> bool:
    is_own = hmac.compare_digest(away.browser, digest_of_token(browser))
    return is_own and away.provider == provider.name


def _strayed() -> NotAllowedError:
    return NotAllowedError(
        "This sign-in was not begun in this browser, was ended already, or took over ten minutes.",
        next_step="Begin again at the page of signing in.",
    )
