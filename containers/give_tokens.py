"""Give each node that has not joined yet its token to join, once, by files in a folder.

``python give_tokens.py FOLDER NODE...`` beside the server, with its data folder. A token is good
once and for an hour; the node that has used its own deletes the file.

Signing in by the key file makes the first administrator, who is told here how to get a password.
"""

# ruff: noqa: INP001 - programs of the image, not a package.

import os
import sys
from pathlib import Path

from millpond.client.client import Client
from millpond.client.local import find_server
from millpond.client.people import AccountRoom
from millpond.client.transport import Transport


def is_without_people(data: Path) -> bool:
    """Say whether nobody has an account yet, without signing in, which makes one."""
    server = find_server(data)
    if server is None:
        sys.exit("The server of this data folder does not run.")
    transport = Transport(server.here, trust=server.trust)
    try:
        return AccountRoom(transport).is_setup_needed()
    finally:
        transport.close()


def main(folder: Path, names: list[str], data: Path) -> None:
    """Write a token for each of these nodes that is not there."""
    is_new = is_without_people(data)
    with Client(data_folder=data) as client:
        if is_new:
            me = client.account.me().user.name
            link = client.users.make_reset_link(me).link
            sys.stdout.write(
                f"The first administrator is {me}. Choose the password, once: {link}\n"
            )
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
