"""An installation that outgrows its machine moves to nodes and back, with runs under way."""

from pathlib import Path

import pytest
from tests.journeys.test_cluster import Site, check_run, half_done, prepare, start_run, until


@pytest.mark.slow
def test_switching_to_nodes_and_back_loses_no_run(tmp_path: Path) -> None:
    site = Site(tmp_path, {"objects_kind": "folder"})
    try:
        site.start_server(engine_kind="local")
        client = site.open()
        prepare(client, tmp_path)
        running = start_run(client, 1.0)
        half_done(client, running)
        queued = start_run(client, 0.1)
        assert site.server.stop() == 0

        site.start_server()  # As the settings say: on nodes, of which there are none yet.
        told = {one["name"]: one for one in client.system.findings()["findings"]}
        assert told["scheduler"]["state"] == "fault"
        assert "millpond.engine.cluster.scheduler" in told["scheduler"]["next_step"]
        site.start_scheduler()
        site.join("mill", has_disk=False)
        site.start_node("mill")
        check_run(client, running, tmp_path / "running")
        assert set(check_run(client, queued, tmp_path / "queued")) == {"mill"}
        until(lambda: client.system.findings()["status"] != "fault")

        again = start_run(client, 1.0)
        half_done(client, again)
        assert site.server.stop() == 0
        site.start_server(engine_kind="local")
        assert "local" in check_run(client, again, tmp_path / "again")
        assert site.traces("server") == []
    finally:
        site.end()
