"""A second server on the same PostgreSQL, whose administrator forgot the keys."""

import os
import shutil
import subprocess
import sys

import pytest

from millpond.client.process import start_server


def environ_for(url, objects):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
    # Both must see the objects that the database knows.
    return {**environ, "MILLPOND_DATABASE_URL": url, "MILLPOND_OBJECTS_FOLDER": str(objects)}


def refused(data, environ):
    command = [sys.executable, "-m", "millpond.main", "--data", data, "--port", "0"]
    done = subprocess.run(
        command, check=False, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 5, done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_second_server_without_the_keys_is_refused_at_its_start(postgresql, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with postgresql.database(empty=True) as url:
        environ = environ_for(url, tmp_path / "objects")
        server = start_server(
            first, host="127.0.0.1", port=0, log=tmp_path / "first.log", environ=environ
        )
        try:
            server.wait_ready()
            for name in ("seal.pem", "secrets.key"):
                said = refused(second, environ)
                assert f"The key file {second}/keys/{name} is missing" in said
                assert f"Copy {first}/keys/{name} of the machine " in said
                assert not (second / "keys" / name).exists()
                shutil.copy(first / "keys" / name, second / "keys" / name)
            (second / "keys" / "secrets.key").write_bytes(os.urandom(32))
            assert "secrets.key holds another key" in refused(second, environ)
            shutil.copy(first / "keys" / "secrets.key", second / "keys" / "secrets.key")
            other = start_server(
                second, host="127.0.0.1", port=0, log=tmp_path / "second.log", environ=environ
            )
            other.wait_ready()
            assert other.stop() == 0
        finally:
            assert server.stop() == 0
