"""Give each node that has not joined yet its token to join, once, by files in a folder.

``python give_tokens.py FOLDER NODE...`` beside the server, with its data folder. A token is good
once and for an hour; the node that has used its own deletes the file.
"""

# ruff: noqa: INP001 - programs of the image, not a package.

import os
import sys
from pathlib import Path

from millpond.client.client import Client


def main(folder: Path, names: list[str], data: Path) -> None:
    """Write a token for each of these nodes that is not there."""
    with Client(data_folder=data) as client:
        if client.account.is_setup_needed():
            sys.stdout.write("The installation has no administrator yet; see the server's log.\n")
        known = {node.name for node in client.nodes.list()}
        for name in names:
            if name in known:
                continue
            made = client.nodes.make_token(name=name)
            path = folder / name
            path.touch(mode=0o600)
            path.write_text(made.token + "\n")
            sys.stdout.write(f"{name} may join.\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], Path(os.environ["MILLPOND_DATA"]))
