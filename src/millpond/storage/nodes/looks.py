"""A look at all digests, page by page, for what has too few copies."""

from millpond.storage.database import Transaction
from millpond.storage.nodes import store
from millpond.storage.nodes.values import COPIES


class Look:
    """Goes through the digests in their order; what cannot be copied does not come again.

    What has one copy only comes first, then what only lacks one because a node is being emptied.
    """

    def __init__(self, nodes: tuple[frozenset[str], frozenset[str]], at: float) -> None:
        """Begin with the first digest.

        Args:
            nodes: those whose copies count, and of these those that are not being emptied.
            at: when, by a clock that is never set.
        """
        self.nodes, self.at = nodes, at
        self.failed = 0
        self._after = ""
        living, kept = nodes
        self._left = [living] if living == kept else [living, kept]

    @property
    def is_over(self) -> bool:
        """Whether all was seen."""
        return not self._left

    def take(self, tx: Transaction, *, limit: int) -> dict[str, int]:
        """Give digest and size of the next ones."""
        few = store.list_few(tx, self.nodes[0], self._left[0], COPIES, self._after, limit)
        self._after = few[-1] if few else ""
        if len(few) < limit:
            self._after = ""
            self._left.pop(0)
        return store.sizes_of(tx, few, ["live"])
