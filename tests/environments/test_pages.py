"""Pages of environments: list, one with its lock, packages and live build, a new one; rights."""

import re

from millpond.environments.actions import add_version
from millpond.environments.tables import environment_version
from millpond.jobs.tables import job

AT = "/projects/birds/environments"


def plant(site, name="tools", requirements="numpy>=2\n", **values):
    """Add a version that no job will build; give its number."""
    actor = site.actor("editor")

    def write(tx):
        made = add_version(tx, actor, site.project_id, name, requirements)
        tx.execute(job.delete().where(job.c.key == f"environment/{made.id}"))
        if values:
            mine = environment_version.c.id == made.id
            tx.execute(environment_version.update().where(mine).values(**values))
        return made.number

    return site.database.change(write)


READY = {
    "state": "ready", "lock": "# millpond-lock 1 python=3.11\nnumpy==2.1.0\n",
    "lock_digest": "ab" * 32, "python_version": "3.11", "packages": [["numpy", "2.1.0"]],
}  # fmt: skip


def test_an_empty_list_says_what_to_do_and_a_full_one_shows_states(portal_site):
    with portal_site.browser("viewer") as http:
        text = http.get(AT).text
        assert "millpond env make NAME --requirements requirements.txt --project birds" in text
        assert f"{AT}/new" not in text
        plant(portal_site, **READY)
        text = http.get(AT).text
        assert f'href="{AT}/tools"' in text
        assert "ready" in text
    with portal_site.browser("editor") as http:
        assert f"{AT}/new" in http.get(AT).text
    with portal_site.browser("stranger") as http:
        assert http.get(AT).status_code == 404


def test_one_version_shows_lock_packages_versions_and_older_ones_lead_to_the_newest(portal_site):
    plant(portal_site, **READY)
    plant(portal_site, requirements="scipy\n", state="failed", reason="No <wheel>.")
    with portal_site.browser("viewer") as http:
        newest = http.get(f"{AT}/tools").text
        assert "No &lt;wheel&gt;." in newest
        assert "tools@2" in newest
        assert f"{AT}/new?name=tools" not in newest
        first = http.get(f"{AT}/tools?version=1").text
        assert "This is an older version." in first
        assert "numpy" in first
        assert "ab" * 32 in first
        lock = http.get(f"{AT}/tools/lock?version=1")
        assert "numpy==2.1.0" in lock.text
        assert lock.headers["content-disposition"] == 'attachment; filename="tools-1.txt"'
        assert http.get(f"{AT}/tools/lock").status_code == 409
        assert http.get(f"{AT}/tools?version=3").status_code == 404
        assert http.get(f"{AT}/other").status_code == 404


def test_a_build_is_followed_live_until_it_has_ended(portal_site):
    plant(portal_site)
    site = portal_site
    version = site.database.read(lambda tx: tx.one(environment_version.select()))
    prefix = f"projects/{site.project_id}/environments/{version.id}/log/"
    with site.browser("viewer") as http:
        text = http.get(f"{AT}/tools").text
        assert 'data-live="birds environment/tools"' in text
        part = http.get(f"{AT}/tools?version=1", headers={"HX-Request": "true"}).text
        assert 'id="build"' in part
        assert "<html" not in part
        assert "after=0" in http.get(f"{AT}/tools/log?version=1").text
        site.house.objects.put(f"{prefix}00000000", b"Locking <tools>\n")
        first = http.get(f"{AT}/tools/log?version=1").text
        assert "Locking &lt;tools&gt;" in first
        assert "after=1" in first
        site.house.objects.put(f"{prefix}00000001", b"Ready\n")
        with site.database.transaction() as tx:
            tx.execute(environment_version.update().values(**READY))
        last = http.get(f"{AT}/tools/log?version=1&after=1").text
        assert last.strip() == "Ready"
        assert "data-live" not in http.get(f"{AT}/tools").text.partition('id="build"')[2][:200]


def test_a_new_one_is_made_of_text_and_faults_keep_what_was_typed(portal_site):
    with portal_site.browser("editor") as http:
        assert http.get(f"{AT}/new").status_code == 200
        typed = {
            "name": "Tools",
            "requirements": "numpy\r\n--index-url x",
            "build_from_source": "a b",
        }
        wrong = http.post(f"{AT}/new", data=typed)
        assert wrong.status_code == 422
        assert 'value="Tools"' in wrong.text
        assert "--index-url x</textarea>" in wrong.text
        rest = http.post(
            "/api/v1/projects/birds/environments",
            json={"name": "tools", "requirements": "numpy\n--index-url x"},
        ).json()["faults"]
        again = http.post(f"{AT}/new", data={**typed, "name": "tools"})
        assert rest[0]["message"].split(":")[0] in again.text
        answer = http.post(f"{AT}/new", data={"name": "plain", "requirements": ""})
        assert answer.headers["location"] == f"{AT}/plain"
        assert "plain@1 is being made." in http.get(f"{AT}/plain").text
        same = http.post(f"{AT}/new", data={"name": "plain", "requirements": ""})
        assert same.status_code == 303
        assert re.search("plain@1 has these very requirements", http.get(f"{AT}/plain").text)
        assert "plain" in http.get(f"{AT}/new?name=plain").text


def test_viewers_make_none(portal_site):
    with portal_site.browser("viewer") as http:
        assert http.get(f"{AT}/new").status_code == 403
        assert http.post(f"{AT}/new", data={"name": "x"}).status_code == 403
