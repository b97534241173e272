"""A Merkle tree of RFC 6962's shape: root, inclusion paths and their check.

Source: RFC 6962 section 2.1 (tree), RFC 9162 section 2.1.3.2 (check of a path).
"""

import hashlib
from collections.abc import Sequence

_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Hash a leaf; its first byte keeps a leaf from passing as a node."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees."""
    return hashlib.sha256(_NODE + left + right).digest()


class MerkleTree:
    """A tree over leaves in their order, all levels kept."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        """Build every level from the leaves' data; an odd last subtree moves up unchanged."""
        level = [leaf_hash(leaf) for leaf in leaves]
        self._levels = [level]
        while len(level) > 1:
            pairs = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(pairs) * 2 :]
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """The root; of no leaves the hash of nothing."""
        top = self._levels[-1]
        return top[0] if top else hashlib.sha256(b"").digest()

    def path(self, index: int) -> list[bytes]:
        """Give the hashes that lead from a leaf to the root, lowest first."""
        path = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                path.append(level[index ^ 1])
            index >>= 1
        return path


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether a leaf's data stands at ``index`` of ``size`` leaves under this root."""
    if not 0 <= index < size:
        return False
    last, reached = size - 1, leaf_hash(leaf)
    for step in path:
        if last == 0:
            return False
        if index & 1 or index == last:
            reached = node_hash(step, reached)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            reached = node_hash(reached, step)
        index, last = index >> 1, last >> 1
    return last == 0 and reached == root
