"""What a program of the server is given: its data folder and its settings; how it ends."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from millpond.client.local import default_data_folder
from millpond.ground.settings import Settings, load_settings

EXIT_CODES = {409: 5, 422: 6, 503: 7}  # By the fault's status; as the command line's.


def find_settings(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Settings, Path]:
    """Find the data folder and the settings; what the command line says wins."""
    folder = environ.get("MILLPOND_SERVER_DATA_FOLDER")
    data = given.data or (Path(folder) if folder else default_data_folder(environ))
    named = environ.get("MILLPOND_SETTINGS")
    path = given.settings or (Path(named) if named else None)
    default = data.expanduser() / "settings.toml"
    settings = load_settings(path or (default if default.exists() else None), environ)
    server, is_chosen = settings.server, given.data or folder or environ.get("MILLPOND_DATA")
    if not is_chosen and server.data_folder:
        data = Path(server.data_folder)
    data = data.expanduser().absolute()
    server = replace(
        server,
        data_folder=str(data),
        host=given.host or server.host,
        port=server.port if given.port is None else given.port,
        tls=server.tls or given.tls,
        insecure=server.insecure or given.insecure,
    )
    return replace(settings, server=server), data
