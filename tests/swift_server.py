"""OpenStack Swift on this machine, for tests: an S3 server that checks what was signed."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import obstore
from obstore.store import S3Store

from millpond.ground.settings import ObjectsSettings

KEYS = {"access_key_id": "mill:app", "secret_access_key": "the-secret-of-the-app"}
PAGE = 100
"""Names in one answer to a list."""

_RINGS = """
import sys
from swift.common.ring import RingBuilder

folder, *ports = sys.argv[1:]
for server, port in zip(("account", "container", "object"), ports, strict=True):
    builder = RingBuilder(0, 1, 0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "device": "disk", "weight": 1.0}
    builder.add_dev({**place, "port": int(port)})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{server}.ring.gz")
"""
_RUN = """
import sys, time
clock, module, off = time.time, sys.argv.pop(1), float(sys.argv.pop(1))
if off:
    time.time = lambda: clock() + off
from importlib import import_module
sys.exit(import_module(module).main())
"""
_MODULES = {
    "account": "swift.account.server",
    "container": "swift.container.server",
    "object": "swift.obj.server",
}
_FILTERS = (
    "catch_errors",
    "gatekeeper",
    "listing_formats",
    "bulk",
    "s3api",
    "tempauth",
    "slo",
    "copy",
)
_OPTIONS = {
    "s3api": f"location = us-east-1\nmax_bucket_listing = {PAGE}\n",
    "tempauth": "user_mill_app = {secret_access_key} .admin\n".format(**KEYS),
}

Program = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


def keeps_attributes(folder: Path) -> bool:
    """Tell whether files there may have attributes, in which Swift keeps what it knows of them."""
    file = folder / "attributes"
    file.touch()
    try:
        os.setxattr(file, "user.millpond", b"1")
    except OSError:
        return False
    finally:
        file.unlink()
    return True


class Swift:
    """One server of each kind in a folder: rings, settings, logs and the bytes.

    Its users' clocks may be told to be off by proxies of their own in front of the same bytes.
    """

    def __init__(
        self, folder: Path, bucket: str, program: Program, ports: Callable[[], int]
    ) -> None:
        self.folder, self._program, self._ports = folder, program, ports
        self.url, self.bucket = "", bucket

    @contextmanager
    def runs(self) -> Iterator["Swift"]:
        """Start everything, with a bucket; end everything."""
        ports = {name: self._ports() for name in _MODULES}
        (self.folder / "devices" / "disk").mkdir(parents=True)
        (self.folder / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = mill\nswift_hash_path_prefix = pond\n"
            "[storage-policy:0]\nname = one\ndefault = yes\n"
        )
        rings = [sys.executable, "-c", _RINGS, str(self.folder), *map(str, ports.values())]
        subprocess.run(rings, check=True, capture_output=True, cwd=self.folder)
        with ExitStack() as started:
            for name, port in ports.items():
                text = self._head(port) + (
                    f"devices = {self.folder / 'devices'}\nmount_check = false\n"
                    f"recon_cache_path = {self.folder}\n"
                    f"[pipeline:main]\npipeline = {name}-server\n"
                    f"[app:{name}-server]\nuse = egg:swift#{name}\n"
                )
                # They start at the same time; the first that is asked for something waits.
                started.enter_context(self._server(_MODULES[name], name, text, lambda: True))
            self.url = started.enter_context(
                self.proxy(is_ready=lambda: all(map(_listens, ports.values())))
            )
            bucket = S3Store(
                self.bucket,
                endpoint=self.url,
                region="us-east-1",
                client_options={"allow_http": True},
                **KEYS,
            )
            make = obstore.sign(bucket, "PUT", "", timedelta(seconds=60))
            httpx.put(make, timeout=60).raise_for_status()
            yield self

    def settings(self, **changes: Any) -> ObjectsSettings:
        """Give the settings of an installation with a corner of its own there."""
        chosen = {"bucket": self.bucket, "endpoint": self.url, "prefix": secrets.token_hex(8)}
        return ObjectsSettings(kind="s3", allow_http=True, **{**chosen, **KEYS, **changes})

    def variables(self) -> dict[str, str]:
        """Give the same as names and values of ``MILLPOND_`` variables in small letters."""
        chosen = asdict(self.settings())
        names = ("kind", "bucket", "endpoint", "prefix", "allow_http", *KEYS)
        return {f"objects_{name}": str(chosen[name]).lower() for name in names}

    @contextmanager
    def proxy(
        self, clock_off: float = 0, is_ready: Callable[[], bool] = lambda: True
    ) -> Iterator[str]:
        """Start what answers in the words of S3, its clock off by some seconds; give its address."""
        port = self._ports()
        text = self._head(port) + (
            f"[pipeline:main]\npipeline = {' '.join(_FILTERS)} proxy-server\n"
            "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
            "conn_timeout = 10\nnode_timeout = 60\n"  # The machine may be busy with other tests.
        )
        for name in _FILTERS:
            text += f"[filter:{name}]\nuse = egg:swift#{name}\n{_OPTIONS.get(name, '')}"

        def answers() -> bool:
            return is_ready() and _listens(port)

        with self._server("swift.proxy.server", f"proxy-{port}", text, answers, clock_off):
            yield f"http://127.0.0.1:{port}"

    def _head(self, port: int) -> str:
        # No workers: each server is one process, as whoever runs the tests.
        return (
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\n"
            f"swift_dir = {self.folder}\n"
        )

    def _server(
        self,
        module: str,
        name: str,
        settings: str,
        is_ready: Callable[[], bool],
        clock_off: float = 0,
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        file = self.folder / f"{name}.conf"
        file.write_text(settings)
        command = [sys.executable, "-c", _RUN, module, str(clock_off), str(file), "-v"]
        return self._program(command, is_ready, self.folder / f"{name}.log", cwd=self.folder)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False
