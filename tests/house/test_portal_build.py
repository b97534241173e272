"""The portal's assets: what is built, and an installation that could not build them."""

import asyncio
import importlib.util
import json
import re
import shutil
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from millpond import portal

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src" / "millpond" / "web" / "static"


@pytest.fixture
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lock_pins_by_digest_and_records_no_address():
    lock = json.loads((ROOT / "frontend" / "package-lock.json").read_text())
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert packages
    assert not [name for name, each in packages.items() if "integrity" not in each]
    assert not [name for name, each in packages.items() if "resolved" in each]
    own = json.loads((ROOT / "frontend" / "package.json").read_text())
    wanted = {**own["dependencies"], **own["devDependencies"]}
    assert not [name for name, version in wanted.items() if not re.fullmatch(r"[\d.]+", version)]
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in wanted if f"`{name}`" not in readme]


def test_every_asset_is_there_packed_and_loads_nothing_from_elsewhere():
    manifest = json.loads((STATIC / "manifest.json").read_text())
    assert {"portal.js", "portal.css", "theme.js", "live-worker.js", "icons.svg"} <= manifest.keys()
    for name in manifest.values():
        text = (STATIC / name).read_text()
        assert (STATIC / f"{name}.gz").is_file()
        assert not re.search(r"(?:@import|url\(|from|import\()\s*[\"']?https?://", text), name


def test_where_npm_cannot_fetch_the_build_says_so_in_one_line(hook, tmp_path, monkeypatch):
    shutil.copytree(
        ROOT / "frontend", tmp_path / "frontend", ignore=shutil.ignore_patterns("node_modules")
    )
    (tmp_path / "src" / "millpond").mkdir(parents=True)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    told = hook.build(tmp_path)
    assert told.startswith("npm could not fetch its packages: ")
    assert "\n" not in told
    assert not (tmp_path / "src" / "millpond" / "web" / "static").exists()


def test_an_installation_without_assets_tells_how_to_get_the_portal(tmp_path, monkeypatch):
    monkeypatch.setattr(portal, "_STATIC", tmp_path)
    app = FastAPI()
    portal.hang_pages(app, None, "0")

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/")

    answer = asyncio.run(ask())
    assert answer.status_code == 404
    assert "install Millpond anew" in answer.json()["next_step"]
