"""What nodes cost, for those who sum up what was used."""

from collections.abc import Mapping

from millpond.machines import rules, store
from millpond.machines.actions import read_facts
from millpond.storage.database import Transaction

_AT_ONCE = 1000


def list_slot_prices(tx: Transaction) -> Mapping[str, float]:
    """Give by node what one slot of it costs in an hour; nodes without a price are left out."""
    prices: dict[str, float] = {}
    rows = store.list_by_name(tx, after="", limit=_AT_ONCE, with_removed=True)
    while rows:
        for row in rows:
            slots = rules.capped_slots(read_facts(row).slots, row.slots_most)
            if row.price_per_hour > 0 and slots > 0:
                prices[row.name] = row.price_per_hour / slots
        rows = store.list_by_name(tx, after=rows[-1].name, limit=_AT_ONCE, with_removed=True)
    return prices
