import pytest

from millpond.ground.errors import InvalidError
from millpond.ground.origins import settings_seen
from millpond.ground.settings import (
    MASK,
    OTHER_VARIABLES,
    Settings,
    list_settings,
    load_settings,
)


def load(tmp_path, text="", **environ):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return load_settings(path, environ)


def faults_of(tmp_path, text="", **environ):
    with pytest.raises(InvalidError) as caught:
        load(tmp_path, text, **environ)
    for fault in caught.value.faults:
        assert fault.message in caught.value.message
    return {fault.field: fault.message for fault in caught.value.faults}


def test_the_defaults_need_nothing():
    assert load_settings(None, {"PATH": "/bin"}) == Settings()


def test_the_file_and_then_the_variables_count(tmp_path):
    text = '[server]\nport = 9000\nhost = "::"\n[jobs]\nlease_seconds = 5\n'
    settings = load(
        tmp_path,
        text,
        MILLPOND_SERVER_PORT="9001",
        MILLPOND_OBJECTS_ALLOW_HTTP="yes",
        MILLPOND_JOBS_POLL_SECONDS="0.5",
        MILLPOND_LAKE_FILES="1_000",
    )
    assert (settings.server.port, settings.server.host) == (9001, "::")
    assert settings.jobs.lease_seconds == 5.0
    assert type(settings.jobs.lease_seconds) is float
    assert settings.objects.allow_http is True
    assert settings.jobs.poll_seconds == 0.5
    assert settings.lake.files == 1000


def test_every_fault_is_told_at_once_with_the_nearest_right_key(tmp_path):
    text = """
    top = 1
    lake = 3
    [serve]
    port = 1
    [server]
    prot = 1
    port = "80"
    [jobs]
    workers = 0
    lease_seconds = true
    [objects]
    kind = "folders"
    """
    found = faults_of(
        tmp_path,
        text,
        MILLPOND_ENGINE_SLOT="4",
        MILLPOND_SERVER_STOP_SECONDS="soon",
        MILLPOND_AUDIT_SEAL_SECONDS="nan",
        MILLPOND_OBJECTS_ALLOW_HTTP="perhaps",
    )
    assert found == {
        "top": "is no setting",
        "lake": "is a table: write [lake] and the settings below it",
        "serve": "is no setting; did you mean server?",
        "server.prot": "is no setting; did you mean server.port?",
        "server.port": "is '80', but must be a whole number",
        "jobs.workers": "is 0, but must be at least 1",
        "jobs.lease_seconds": "is True, but must be a number",
        "objects.kind": "is 'folders', but must be one of folder, s3, nodes; did you mean folder?",
        "MILLPOND_ENGINE_SLOT": "is no setting; did you mean MILLPOND_ENGINE_SLOTS?",
        "MILLPOND_SERVER_STOP_SECONDS": "is 'soon', but must be a number",
        "MILLPOND_AUDIT_SEAL_SECONDS": "is nan, but must be at least 1",
        "MILLPOND_OBJECTS_ALLOW_HTTP": "is 'perhaps', but must be true or false",
    }


def test_settings_that_contradict_each_other_are_faults(tmp_path):
    found = faults_of(
        tmp_path,
        '[objects]\nkind = "s3"\naccess_key_id = "me"\n[database]\nurl = "mysql://x"\n'
        '[server]\nurl = "millpond.example"\n',
    )
    assert set(found) == {
        "objects.bucket",
        "objects.secret_access_key",
        "database.url",
        "server.url",
    }


def test_a_file_that_is_missing_or_no_toml_is_a_fault(tmp_path):
    assert "cannot be read" in str(faults_of(tmp_path, "[server"))
    with pytest.raises(InvalidError, match=r"none\.toml cannot be read"):
        load_settings(tmp_path / "none.toml", {})


def test_secrets_are_never_shown(tmp_path):
    settings = load(
        tmp_path,
        '[objects]\nkind = "s3"\nbucket = "b"\naccess_key_id = "me"\n',
        MILLPOND_OBJECTS_SECRET_ACCESS_KEY="hush-hush",
        MILLPOND_DATABASE_URL="postgresql://me:hush-hush@db/millpond",
    )
    assert settings.objects.secret_access_key == "hush-hush"
    assert "hush-hush" not in repr(settings)
    assert "hush-hush" not in str(settings.shown())
    assert settings.shown()["objects"]["secret_access_key"] == MASK
    assert Settings().shown()["objects"]["secret_access_key"] == ""
    assert "hush" not in str(faults_of(tmp_path, '[database]\nurl = ["hush"]\n'))


def test_every_setting_has_a_line_of_help_and_its_default_is_sound(tmp_path):
    described = list(list_settings())
    assert len({info.variable for info in described}) == len(described)
    assert not {info.variable for info in described} & OTHER_VARIABLES
    for info in described:
        assert info.help.endswith(".")
        assert "\n" not in info.help
    environ = {
        info.variable: str(info.default).lower() if info.kind == "bool" else str(info.default)
        for info in described
    }
    assert load_settings(None, environ) == Settings()


def test_places_to_sign_in_through_have_a_table_each(tmp_path):
    text = """
    [oidc.uni-north]
    issuer = "https://login.uni.example"
    client_id = "millpond"
    [oidc.lab]
    issuer = "http://127.0.0.1:8080/realm"
    client_id = "m"
    sign_up = true
    """
    settings = load(tmp_path, text, MILLPOND_OIDC_UNI_NORTH_CLIENT_SECRET="hush-hush")
    assert settings.oidc["uni-north"].client_secret == "hush-hush"
    assert settings.oidc["lab"].sign_up
    assert settings.oidc["lab"].scopes == "openid profile email"
    assert "hush" not in repr(settings) + str(settings.shown())
    assert settings.shown()["oidc.uni-north"]["client_secret"] == MASK
    seen = {one.key: one for one in settings_seen(settings, tmp_path, {})}
    assert seen["oidc.lab.client_id"].origin == "file"
    assert seen["oidc.lab.client_id"].variable == "MILLPOND_OIDC_LAB_CLIENT_ID"


def test_a_wrong_place_to_sign_in_through_is_told(tmp_path):
    text = """
    [oidc]
    flat = 1
    [oidc.Bad_Name]
    [oidc.far]
    isuer = "x"
    """
    found = faults_of(tmp_path, text, MILLPOND_OIDC_NONE_CLIENT_ID="x")
    assert set(found) == {
        "oidc.flat", "oidc.Bad_Name", "oidc.far.isuer", "MILLPOND_OIDC_NONE_CLIENT_ID"
    }  # fmt: skip
    assert "did you mean oidc.far.issuer?" in found["oidc.far.isuer"]
    text = '[oidc.far]\nissuer = "http://far.example?x"\nscopes = "email"\n'
    assert set(faults_of(tmp_path, text)) == {
        "oidc.far.issuer", "oidc.far.client_id", "oidc.far.scopes"
    }  # fmt: skip


def test_mail_needs_a_sender_and_keeps_its_password_off_open_lines(tmp_path):
    text = '[mail]\nhost = "mail.example"\nuser = "u"\n'
    assert set(faults_of(tmp_path, text)) == {"mail.sender", "mail.password"}
    text += 'sender = "a@b.example"\ntls = "none"\n'
    assert set(faults_of(tmp_path, text, MILLPOND_MAIL_PASSWORD="p")) == {"mail.tls"}
