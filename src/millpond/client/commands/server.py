"""The command that starts the server."""

import os
import signal
import types
from pathlib import Path

import click

from millpond.client.call import Call, shared
from millpond.client.local import LocalServer, default_data_folder, find_server
from millpond.client.process import answers, start_server
from millpond.client.trust import fingerprint_of
from millpond.ground.errors import ConflictError

_SAID_BY_SERVER = {5, 6, 7}
_ENDED_BY_US = {0, -signal.SIGINT, -signal.SIGTERM, 130, 143}


@click.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Folder of all its data."
)
@click.option("--host", help="Address to listen on; else the settings', 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 for a free one; else 8787.")
@click.option("--tls", is_flag=True, help="Speak TLS on 127.0.0.1 too; on a network it does.")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP on a network; every page says so.")
@click.option(
    "--settings", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings file; else DATA/settings.toml.",
)  # fmt: skip
@shared
def up(
    call: Call,
    data: Path | None,
    host: str | None,
    port: int | None,
    settings: Path | None,
    **flags: bool,
) -> int:
    """Start the server in the foreground; Ctrl-C stops it.

    On a new data folder it prints a one-time link and code that make the first administrator.
    On this machine, by the same user, every other command finds it and signs in by itself.
    On a network it speaks TLS, and prints the line by which others sign in.
    """
    folder = (data or default_data_folder(os.environ)).expanduser().resolve()
    running = find_server(folder)
    if running is not None and answers(running):
        raise ConflictError(
            f"A server runs on {folder} already, at {running.url}.",
            next_step="Use it, or stop it, or give another folder: millpond up --data DIR.",
        )
    call.change_config(data_folders=call.config().with_data_folder(folder).data_folders)
    given = [f"--{name}" for name, is_given in flags.items() if is_given]
    server = start_server(folder, host=host, port=port, settings=settings, flags=given)

    def stop(number: int, frame: types.FrameType | None) -> None:
        del number, frame
        server.process.terminate()

    signal.signal(signal.SIGTERM, stop)
    try:
        ready = server.wait_ready()
        call.say(
            f"{ready.url} is up; its data lie in {folder}. Ctrl-C stops it.",
            {
                "url": ready.url,
                "data": folder,
                "process": ready.process,
                "fingerprint": _fingerprint(ready),
            },
        )
        code = server.process.wait()
    except KeyboardInterrupt:
        code = server.stop()
    except ConflictError:
        code = server.process.poll() or 0
        if call.as_json or code not in _SAID_BY_SERVER:
            raise
        return code  # The server has said why, in its own words.
    finally:
        server.stop()
    return 0 if code in _ENDED_BY_US else 1


def _fingerprint(ready: LocalServer) -> str:
    """Give the fingerprint that others pin; empty when the server has no authority to show."""
    if ready.trust is None or ready.trust.is_exact:
        return ""
    return fingerprint_of(ready.trust.pem)
