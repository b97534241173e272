"""Names of projects by their ids, for rooms that tell administrators of several."""

from collections.abc import Iterable

from millpond.people import store
from millpond.storage.database import Transaction

_AT_ONCE = 500


def project_names(tx: Transaction, project_ids: Iterable[str]) -> dict[str, str]:
    """Give names by id; whoever asks has seen to it that the actor may know them."""
    wanted = list(dict.fromkeys(project_ids))
    names: dict[str, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        names |= store.names_of(tx, wanted[start : start + _AT_ONCE])
    return names
