"""All statements about identities at other places."""

import sqlalchemy as sa

from millpond.people.oidc.tables import user_identity
from millpond.storage.database import Transaction

_own = user_identity.c


def count_identities(tx: Transaction, user_id: str) -> int:
    """Tell at how many other places a user is known."""
    query = sa.select(sa.func.count()).select_from(user_identity).where(_own.user_id == user_id)
    return int(tx.scalar(query))
