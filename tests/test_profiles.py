import stat
from pathlib import Path

import pytest

from dcvtui.errors import ConfigError
from dcvtui.profiles import Profile, read_conf, read_profiles, save_profile

PROD = Profile("prod", "https://broker.example:8443", "an-id", "a-secret", ca_file=Path("/ca.pem"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dcvtui" / "profiles.toml"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_no_file_is_no_profile(path: Path) -> None:
    found = read_profiles(path)
    assert (found.profiles, found.default, found.notes) == ({}, None, ())


def test_what_is_saved_is_read_again_and_private(path: Path) -> None:
    save_profile(path, PROD)
    found = read_profiles(path)
    assert found.profiles == {"prod": PROD}
    assert found.default == "prod"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_saving_keeps_the_others_and_what_it_does_not_know(path: Path) -> None:
    write(path, 'default = "old"\n[profiles.old]\nurl = "https://old"\n[profiles.prod]\ncolour = "red"\n')
    save_profile(path, PROD)
    found = read_profiles(path)
    assert sorted(found.profiles) == ["old", "prod"]
    assert found.default == "old"
    assert 'colour = "red"' in path.read_text()
    save_profile(path, Profile("prod", "https://new"), is_default=True)
    found = read_profiles(path)
    assert (found.default, found.profiles["prod"]) == ("prod", Profile("prod", "https://new"))


def test_a_single_profile_is_the_default(path: Path) -> None:
    write(path, '[profiles.only]\nurl = "https://x"\n')
    assert read_profiles(path).default == "only"
    write(path, "[profiles.a]\n[profiles.b]\n")
    assert read_profiles(path).default is None


def test_an_unknown_key_is_reported_with_the_nearest_known_one(path: Path) -> None:
    write(path, "colour = 1\n[profiles.prod]\nclient_secert = 'x'\nzzz = 1\n")
    first, second, third = read_profiles(path).notes
    assert "'colour' is not known." in first
    assert "'profiles.prod.client_secert' is not known, did you mean 'client_secret'?" in second
    assert "'profiles.prod.zzz' is not known." in third


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused_with_the_command_that_helps(path: Path, mode: int) -> None:
    write(path, '[profiles.p]\nclient_secret = "hunter2"\n', mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 600") as caught:
        read_profiles(path)
    assert "hunter2" not in caught.value.sentence


def test_a_file_without_a_secret_may_be_readable(path: Path) -> None:
    write(path, '[profiles.p]\nurl = "https://x"\n', 0o644)
    assert read_profiles(path).profiles["p"].url == "https://x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profiles.", "is damaged"),
        ("profiles = 1", "must be tables"),
        ("[profiles]\nprod = 1", "must be tables"),
        ("[profiles.p]\nurl = 1", r"profiles\.p\.url must be a text"),
        ("[profiles.p]\nread_only = 'yes'", r"profiles\.p\.read_only must be true or false"),
        ("default = 'gone'", "names 'gone' as default"),
    ],
)
def test_a_damaged_file_is_one_sentence(path: Path, text: str, words: str) -> None:
    write(path, text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_profiles(path)
    assert caught.value.exit_code == 1


def test_a_ca_file_starts_at_the_profile_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    for name, expected in (("ca.pem", path.parent / "ca.pem"), ("~/ca.pem", Path("/home/ana/ca.pem"))):
        write(path, f'[profiles.p]\nca_file = "{name}"\n')
        assert read_profiles(path).profiles["p"].ca_file == expected


def test_a_profile_that_cannot_be_saved_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"could not be saved|cannot be read"):
        save_profile(tmp_path / "file" / "profiles.toml", PROD)


# ------------------------------------------------------------------ the official client's file


@pytest.mark.parametrize(
    "text",
    [
        "client-password = hunter2",
        "[authentication\nclient-password = hunter2",
        "[security]\nno-verify-ssl = maybe",
    ],
)
def test_a_damaged_official_file_is_one_sentence_without_its_secret(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "dcvsmcli.conf", text)
    with pytest.raises(ConfigError, match="is damaged") as caught:
        read_conf(path)
    assert caught.value.exit_code == 1
    assert "hunter2" not in caught.value.sentence


def test_a_missing_official_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_conf(tmp_path / "none.conf")
    assert caught.value.exit_code == 1


def test_a_bundle_is_looked_for_in_the_working_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write(tmp_path / "dcvsmcli.conf", "[security]\nca-bundle = ca.pem\n")
    assert read_conf(path).ca_file == tmp_path / "ca.pem"
    (elsewhere / "ca.pem").touch()
    assert read_conf(path).ca_file == Path("ca.pem")


def test_no_secret_shows_in_a_repr() -> None:
    assert "a-secret" not in repr(PROD)
