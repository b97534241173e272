from millpond.ground.origins import settings_file, settings_seen
from millpond.ground.settings import MASK, load_settings


def seen(data, text, **environ):
    path = settings_file(data, environ)
    path.write_text(text)
    settings = load_settings(path, environ)
    return {one.key: one for one in settings_seen(settings, data, environ)}


def test_each_setting_says_where_it_comes_from(tmp_path):
    text = '[server]\nport = 9000\nhost = "::"\n[objects]\naccess_key_id = "a"\n'
    found = seen(
        tmp_path, text, MILLPOND_SERVER_PORT="9001", MILLPOND_OBJECTS_SECRET_ACCESS_KEY="hush"
    )
    assert (found["server.port"].value, found["server.port"].origin) == (9001, "variable")
    assert (found["server.host"].value, found["server.host"].origin) == ("::", "file")
    assert (found["jobs.workers"].origin, found["jobs.workers"].default) == ("default", 8)
    assert found["objects.secret_access_key"].value == MASK
    assert "hush" not in str(found)


def test_what_the_command_line_chose_and_a_damaged_file_are_told_apart(tmp_path):
    settings = load_settings(None, {"MILLPOND_SERVER_PORT": "9001"})
    (tmp_path / "settings.toml").write_text("[server\n")
    found = {one.key: one for one in settings_seen(settings, tmp_path, {})}
    assert found["server.port"].origin == "start"
    assert settings_file(tmp_path, {"MILLPOND_SETTINGS": "/x.toml"}).as_posix() == "/x.toml"
