"""Settings from the properties file: keys, defaults, warnings, refusals."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker_stub.broker.key_stores import problems_of
from broker_stub.broker.settings import Settings
from broker_stub.broker.settings_file import SettingsError, load_file, load_values
from broker_stub.broker.settings_keys import IGNORED, KNOWN_KEYS, MAPPED, REFUSED, Treatment, treatment_of
from tests.broker.installed_settings import INSTALLED


def write(folder: Path, text: str, mode: int = 0o640) -> Path:
    path = folder / "broker.properties"
    path.write_text(text)
    path.chmod(mode)
    return path


def problems(**values: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_values({key.replace("_", "-"): value for key, value in values.items()})
    return caught.value.problems


@pytest.mark.covers("B1")
def test_a_file_of_the_original_product_loads(tmp_path: Path) -> None:
    """A file as installers of the original product write it loads without an error and keeps its values."""
    loaded = load_file(write(tmp_path, INSTALLED))
    settings = loaded.settings
    assert settings.client.https_port == 8446
    assert settings.sessions.connection_token_minutes == 1440
    assert settings.sessions.deleted_kept_s == 0
    assert not any("Unknown" in warning for warning in loaded.warnings)


@pytest.mark.covers("B2")
def test_all_63_keys_are_known_and_ignored_ones_warn_once() -> None:
    """Every key of the original product is known; each without effect here gets exactly one warning."""
    assert sum(not key.startswith("ext-") for key in KNOWN_KEYS) == 63
    warnings = load_values(dict.fromkeys(IGNORED, "1")).warnings
    for key in IGNORED:
        assert sum(warning.startswith(f"{key} has no effect") for warning in warnings) == 1


@pytest.mark.covers("B2")
def test_an_unknown_key_warns_with_the_nearest_known_one() -> None:
    """An unknown key warns with the nearest known one and does not stop the start."""
    warnings = load_values({"create-session-queue-max-size": "3"}).warnings
    assert (
        "Unknown key create-session-queue-max-size; did you mean create-sessions-queue-max-size?" in warnings
    )


@pytest.mark.covers("B3")
def test_all_problems_are_reported_together() -> None:
    """Everything wrong with the values is reported at once, with key, value and what would be right."""
    found = problems(
        client_to_broker_connector_https_port="70000",
        enable_authorization="perhaps",
        session_screenshot_format="bmp",
        session_screenshot_max_width="0",
        agent_to_broker_connector_bind_host="nowhere",
        create_sessions_queue_max_size="many",
        enable_persistence="true",
    )
    assert len(found) == 7
    assert any("enable-authorization = 'perhaps': must be true or false." in each for each in found)
    assert any("session-screenshot-format = 'bmp': must be 'png' or 'jpeg'." in each for each in found)
    assert any("create-sessions-queue-max-size = 'many': must be a whole number." in each for each in found)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
@pytest.mark.covers("B4")
def test_a_file_others_can_use_stops_the_start(tmp_path: Path, mode: int) -> None:
    """A file that others can read, or its group can write, stops the start unless that is allowed."""
    path = write(tmp_path, "enable-gateway = false", mode)
    with pytest.raises(SettingsError, match=f"mode {mode:04o}"):
        load_file(path)
    assert any(f"mode {mode:04o}" in warning for warning in load_file(path, allow_insecure=True).warnings)
    path.write_text("ext-allow-insecure-config = true")
    assert any(f"mode {mode:04o}" in warning for warning in load_file(path).warnings)


@pytest.mark.covers("B5")
def test_the_older_key_works_alone_and_loses_against_the_newer() -> None:
    """The retention of deleted sessions in hours works alone and loses against the one in seconds."""
    hours, seconds = "delete-session-duration-hours", "delete-session-duration-seconds"
    assert load_values({hours: "2"}).settings.sessions.deleted_kept_s == 7200
    both = load_values({hours: "2", seconds: "5"})
    assert both.settings.sessions.deleted_kept_s == 5
    assert any(hours in warning for warning in both.warnings)


@pytest.mark.covers("B6")
def test_unreachable_servers_stay_at_least_a_minute() -> None:
    """Unreachable servers are kept for at least 60 seconds: 59 is refused, 60 accepted."""
    key = "seconds_before_deleting_unreachable_dcv_server"
    assert "greater than or equal to 60" in problems(**{key: "59"})[0]
    assert load_values({key.replace("_", "-"): "60"}).settings.sessions.unreachable_server_kept_s == 60


@pytest.mark.covers("B12")
def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    """The password of a store does not appear in the sentence about the store."""
    (tmp_path / "x.p12").write_bytes(b"\x30\x82nonsense")
    path = write(
        tmp_path,
        f"agent-to-broker-connector-key-store-file = {tmp_path / 'x.p12'}\n"
        "agent-to-broker-connector-key-store-pass = s3cr3t\n"
        "client-to-broker-connector-https-port = many\n",
    )
    with pytest.raises(SettingsError) as caught:
        load_file(path, check=lambda values: problems_of(values, datetime.now(UTC)))
    assert len(caught.value.problems) == 2
    assert "the password is wrong" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in repr(load_values({"agent-to-broker-connector-key-store-pass": "s3cr3t"}))


def test_sessions_never_outlive_their_unreachable_server() -> None:
    loaded = load_values(
        {
            "seconds-before-deleting-unreachable-dcv-server": "60",
            "seconds-before-deleting-sessions-unreachable-server": "900",
        }
    )
    assert loaded.settings.sessions.unreachable_sessions_kept_s == 60
    assert any("limited to 60" in warning for warning in loaded.warnings)


def test_what_would_be_missed_badly_is_refused() -> None:
    assert "single broker" in problems(broker_to_broker_discovery_AWS_region="eu-west-1")[0]
    assert "10.0.0.9" in problems(broker_to_broker_discovery_addresses="127.0.0.1:47500,10.0.0.9:47500")[0]
    assert "SQLite" in problems(enable_persistence="true", persistence_db="mysql")[0]
    assert "ext-tls-ca-key-file" in problems(ext_tls_ca_cert_file="/ca.pem")[0]
    asked = problems(enable_gateway="true", enable_tls_client_auth_gateway="true")
    assert "gateway-to-broker-connector-trust-store-file" in asked[0]


def test_addresses_of_this_host_are_no_second_broker() -> None:
    addresses = f"127.0.0.1:47500,[::1]:47500,localhost:47500,{socket.gethostname()}:47500"
    assert load_values({"broker-to-broker-discovery-addresses": addresses})


@pytest.mark.covers("B2")
def test_every_key_has_one_treatment() -> None:
    """Every key of the original product is honoured, mapped, ignored or refused: none is left for later."""
    for key in KNOWN_KEYS:
        treatment = treatment_of(key)
        assert (treatment is Treatment.OURS) == key.startswith("ext-")
    assert not IGNORED.keys() & (MAPPED.keys() | REFUSED.keys())


def test_logs_of_a_broker_with_its_own_working_path_lie_in_it() -> None:
    own = load_values({"session-manager-working-path": "/srv/broker"}).settings.running.log_path
    assert own == Path("/srv/broker/log")
    service = load_values({"session-manager-working-path": "/var/lib/dcvsmbroker"}).settings.running.log_path
    assert service == Path("/var/log/dcv-session-manager-broker")


@pytest.mark.covers("B2")
def test_the_database_may_be_a_file_of_ones_own() -> None:
    """A JDBC address names a SQLite file; what a file has no use for warns; other databases are refused."""
    values = {
        "enable-persistence": "true",
        "persistence-db": "sqlite",
        "jdbc-connection-url": "jdbc:sqlite:/srv/data/broker.db?createDatabaseIfNotExist=true&cache=shared",
        "jdbc-user": "broker",
        "jdbc-password": "s3cr3t",
    }
    loaded = load_values(values)
    assert loaded.settings.files.database_file == Path("/srv/data/broker.db")
    said = [warning for warning in loaded.warnings if "the database is a file" in warning]
    assert [warning.partition(" has")[0] for warning in said] == [
        "jdbc-user",
        "jdbc-password",
        "jdbc-connection-url: cache",
    ]
    assert "s3cr3t" not in str(loaded.warnings)
    wrong = problems(
        enable_persistence="true", persistence_db="sqlite", jdbc_connection_url="jdbc:mysql://db/x"
    )
    assert "must be jdbc:sqlite:/PATH" in wrong[0]
    unused = load_values(values | {"enable-persistence": "false", "jdbc-connection-url": "jdbc:mysql://db/x"})
    assert unused.settings.files.database_file is None
    for database in ("mysql", "dynamodb", ""):
        (refused,) = problems(
            enable_persistence="true", persistence_db=database, jdbc_connection_url="jdbc:x"
        )
        assert "sqlite" in refused


def test_an_empty_value_is_not_set() -> None:
    assert load_values({"client-to-broker-connector-https-port": ""}).settings.client.https_port == 8443


def test_the_last_of_equal_keys_counts_and_is_mentioned(tmp_path: Path) -> None:
    path = write(tmp_path, "enable-api-yaml = true\nenable-api-yaml = FALSE")
    loaded = load_file(path)
    assert not loaded.settings.client.enable_api_yaml
    assert any("line 2" in warning for warning in loaded.warnings)


def test_switching_authorization_off_is_said_loudly() -> None:
    assert any("ATTENTION" in each for each in load_values({"enable-authorization": "false"}).warnings)


def test_a_missing_or_unreadable_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_file(tmp_path / "nothing")
    (tmp_path / "binary").write_bytes(b"\x30\x82\x00\x01")
    with pytest.raises(SettingsError, match="it is no text"):
        load_file(tmp_path / "binary")


@pytest.mark.covers("B1")
def test_a_file_in_the_encoding_of_java_loads(tmp_path: Path) -> None:
    """A comment or value in Latin-1, which Java reads, does not keep a file from loading."""
    path = write(tmp_path, "")
    path.write_bytes("# geändert\nmetrics-fleet-name-dimension = köln\n".encode("latin-1"))
    loaded = load_file(path)
    assert loaded.settings.running.fleet_name == "köln"
    assert any("read as Latin-1" in warning for warning in loaded.warnings)
    path.write_bytes("metrics-fleet-name-dimension = köln\n".encode())
    assert load_file(path).settings.running.fleet_name == "köln"
    path.write_text("metrics-fleet-name-dimension = k\\u00f6ln\n")
    assert load_file(path).settings.running.fleet_name == "köln"


def test_every_setting_is_documented() -> None:
    for topic in Settings.model_fields.values():
        for name, field in type(topic.default).model_fields.items():
            assert field.description, name
