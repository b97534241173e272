"""Pages of the activity log, as a browser gets them."""

import json
import re
from typing import Any

import pytest

from millpond.audit.inclusion import verify_proof
from millpond.audit.proof import verify_export
from millpond.audit.seals import read_keys
from millpond.audit.tables import audit_entry
from millpond.people import actions

BASES = ("/projects/birds/activity", "/admin/activity")


def rows(text: str) -> list[list[str]]:
    found = re.findall(
        r"<tr>(.*?)</tr>", text.split("<tbody>")[1].split("</tbody>", maxsplit=1)[0], re.DOTALL
    )
    return [
        [
            re.sub(r"<[^>]+>|\s+", " ", cell).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in found
    ]


def test_the_log_is_listed_newest_first_and_filtered(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        path = BASES[0]
        shown = rows(http.get(path).text)
        assert [(row[0], row[2], row[3], row[4]) for row in shown] == [
            ("3", "owner", "member.added", "member/viewer"),
            ("2", "owner", "member.added", "member/editor"),
            ("1", "owner", "project.added", "project/birds"),
        ]
        for asked, numbers in (
            ({"text": "VIEWER"}, ["3"]),
            ({"who": "owner", "verb": "member.*"}, ["3", "2"]),
            ({"target": "project/birds"}, ["1"]),
            ({"since": "2020-01-01", "until": "2090-01-01", "zone": "Asia/Tokyo"}, ["3", "2", "1"]),
        ):
            found = http.get(path, params=asked).text
            assert [row[0] for row in rows(found)] == numbers, asked
        assert "No entry fits" in http.get(path, params={"until": "2020-01-01"}).text
        assert "No entry fits" in http.get(path, params={"who": "nobody"}).text


def test_a_page_of_the_log_leads_to_the_next_and_keeps_its_filters(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        first = http.get(BASES[0], params={"limit": 2, "who": "owner"}).text
        following = re.search(r'href="([^"]+)">Next page', first)
        assert following
        address = following[1].replace("&amp;", "&")
        assert "who=owner" in address
        assert [row[0] for row in rows(http.get(address).text)] == ["1"]


def test_a_day_that_is_none_is_told_at_its_field(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        for day in ("tomorrow", "9999-12-31"):
            wrong = http.get(BASES[0], params={"until": day, "text": "kept"})
            assert wrong.status_code == 422
            assert 'id="field-until-fault"' in wrong.text
            assert 'value="kept"' in wrong.text
        assert http.get(BASES[0], params={"zone": "../etc/passwd"}).status_code == 200


def test_an_entry_shows_its_text_its_hash_and_its_proof(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        fresh = http.get(f"{BASES[0]}/2").text
        assert "No seal covers it yet" in fresh
        assert "&#34;verb&#34;:&#34;member.added&#34;" in fresh
        proof = http.get(f"{BASES[0]}/2/proof")
        assert "entry-2.jsonl" in proof.headers["content-disposition"]
        keys = read_keys(http.get("/log-keys").text)
        assert verify_proof(proof.content, keys).is_ok
        sealed = http.get(f"{BASES[0]}/2").text
        assert "The server has just checked it" in sealed
        assert "Seal 1 of" in sealed
        assert f'href="{BASES[0]}/1"' in sealed
        assert f'href="{BASES[0]}/3"' in sealed
        assert http.get(f"{BASES[0]}/99").status_code == 404
        assert http.get(f"{BASES[0]}/0").status_code == 422


def test_the_record_is_checked_exported_and_a_meddled_one_is_named(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        whole = http.post(f"{BASES[0]}/verify")
        assert "The record is whole" in whole.text
        assert "3 entries were checked" in whole.text
        part = http.post(f"{BASES[0]}/verify", headers={"HX-Request": "true"}).text
        assert "<html" not in part
        assert 'id="verdict"' in part
        export = http.get(f"{BASES[0]}/export")
        keys = read_keys(http.get("/log-keys").text)
        kept = json.loads(http.get("/checkpoint").text)
        assert verify_export(export.content, keys).entries == 3
        later = http.get(f"{BASES[0]}/export").content
        assert verify_export(later, keys, kept).is_checkpoint_held
        with portal_site.database.transaction() as tx:
            tx.execute(
                audit_entry.update()
                .where(audit_entry.c.chain == portal_site.project_id, audit_entry.c.number == 2)
                .values(actor_name="nobody")
            )
        broken = http.post(f"{BASES[0]}/verify").text
        assert "The record is not whole: changed" in broken
        assert f'href="{BASES[0]}/2"' in broken
        assert "This entry was changed in the database" in http.get(f"{BASES[0]}/2").text


def test_the_log_of_the_site_is_for_administrators(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        text = http.get(BASES[1]).text
        assert "user.added" in text
        assert "Change the key" in text
        assert "The record is whole" in http.post(f"{BASES[1]}/verify").text
        assert http.get(f"{BASES[1]}/1").status_code == 200
        assert verify_export(
            http.get(f"{BASES[1]}/export").content, read_keys(http.get("/log-keys").text)
        ).is_ok
        before = read_keys(http.get("/log-keys").text)
        assert http.post(f"{BASES[1]}/key").status_code == 303
        assert "Seals are signed with the key" in http.get(BASES[1]).text
        assert len(read_keys(http.get("/log-keys").text)) == len(before) + 1
        assert http.get(BASES[0]).status_code == 200
    with portal_site.browser("owner") as http:
        for path in (BASES[1], f"{BASES[1]}/1", f"{BASES[1]}/1/proof", f"{BASES[1]}/export"):
            assert http.get(path).status_code == 403, path
        for path in (f"{BASES[1]}/verify", f"{BASES[1]}/key"):
            assert http.post(path).status_code == 403, path


@pytest.mark.parametrize("path", ["", "/1", "/1/proof", "/export"])
def test_a_stranger_sees_nothing_of_a_projects_log(portal_site: Any, path: str) -> None:
    with portal_site.browser("stranger") as http:
        assert http.get(BASES[0] + path).status_code == 404
        assert http.post(f"{BASES[0]}/verify").status_code == 404


def test_an_entry_of_another_project_is_not_found_by_its_number(portal_site: Any) -> None:
    with portal_site.database.transaction() as tx:
        for number in range(3):
            actions.add_project(tx, portal_site.actor("stranger"), f"fish-{number}")
    with portal_site.browser("stranger") as http:
        assert http.get("/projects/fish-0/activity/1").status_code == 200
        assert http.get("/projects/fish-0/activity/2").status_code == 404
