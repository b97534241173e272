"""The texts for containers make sense: every name in them is one that Millpond knows."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from millpond.ground.settings import Settings, load_settings
from millpond.machines.trust.rules import fits, hosts_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("host", "server", "scheduler", "tokens", "node-1", "node-2")
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
_KEYS = {
    "cap_drop", "command", "depends_on", "entrypoint", "environment", "healthcheck", "hostname",
    "image", "init", "network_mode", "pid", "ports", "restart", "security_opt",
    "stop_grace_period", "volumes",
}  # fmt: skip


def variables(name: str) -> dict[str, str]:
    """Give a service's variables as the engine would, with secrets filled in."""
    found = SERVICES[name].get("environment", {})
    filled = {key: re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value) for key, value in found.items()}
    return {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in filled.items()}


def settings() -> Settings:
    return load_settings(None, variables("server"))


def test_the_services_are_those_that_are_promised() -> None:
    assert set(SERVICES) == {*OURS, "postgres", "objects", "bucket"}
    for name, service in SERVICES.items():
        assert set(service) - {"<<"} <= _KEYS, name
        assert service["image"]
        assert service["restart"] in ("unless-stopped", "on-failure"), name
    for name in OURS:
        assert SERVICES[name]["image"] == "${MILLPOND_IMAGE:-localhost/millpond}"
        assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_every_service_that_lasts_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        lasts = service["restart"] == "unless-stopped" and name != "host"
        if lasts:
            assert service["healthcheck"]["test"][0] == "CMD", name
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES, name
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[needed]["healthcheck"], f"{name} waits for {needed}"


