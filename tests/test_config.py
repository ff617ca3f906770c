from collections.abc import Callable
from pathlib import Path

import pytest

from dcvtui.config import Connection, Credentials, Files, Options, check_url, resolve
from dcvtui.errors import ConfigError
from dcvtui.trust import Trust

URL = "https://broker.example:8443"
OTHER = "https://other.example:8443"
KEYS = {"DCV_SM_CLIENT_ID": "env-id", "DCV_SM_CLIENT_PASSWORD": "env-secret"}
FROM_ENVIRONMENT = Credentials("env-id", "env-secret")

PROFILES = f"""
default = "prod"
[profiles.prod]
url = "{URL}"
client_id = "prod-id"
client_secret = "prod-secret"
ca_file = "prod.pem"
gateway = "gw.example:8443"
[profiles.test]
url = "{OTHER}"
client_id = "test-id"
client_secret = "test-secret"
read_only = true
"""
CONF = f"""
[broker]
url = {URL}
[authentication]
client-id = conf-id
client-password = conf%secret
"""

Resolve = Callable[..., Connection]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "profiles.toml", tmp_path / "dcvsmcli.conf")


@pytest.fixture
def write(files: Files) -> Callable[..., None]:
    def write(profiles: str | None = None, conf: str | None = None) -> None:
        if profiles is not None:
            files.profiles.write_text(profiles)
            files.profiles.chmod(0o600)
        if conf is not None:
            files.conf.write_text(conf)

    return write


def failure(options: Options, environ: dict[str, str], files: Files) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        resolve(options, environ, files)
    return caught.value


# ------------------------------------------------------------------ one place at a time


def test_nothing_at_all_is_the_first_run(files: Files) -> None:
    error = failure(Options(), {}, files)
    assert error.is_first_run
    assert error.exit_code == 253
    assert "DCV_SM_BROKER_URL" in error.sentence
    assert "dcvtui demo" in error.sentence


def test_profiles_without_a_default_are_named_and_no_first_run(
    files: Files, write: Callable[..., None]
) -> None:
    write(PROFILES.replace('default = "prod"', ""))
    error = failure(Options(), {}, files)
    assert not error.is_first_run
    assert error.sentence.endswith("with --profile: prod, test.")


def test_the_environment_alone_is_enough(files: Files) -> None:
    found = resolve(Options(), KEYS | {"DCV_SM_BROKER_URL": URL + "/"}, files)
    assert (found.url, found.credentials, found.name) == (URL, FROM_ENVIRONMENT, "broker.example:8443")
    assert (found.trust, found.read_only, found.notes) == (Trust(), False, ())


def test_an_option_gives_the_address_and_the_environment_the_credentials(files: Files) -> None:
    found = resolve(Options(broker_url=URL, read_only=True), KEYS | {"DCV_SM_BROKER_URL": OTHER}, files)
    assert (found.url, found.credentials, found.read_only) == (URL, FROM_ENVIRONMENT, True)


def test_a_ready_token_needs_neither_id_nor_secret(files: Files) -> None:
    found = resolve(Options(broker_url=URL), {"DCV_SM_OAUTH2_TOKEN": "t"}, files)
    assert found.credentials is not None
    assert found.credentials.access_token == "t"


def test_the_official_file_is_read_as_it_is(files: Files, write: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "ca-bundle.pem").touch()
    write(
        conf=f"""
        [output]
        output-format = json
        debug = true
        [security]
        no-verify-ssl = false
        ca-bundle = ca-bundle.pem
        [authentication]
        auth-server-url = {URL}/oauth2/token?grant_type=client_credentials
        client-id = conf-id
        client-password = conf%secret
        [broker]
        url = {URL}
        """.replace("        ", "")
    )
    found = resolve(Options(), {}, files)
    token_url = f"{URL}/oauth2/token?grant_type=client_credentials"
    assert found.credentials == Credentials("conf-id", "conf%secret", token_url=token_url)
    assert found.trust == Trust(ca_file=tmp_path / "ca-bundle.pem")
    assert (found.output_format, found.debug, found.name) == ("json", True, "broker.example:8443")


def test_the_environment_overrides_the_official_file_name_by_name(
    files: Files, write: Callable[..., None]
) -> None:
    write(conf=CONF)
    found = resolve(Options(), KEYS | {"DCV_SM_AUTH_SERVER_URL": "https://tokens.example/t"}, files)
    assert found.credentials == Credentials("env-id", "env-secret", token_url="https://tokens.example/t")
    assert found.url == URL


def test_the_default_profile_is_stronger_than_the_official_file(
    files: Files, write: Callable[..., None], tmp_path: Path
) -> None:
    write(PROFILES, CONF)
    found = resolve(Options(), {}, files)
    assert (found.name, found.credentials) == ("prod", Credentials("prod-id", "prod-secret"))
    assert (found.trust, found.gateway) == (Trust(ca_file=tmp_path / "prod.pem"), "gw.example:8443")


