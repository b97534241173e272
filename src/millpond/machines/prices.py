"""What nodes cost, for those who sum up what was used."""

from collections.abc import Mapping

from millpond.machines import rules, store
from millpond.machines.actions import read_facts
from millpond.machines.values import NodePrice
from millpond.storage.database import Transaction

_AT_ONCE = 1000


def list_prices(tx: Transaction) -> Mapping[str, NodePrice]:
    """Give by node what it costs in an hour, and by what that is shared.

    Nodes without a price are left out.
    """
    prices: dict[str, NodePrice] = {}
    rows = store.list_by_name(tx, after="", limit=_AT_ONCE, with_removed=True)
    while rows:
        for row in rows:
            facts = read_facts(row)
            slots = rules.capped_slots(facts.slots, row.slots_most)
            if row.price_per_hour > 0 and slots > 0:
                prices[row.name] = NodePrice(row.price_per_hour, slots, facts.gpus)
        rows = store.list_by_name(tx, after=rows[-1].name, limit=_AT_ONCE, with_removed=True)
    return prices
