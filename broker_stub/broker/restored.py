"""What a broker takes over from its store when it starts: the fleet, clients and keys, trusted servers."""

import base64
import gc
import logging
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime

from broker_stub.broker.events import Rules
from broker_stub.broker.external_tokens import ExternalServers
from broker_stub.broker.key_sets import fetch_document
from broker_stub.broker.oauth import Tokens
from broker_stub.broker.page_tokens import PageTokens
from broker_stub.broker.registry import Registry
from broker_stub.broker.rules import demands_of
from broker_stub.broker.settings import Settings
from broker_stub.broker.store import SigningKey, Store

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


async def restored_registry(store: Store, rules: Rules, now: Clock) -> Registry:
    """The fleet as it was."""
    registry = Registry(rules)
    # A fleet is a million objects that live on: collecting while they appear costs more than they do.
    gc.disable()
    try:
        registry.restore(await store.load(), now())
    finally:
        gc.enable()
    return registry


async def restored_tokens(store: Store, settings: Settings, now: Clock) -> Tokens:
    """Clients, agents, statements and keys; warns while the statement that everybody knows is good."""
    authorization = settings.authorization
    tokens = await Tokens.load(
        store,
        access_token_s=authorization.access_token_s,
        connection_token_s=settings.sessions.connection_token_minutes * 60,
        accept_default_statement=not authorization.reject_default_statement,
        now=now,
    )
    if authorization.enable_agent_authorization and tokens.statements.is_default_active:
        logger.warning(
            "Agents may register with the software statement that every installation knows; "
            "ext-reject-default-software-statement = true refuses it, and so does "
            "deactivate-software-statement."
        )
    return tokens


async def restored_servers(store: Store, settings: Settings, now: Clock) -> ExternalServers:
    """The external authorization servers that are trusted."""
    return ExternalServers(
        await store.auth_servers(),
        store.save_auth_server,
        store.remove_auth_server,
        fetch_document,
        now,
        demands_of(settings),
    )


async def restored_page_tokens(store: Store, now: Clock) -> PageTokens:
    """Page tokens with the secret that was made once: they survive a restart."""
    keys = await store.signing_keys("page")
    if not keys:
        text = base64.b64encode(secrets.token_bytes(32)).decode()
        keys = [SigningKey(uuid.uuid4().hex, "page", text, now())]
        await store.save_signing_key(keys[0])
    return PageTokens(base64.b64decode(keys[-1].pem))