def test_a_file_named_by_option_is_stronger_than_the_default_profile(
    files: Files, write: Callable[..., None]
) -> None:
    write(PROFILES, CONF)
    found = resolve(Options(conf=files.conf), {}, files)
    assert found.credentials == Credentials("conf-id", "conf%secret")


def test_a_profile_without_credentials_takes_those_of_the_environment(
    files: Files, write: Callable[..., None]
) -> None:
    write(f'[profiles.prod]\nurl = "{URL}"\n')
    found = resolve(Options(), KEYS, files)
    assert (found.name, found.url, found.credentials) == ("prod", URL, FROM_ENVIRONMENT)


def test_a_broker_that_asks_for_no_token(files: Files, write: Callable[..., None]) -> None:
    write(f'[profiles.open]\nurl = "{URL}"\nno_token = true\n')
    assert resolve(Options(), {}, files).credentials is None
    assert resolve(Options(profile="open"), {}, files).credentials is None


# ------------------------------------------------------------------ a named profile


@pytest.mark.parametrize(
    ("options", "environ"),
    [(Options(profile="test"), {}), (Options(), {"DCVTUI_PROFILE": "test"})],
)
def test_a_named_profile_brings_its_own_and_the_environment_is_ignored_with_one_line(
    files: Files, write: Callable[..., None], options: Options, environ: dict[str, str]
) -> None:
    write(PROFILES, CONF)
    environ |= KEYS | {"DCV_SM_BROKER_URL": "https://third.example", "DCV_SM_CA_BUNDLE": "/x.pem"}
    found = resolve(options, environ, files)
    assert (found.url, found.credentials) == (OTHER, Credentials("test-id", "test-secret"))
    assert (found.read_only, found.trust) == (True, Trust())
    [note] = found.notes
    assert "DCV_SM_BROKER_URL, DCV_SM_CLIENT_ID, DCV_SM_CLIENT_PASSWORD ignored" in note


def test_the_option_is_stronger_than_the_variable_that_names_a_profile(
    files: Files, write: Callable[..., None]
) -> None:
    write(PROFILES)
    assert resolve(Options(profile="prod"), {"DCVTUI_PROFILE": "test"}, files).name == "prod"


def test_an_unknown_profile_names_the_known_ones(files: Files, write: Callable[..., None]) -> None:
    write(PROFILES)
    error = failure(Options(profile="pord"), {}, files)
    assert "Known: prod, test" in error.sentence
    assert error.exit_code == 253


@pytest.mark.parametrize(
    ("profile", "missing"),
    [('client_id = "x"', "no url"), (f'url = "{URL}"', "no client_id or no client_secret")],
)
def test_a_profile_that_lacks_something_says_what(
    files: Files, write: Callable[..., None], profile: str, missing: str
) -> None:
    write(f"[profiles.prod]\n{profile}\n")
    assert missing in failure(Options(profile="prod"), {}, files).sentence


# ------------------------------------------------------------------ secrets stay where they belong


@pytest.mark.parametrize("options", [Options(broker_url=OTHER), Options(broker_url=OTHER, profile="prod")])
def test_a_stored_secret_is_not_sent_to_another_address(
    files: Files, write: Callable[..., None], options: Options
) -> None:
    write(PROFILES.replace("[profiles.test]", "[profiles.test]\n#").replace(OTHER, "https://third.example"))
    error = failure(options, {}, files)
    assert "is not sent there" in error.sentence
    assert error.exit_code == 253
    assert "prod-secret" not in error.sentence


def test_the_secret_of_the_official_file_is_not_sent_to_another_address(
    files: Files, write: Callable[..., None]
) -> None:
    write(conf=CONF)
    for environ, options in (({}, Options(broker_url=OTHER)), ({"DCV_SM_BROKER_URL": OTHER}, Options())):
        assert "is not sent there" in failure(options, environ, files).sentence


@pytest.mark.parametrize("same", [URL, URL + "/", "https://BROKER.example:8443"])
def test_the_same_address_finds_the_stored_secret(
    files: Files, write: Callable[..., None], same: str
) -> None:
    write(conf=CONF)
    found = resolve(Options(broker_url=same), {}, files)
    assert found.credentials == Credentials("conf-id", "conf%secret")


def test_an_address_given_with_a_file_that_has_none_uses_its_secret(
    files: Files, write: Callable[..., None]
) -> None:
    write(conf=CONF.replace(f"url = {URL}", ""))
    found = resolve(Options(broker_url=URL), {}, files)
    assert found.credentials == Credentials("conf-id", "conf%secret")


def test_a_stored_secret_is_not_sent_to_another_token_server(
    files: Files, write: Callable[..., None]
) -> None:
    write(
        PROFILES,
        CONF.replace("[authentication]", "[authentication]\nauth-server-url = https://tokens.example"),
    )
    elsewhere = "https://elsewhere.example/token"
    for options in (
        Options(auth_server=elsewhere, profile="prod"),
        Options(auth_server=elsewhere, conf=files.conf),
    ):
        assert "another token server" in failure(options, {}, files).sentence


