"""A server that puts one object on the nodes and dies right before, or right after, its commit.

``python nodes_puts.py BEFORE|AFTER DATABASE-URL FOLDER KEY TEXT``; FOLDER is what a ``DataNodes``
keeps, KEYS of the authority beside it.
"""

import os
import signal
import sys
from pathlib import Path

from millpond.ground.tls import Identity
from millpond.storage.database import Database
from millpond.storage.folder import FolderStore
from millpond.storage.nodes.cache import HostCache
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.receipts import ReceiptChecker
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.tokens import open_signer


class DyingDatabase(Database):
    """Dies around the transaction that names an object."""

    when = ""

    def change(self, action, request_id=""):
        is_commit = "_settle" in action.__qualname__
        if is_commit and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = super().change(action, request_id)
        if is_commit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def main() -> None:
    when, url, folder, authority, key, text = sys.argv[1:]
    place = Path(folder)
    host = Identity(place / "host/host.crt", place / "host/host.key", Path(authority))
    database = DyingDatabase(url)
    database.when = when
    own = place / f"server-{os.getpid()}"
    store = NodeStore(
        database,
        Ledger(open_signer(place / "keys"), ReceiptChecker(host.authority)),
        NodeClient(host),
        FolderStore(own / "objects", "http://m", b"k" * 32),
        HostCache(own / "cache", 0),
    )
    store.put(key, text.encode())


if __name__ == "__main__":
    main()
