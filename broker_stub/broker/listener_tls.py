"""The TLS side of the listeners: which certificate each shows, and its renewal while connections stay open.

A listener shows the administrator's key store if its settings name one, else the
generated certificate. New files are taken without a restart; connections that are
open keep the certificate they began with.
"""

import contextlib
import logging
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from broker_stub.broker import certificates
from broker_stub.broker.certificates import Certificates, OwnCa
from broker_stub.broker.key_stores import Identity, KeyStoreError, read_identity, read_trusted
from broker_stub.broker.settings import Settings

logger = logging.getLogger(__name__)

_EXPIRY_WARNING_DAYS = 30
_DAY_S = 86_400


@dataclass(slots=True)
class _Shown:
    """What one listener shows."""

    name: str
    context: ssl.SSLContext
    key_store: Path | None
    password: SecretStr | None
    certificate: x509.Certificate
    kind: type


class ListenerTls:
    """The TLS contexts of all listeners that the settings enable.

    Args:
        settings: Which key stores, names and CA.
        now: The clock.

    Raises:
        KeyStoreError: a file of the administrator cannot be used.
        OSError: the working path cannot be written.

    Attributes:
        files: The generated certificate.
    """

    def __init__(self, settings: Settings, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._turn = threading.Lock()
        self._folder = settings.files.working_path / "security"
        self.files = self._generated(settings.tls.extra_names, anew=False)
        self._shown: dict[str, _Shown] = {}
        self._show("client", settings.client.key_store_file, settings.client.key_store_pass)
        self._show("agent", settings.agent.key_store_file, settings.agent.key_store_pass)
        if settings.gateway.enabled:
            self._show("gateway", settings.gateway.key_store_file, settings.gateway.key_store_pass)
            self._ask_gateway()

    @property
    def ca_file(self) -> Path:
        """What clients trust, unless a listener has a key store of its own."""
        return self.files.ca_file

    @property
    def client(self) -> ssl.SSLContext:
        """The context of the listener for API clients."""
        return self._shown["client"].context

    @property
    def agent(self) -> ssl.SSLContext:
        """The context of the listener for agents."""
        return self._shown["agent"].context

    @property
    def gateway(self) -> ssl.SSLContext:
        """The context of the listener for gateways, if that is enabled."""
        return self._shown["gateway"].context

    def renew(self, *, anew: bool = False) -> None:
        """Take new files: a certificate near its end is made again, changed key stores are read again.

        What cannot be read is logged, and the listener goes on with what it shows. Blocks for
        as long as this host's name server does and may run in a thread.

        Args:
            anew: Make a new generated certificate in any case.
        """
        with self._turn:
            self._renew(anew=anew)

    def _renew(self, *, anew: bool) -> None:
        try:
            self.files = self._generated(self._settings.tls.extra_names, anew=anew)
        except (OSError, KeyStoreError) as error:
            logger.warning("The server certificate cannot be renewed: %s.", str(error).rstrip("."))
        for shown in self._shown.values():
            try:
                identity = self._identity(shown.key_store, shown.password)
            except KeyStoreError as error:
                logger.warning("The %s listener keeps its certificate: %s", shown.name, error)
                continue
            self._take(shown, identity)

    def days_left(self) -> dict[str, float]:
        """Days until the certificate of each listener ends."""
        now = self._now()
        return {
            name: (shown.certificate.not_valid_after_utc - now).total_seconds() / _DAY_S
            for name, shown in self._shown.items()
        }

    def warn_of_ends(self) -> None:
        """Log which certificates end soon and are not renewed by themselves."""
        for name, days in self.days_left().items():
            if self._shown[name].key_store is not None and days < _EXPIRY_WARNING_DAYS:
                logger.warning("The certificate of the %s listener ends in %d days.", name, days)

    def _generated(self, extra_names: Iterable[str], *, anew: bool) -> Certificates:
        tls = self._settings.tls
        own_ca = None
        if tls.ca_cert_file is not None and tls.ca_key_file is not None:
            own_ca = OwnCa(tls.ca_cert_file, tls.ca_key_file)
        names = certificates.local_names(extra_names)
        return certificates.prepare(self._settings.files.working_path, names, self._now(), own_ca, anew=anew)

    def _identity(self, key_store: Path | None, password: SecretStr | None) -> Identity:
        if key_store is None:
            return self.files.identity()
        return read_identity(key_store, password.get_secret_value() if password else None, self._now())

    def _show(self, name: str, key_store: Path | None, password: SecretStr | None) -> None:
        identity = self._identity(key_store, password)
        context = server_context()
        identity.load_into(context, self._folder)
        self._shown[name] = _Shown(name, context, key_store, password, identity.certificate, identity.kind)

    def _take(self, shown: _Shown, identity: Identity) -> None:
        if identity.certificate == shown.certificate:
            return
        if identity.kind is not shown.kind:
            # TLS keeps one certificate for each kind of key: the old one would still be shown to some.
            logger.warning(
                "The new certificate of the %s listener has another kind of key; restart to use it.",
                shown.name,
            )
            return
        identity.load_into(shown.context, self._folder)
        shown.certificate = identity.certificate
        logger.info(
            "The %s listener shows a certificate that is valid until %s.",
            shown.name,
            identity.certificate.not_valid_after_utc.date(),
        )

    def _ask_gateway(self) -> None:
        gateway = self._settings.gateway
        if not gateway.require_client_certificate or gateway.trust_store_file is None:
            return
        password = gateway.trust_store_pass
        trusted = read_trusted(gateway.trust_store_file, password.get_secret_value() if password else None)
        context = self._shown["gateway"].context
        context.verify_mode = ssl.CERT_REQUIRED
        for certificate in trusted:
            with contextlib.suppress(ssl.SSLError):  # the same one twice
                context.load_verify_locations(cadata=certificate.public_bytes(serialization.Encoding.DER))


def server_context() -> ssl.SSLContext:
    """A TLS context for a listener, without a certificate yet: TLS 1.2 or newer, HTTP/1.1 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