def test_missing_credentials_say_which_variables_give_them(files: Files) -> None:
    for environ in ({}, {"DCV_SM_CLIENT_ID": "x"}, {"DCV_SM_CLIENT_PASSWORD": "x"}):
        error = failure(Options(broker_url=URL), environ, files)
        assert "DCV_SM_CLIENT_ID and DCV_SM_CLIENT_PASSWORD" in error.sentence
        assert error.exit_code == 253


def test_no_secret_shows_in_a_repr(files: Files) -> None:
    environ = KEYS | {"DCV_SM_BROKER_URL": URL, "DCV_SM_OAUTH2_TOKEN": "env-token"}
    shown = repr(resolve(Options(), environ, files))
    assert "env-secret" not in shown
    assert "env-token" not in shown


# ------------------------------------------------------------------ trust


PIN = "SHA256:" + ":".join(["AB"] * 32)


@pytest.mark.parametrize(
    ("options", "environ", "conf", "trust"),
    [
        (Options(ca_bundle=Path("o.pem")), {"DCV_SM_CA_BUNDLE": "e.pem"}, "", Trust(ca_file=Path("o.pem"))),
        (Options(), {"DCV_SM_CA_BUNDLE": "e.pem"}, "no-verify-ssl = true", Trust(ca_file=Path("e.pem"))),
        (Options(no_verify_ssl=True), {"DCV_SM_CA_BUNDLE": "e.pem"}, "", Trust(is_verified=False)),
        (Options(), {}, "no-verify-ssl = true", Trust(is_verified=False)),
        (Options(ca_bundle=Path("o.pem")), {}, "no-verify-ssl = true", Trust(ca_file=Path("o.pem"))),
        (Options(trust_fingerprint="ab" * 32), {}, "no-verify-ssl = true", Trust(fingerprint=PIN)),
    ],
)
def test_what_is_trusted(
    files: Files, options: Options, environ: dict[str, str], conf: str, trust: Trust
) -> None:
    files.conf.write_text(f"{CONF}[security]\n{conf}\n")
    found = resolve(options, environ, files)
    assert found.trust == trust
    assert bool(found.notes) is not trust.is_verified


def test_no_check_of_the_certificate_is_said_in_one_line_that_names_the_way_out(files: Files) -> None:
    [note] = resolve(Options(broker_url=URL, no_verify_ssl=True), KEYS, files).notes
    assert "--trust-fingerprint" in note
    assert "\n" not in note


def test_a_profile_with_a_pin_and_no_ca_file_trusts_the_pin(files: Files, write: Callable[..., None]) -> None:
    write(f'[profiles.p]\nurl = "{URL}"\nno_token = true\nfingerprint = "{PIN}"\n')
    assert resolve(Options(), {}, files).trust == Trust(fingerprint=PIN)
    write(f'[profiles.p]\nurl = "{URL}"\nno_token = true\nfingerprint = "{PIN}"\nca_file = "/ca.pem"\n')
    assert resolve(Options(), {}, files).trust == Trust(ca_file=Path("/ca.pem"))


def test_a_wrong_fingerprint_is_one_sentence(files: Files) -> None:
    error = failure(Options(broker_url=URL, trust_fingerprint="AB:CD"), KEYS, files)
    assert "64 hexadecimal digits" in error.sentence
    assert error.exit_code == 252


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("broker.example:8443", "write https://broker.example:8443"),
        ("http://broker.example:8443", "begins with http://"),
        ("ftp://broker.example", "begins with ftp://"),
        ("https://", "is not a URL"),
        ("https://a:port", "is not a URL"),
        ("https://a:99999", "is not a URL"),
        ("https://a b", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("https://a\x1b[2J", "␛[2J"),
        ("https://a/?x=1", "'?' or '#'"),
        ("https://a/#x", "'?' or '#'"),
    ],
)
def test_an_address_that_is_none_says_why_and_where_it_came_from(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(text, "--broker-url")
    assert words in caught.value.sentence
    assert "--broker-url" in caught.value.sentence


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="user or password") as caught:
        check_url("https://ana:hunter2@broker.example", "--broker-url")
    assert "hunter2" not in caught.value.sentence


@pytest.mark.parametrize("url", ["https://[fd00::1]:8443", "https://broker", "HTTPS://broker:1/base"])
def test_a_good_address_passes(url: str) -> None:
    assert check_url(url + "/", "x") == url


def test_a_wrong_address_is_a_wrong_value_on_the_command_line_and_else_a_wrong_environment(
    files: Files,
) -> None:
    assert failure(Options(broker_url="nonsense"), KEYS, files).exit_code == 252
    assert failure(Options(), KEYS | {"DCV_SM_BROKER_URL": "nonsense"}, files).exit_code == 253


def test_the_standard_places_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = Files.standard({"XDG_CONFIG_HOME": str(tmp_path)})
    assert found == Files(tmp_path / "dcvtui" / "profiles.toml", tmp_path / "dcvsmcli.conf")
    assert Files.standard({}).conf == tmp_path / "home" / ".config" / "dcvsmcli.conf"
