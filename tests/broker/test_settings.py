"""Settings from the properties file: keys, defaults, warnings, refusals (B1 to B7, B12)."""

from pathlib import Path

import pytest

from broker_stub.broker.settings import Settings
from broker_stub.broker.settings_file import IGNORED, KNOWN_KEYS, SettingsError, load_file, load_values

# As installers write it: what the shipped file sets, with other discovery forms and databases commented out.
UPSTREAM = """
# session manager working path
session-manager-working-path = /var/lib/dcvsmbroker
# enable-api-yaml = true
client-to-broker-connector-https-port = 8446
client-to-broker-connector-bind-host = 0.0.0.0
agent-to-broker-connector-https-port = 8445
agent-to-broker-connector-bind-host = 0.0.0.0
enable-gateway = true
gateway-to-broker-connector-https-port = 8447
gateway-to-broker-connector-bind-host = 0.0.0.0
enable-authorization-server = true
enable-authorization = true
enable-agent-authorization = true
broker-to-broker-port = 47100
cli-to-broker-port = 47200
broker-to-broker-bind-host = 0.0.0.0
broker-to-broker-discovery-port = 47500
broker-to-broker-discovery-addresses = 127.0.0.1:47500
# broker-to-broker-discovery-multicast-group = 127.0.0.1
# broker-to-broker-discovery-AWS-region = us-east-1
broker-to-broker-distributed-memory-max-size-mb = 4096
broker-to-broker-connection-login = dcvsm-user
broker-to-broker-connection-pass = dcvsm-pass
enable-persistence = false
# persistence-db = dynamodb
delete-session-duration-hours = 0
connect-session-token-duration-minutes = 1440
metrics-fleet-name-dimension = default
enable-cloud-watch-metrics = false
"""


def write(folder: Path, text: str, mode: int = 0o640) -> Path:
    path = folder / "broker.properties"
    path.write_text(text)
    path.chmod(mode)
    return path


def problems(**values: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_values({key.replace("_", "-"): value for key, value in values.items()})
    return caught.value.problems


def test_b1_a_file_of_the_original_product_loads(tmp_path: Path) -> None:
    loaded = load_file(write(tmp_path, UPSTREAM))
    settings = loaded.settings
    assert settings.client.https_port == 8446
    assert settings.sessions.connection_token_minutes == 1440
    assert settings.sessions.deleted_kept_s == 0
    assert not any("Unknown" in warning for warning in loaded.warnings)


def test_b2_all_63_keys_are_known_and_ignored_ones_warn_once() -> None:
    assert sum(not key.startswith("ext-") for key in KNOWN_KEYS) == 63
    warnings = load_values(dict.fromkeys(IGNORED, "1")).warnings
    for key in IGNORED:
        assert sum(warning.startswith(f"{key} has no effect") for warning in warnings) == 1


def test_b2_an_unknown_key_warns_with_the_nearest_known_one() -> None:
    warnings = load_values({"create-session-queue-max-size": "3"}).warnings
    assert (
        "Unknown key create-session-queue-max-size; did you mean create-sessions-queue-max-size?" in warnings
    )


def test_b3_all_problems_are_reported_together() -> None:
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
def test_b4_a_file_others_can_use_stops_the_start(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, "enable-gateway = false", mode)
    with pytest.raises(SettingsError, match=f"mode {mode:04o}"):
        load_file(path)
    assert any(f"mode {mode:04o}" in warning for warning in load_file(path, allow_insecure=True).warnings)
    path.write_text("ext-allow-insecure-config = true")
    assert any(f"mode {mode:04o}" in warning for warning in load_file(path).warnings)


def test_b5_the_older_key_works_alone_and_loses_against_the_newer() -> None:
    hours, seconds = "delete-session-duration-hours", "delete-session-duration-seconds"
    assert load_values({hours: "2"}).settings.sessions.deleted_kept_s == 7200
    both = load_values({hours: "2", seconds: "5"})
    assert both.settings.sessions.deleted_kept_s == 5
    assert any(hours in warning for warning in both.warnings)


def test_b6_unreachable_servers_stay_at_least_a_minute() -> None:
    key = "seconds_before_deleting_unreachable_dcv_server"
    assert "greater than or equal to 60" in problems(**{key: "59"})[0]
    assert load_values({key.replace("_", "-"): "60"}).settings.sessions.unreachable_server_kept_s == 60


def test_b12_a_wrong_secret_is_not_shown() -> None:
    found = problems(
        agent_to_broker_connector_key_store_file="x.p12", agent_to_broker_connector_key_store_pass="s3cr3t"
    )
    assert len(found) == 1
    assert "s3cr3t" not in found[0]


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
    assert "key stores" in problems(client_to_broker_connector_key_store_file="/x.p12")[0]


def test_what_does_nothing_yet_says_so() -> None:
    warnings = load_values({"enable-gateway": "true", "ext-metrics-port": "9000"}).warnings
    assert sum("has no effect yet" in warning for warning in warnings) == 2


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
    (tmp_path / "latin").write_bytes(b"a = \xe9")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_file(tmp_path / "latin")


def test_every_setting_is_documented() -> None:
    for topic in Settings.model_fields.values():
        for name, field in type(topic.default).model_fields.items():
            assert field.description, name