def test_no_service_waits_for_itself() -> None:
    def needs(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, f"{' -> '.join((*seen, name))} is a circle"
        for needed in SERVICES[name].get("depends_on", {}):
            needs(needed, (*seen, name))

    for name in SERVICES:
        needs(name)


def test_the_variables_are_settings_and_fit_the_other_services() -> None:
    chosen = settings()
    assert chosen.database.url == "postgresql://millpond:secret@postgres/millpond"
    assert variables("postgres") == {
        "POSTGRES_USER": "millpond",
        "POSTGRES_DB": "millpond",
        "POSTGRES_PASSWORD": "secret",
    }
    assert chosen.engine.kind == "dask"
    assert chosen.objects.kind == "s3"
    assert chosen.objects.allow_http
    assert chosen.objects.access_key_id == variables("objects")["MINIO_ROOT_USER"]
    assert chosen.objects.secret_access_key == variables("objects")["MINIO_ROOT_PASSWORD"]
    port = SERVICES["objects"]["command"][-1]
    assert chosen.objects.endpoint == f"http://objects{port}"
    assert SERVICES["bucket"]["command"][0].endswith(f"own/{chosen.objects.bucket}")
    assert chosen.cluster.address == "host"
    assert chosen.server.url == "https://localhost:8787"


def test_the_server_s_certificate_has_the_names_that_people_and_nodes_use() -> None:
    chosen = settings()
    names = hosts_of(chosen.server, chosen.cluster, ())
    node = re.search(r"https://([a-z]+):", (FOLDER / "node.sh").read_text())
    assert node
    assert fits(node[1], names)
    assert fits("localhost", names)
    named = replace(chosen.server, url="https://millpond.example.org:8787")
    assert fits("millpond.example.org", hosts_of(named, chosen.cluster, ()))


def test_a_name_that_is_no_setting_would_be_found() -> None:
    with pytest.raises(Exception, match="MILLPOND_OBJECTS_BUCKETT"):
        load_settings(None, {**variables("server"), "MILLPOND_OBJECTS_BUCKETT": "x"})


def test_the_ports_are_those_of_the_settings() -> None:
    chosen = settings()
    served = SERVICES["server"]["command"][-1]
    assert SERVICES["host"]["ports"] == [f"${{MILLPOND_PORT:-{served}}}:{served}"]
    assert served == str(Settings().server.port)
    assert SERVICES["scheduler"]["command"][-1] == str(chosen.cluster.scheduler_port)
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert exposed
    ports = {int(served), chosen.cluster.door_port, chosen.cluster.scheduler_port}
    assert {int(port) for port in exposed[1].split()} == ports
    assert f"host:{served}" in (FOLDER / "node.sh").read_text()


def test_secrets_are_asked_for_and_stand_nowhere() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    example = (FOLDER / ".env.example").read_text()
    for name in ("POSTGRES_PASSWORD", "S3_SECRET_KEY"):
        assert f"${{{name}:?" in text, "an empty one is refused"
        assert f"\n{name}=\n" in example
    assert not re.search(r"^(ENV|ARG)\b.*(PASSWORD|SECRET|TOKEN|KEY)", DOCKERFILE, re.MULTILINE)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    told = subprocess.run(
        ["git", "check-ignore", "containers/.env"], cwd=ROOT, capture_output=True, check=False
    )
    assert told.returncode == 0, "containers/.env must never be committed"


def test_only_nodes_and_server_may_make_sandboxes() -> None:
    loose = ["seccomp=unconfined", "systempaths=unconfined", "apparmor=unconfined"]
    for name in OURS:
        wanted = loose if name in ("server", "node-1", "node-2") else None
        assert SERVICES[name].get("security_opt") == wanted, name
    assert "USER 10001:10001" in DOCKERFILE
    assert not any("privileged" in service or "cap_add" in service for service in SERVICES.values())


def test_the_nodes_have_their_tokens_and_names() -> None:
    nodes = [name for name in SERVICES if name.startswith("node-")]
    assert SERVICES["tokens"]["command"][3:] == nodes
    for name in nodes:
        service = SERVICES[name]
        assert service["hostname"] == name
        assert service["command"] == ["/opt/millpond/containers/node.sh", name]
        assert service["volumes"] == [f"{name}:/node", "tokens:/tokens"]
    named = {each.split(":")[0] for one in SERVICES.values() for each in one.get("volumes", ())}
    assert named == set(COMPOSE["volumes"])


def commands() -> list[list[str]]:
    """Give every command line that the texts run."""
    found: list[list[str]] = []
    for name in OURS:
        service = SERVICES[name]
        found.append(service["command"])
        found.append(service["healthcheck"].get("test", ["CMD"])[1:])
    texts = re.findall(r"^\s*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    found.extend(yaml.safe_load(text) for text in texts)
    return [line for line in found if line]


def test_every_command_is_in_the_image() -> None:
    copied = re.search(
        r"^COPY (containers/.*) /opt/millpond/containers/$", DOCKERFILE, re.MULTILINE
    )
    assert copied
    files = {Path(path).name for path in copied[1].split()}
    for line in commands():
        for word in line:
            if word.startswith("/opt/millpond/containers/"):
                assert Path(word).name in files, word
                assert (FOLDER / Path(word).name).is_file()
        if line[1:2] == ["-m"]:
            assert importlib.util.find_spec(line[2]), line
        assert line[0] in ("python", "sleep") or line[0].startswith("/opt/millpond/")
    assert os.access(FOLDER / "node.sh", os.X_OK)


def test_every_option_is_known() -> None:
    for line in [*commands(), *script_commands()]:
        if "-m" not in line and line[0] != "millpond":
            continue
        is_ours = line[0] == "millpond"
        program = ["-m", "millpond"] if is_ours else ["-m", line[2]]
        verbs, words = (line[1:3], line[3:]) if is_ours else ([], line[3:])
        told = subprocess.run(
            [sys.executable, *program, *verbs, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in told, f"{line}: {option}"


def script_commands() -> list[list[str]]:
    text = (FOLDER / "node.sh").read_text().replace("\\\n", " ")
    lines = [shlex.split(line.split("<")[0]) for line in text.splitlines() if "millpond " in line]
    lines += [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("exec ")]
    return [line for line in lines if line and line[0] in ("millpond", "python")]


def test_the_script_is_one_that_a_shell_reads() -> None:
    subprocess.run(["sh", "-n", str(FOLDER / "node.sh")], check=True)


def test_the_health_checks_tell_what_is_not_well(tmp_path: Path) -> None:
    for what in ("server", "node"):
        told = subprocess.run(
            [sys.executable, str(FOLDER / "check.py"), what, str(tmp_path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 1
        assert told.stderr.strip()
