"""What the parts of a broker need to know of its settings, each in its own words."""

from pathlib import Path

from broker_stub.broker.events import Rules
from broker_stub.broker.external_tokens import Demands
from broker_stub.broker.http_api import ApiRules
from broker_stub.broker.operations import ScreenshotRules
from broker_stub.broker.settings import Settings

_DEFINITION = Path(__file__).with_name("dcv-session-manager-api.yaml")


def rules_of(settings: Settings) -> Rules:
    """What the registry needs to know of the settings."""
    sessions = settings.sessions
    return Rules(
        queue_max_size=sessions.queue_max_size,
        queue_max_time_s=sessions.queue_max_time_s,
        retries_on_failure=sessions.retries_on_failure,
        create_deadline_s=sessions.create_deadline_s,
        deleted_session_kept_s=sessions.deleted_kept_s,
        unreachable_server_kept_s=sessions.unreachable_server_kept_s,
        unreachable_sessions_kept_s=sessions.unreachable_sessions_kept_s,
        agent_loss_grace_s=settings.agent.loss_grace_s,
        autorun_arguments_max=sessions.autorun_arguments_max,
        autorun_argument_length_max=sessions.autorun_argument_length_max,
    )


def demands_of(settings: Settings) -> Demands:
    """What tokens of external authorization servers must say."""
    asked = settings.authorization
    return Demands(asked.external_issuers, asked.external_audiences, asked.external_scopes)


def screenshot_rules_of(settings: Settings) -> ScreenshotRules:
    """What a screenshot request gets when it does not say."""
    client = settings.client
    return ScreenshotRules(
        client.screenshot_max_width, client.screenshot_max_height, client.screenshot_format
    )


def api_rules_of(settings: Settings) -> ApiRules:
    """What the client listener lets through."""
    client, authorization = settings.client, settings.authorization
    return ApiRules(
        needs_token=authorization.enable_authorization,
        issues_tokens=authorization.enable_authorization_server,
        trusts_forwarded_for=client.throttle_by_forwarded_for,
        definition=_DEFINITION.read_bytes() if client.enable_api_yaml else None,
    )
