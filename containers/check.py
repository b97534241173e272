"""Say by the exit code whether the service of this container is well: server, scheduler or node.

``python check.py server|scheduler|node [FOLDER [PORT]]``; used by the health checks.
"""

# ruff: noqa: INP001 - programs of the image, not a package.

import json
import socket
import ssl
import sys
import urllib.request
from pathlib import Path

SECONDS = 5


def check_server(data: Path) -> str:
    """Ask the server of this container how it is, at the address that it wrote down."""
    told = json.loads((data / "server.json").read_text())
    here = told.get("here") or told["url"]
    context = None
    if here.startswith("https:"):
        # It is ourselves, over the loopback; who listens there is not in question.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"{here}/healthz"
    with urllib.request.urlopen(url, timeout=SECONDS, context=context) as answer:  # noqa: S310 - http.
        found = json.load(answer)
    return "" if found["status"] == "ok" else json.dumps(found)


def check_scheduler(_: Path, port: int = 8786) -> str:
    """See whether the scheduler takes connections; what it is asked it answers by TLS only."""
    with socket.create_connection(("127.0.0.1", port), SECONDS):
        return ""


def check_node(folder: Path) -> str:
    """See whether the node's worker takes connections; before it has joined it is not well."""
    if not (folder / "node.json").is_file():
        return "it has not joined yet"
    told = json.loads((folder / "node.json").read_text())
    with socket.create_connection((told["address"], told["worker_port"]), SECONDS):
        return ""


CHECKS = {"server": check_server, "scheduler": check_scheduler, "node": check_node}
FOLDERS = {"server": "/data", "scheduler": "/data", "node": "/node"}


def main(what: str, folder: str = "", *more: str) -> int:
    """Check one; write why it is not well."""
    try:
        wrong = CHECKS[what](Path(folder or FOLDERS[what]), *map(int, more))
    except (OSError, ValueError, KeyError) as fault:
        wrong = f"{type(fault).__name__}: {fault}"
    if wrong:
        sys.stderr.write(wrong + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
