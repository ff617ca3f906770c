"""What can go wrong between a person and a broker, as sentences a person can act on.

    ProgramError
    ├── ConfigError         options, environment or files do not say what to talk to, or wrongly
    └── BrokerError         a request did not get the answer it was made for
        ├── Unreachable     name, connection or TLS: nothing was understood on the other side
        ├── NotTrusted      the certificate is not the one to trust; nothing was sent
        ├── NotAuthorized   the broker does not accept the client id, secret or token
        ├── Refused         the broker answered with an error; carries its text and request id
        ├── TimedOut        no answer in time
        └── NotUnderstood   an answer came that no broker gives

Each says what failed, why as far as known, and what to do. None of them holds a
secret or a token. This module loads nothing heavy: the console needs it before
its first paint.
"""


class ProgramError(Exception):
    """An expected failure: shown as its sentence, never as a traceback.

    Attributes:
        sentence: what failed, why, and what to do.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class ConfigError(ProgramError):
    """The configuration does not lead to a broker.

    Attributes:
        exit_code: of the command line, section 4.3 of its specification: 1 for a file that is missing
            or damaged, 252 for an option's value, 253 for environment and configuration as a whole.
        is_first_run: nothing is configured at all, so that asking for it is the way on.
    """

    def __init__(self, sentence: str, exit_code: int = 253, *, is_first_run: bool = False) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.is_first_run = is_first_run


class BrokerError(ProgramError):
    """A request did not get the answer it was made for.

    Attributes:
        was_sent: the request may have reached the broker and no answer says what became of it.
            What such a request changed is not known.
    """

    def __init__(self, sentence: str, *, was_sent: bool = False) -> None:
        super().__init__(sentence)
        self.was_sent = was_sent


class Unreachable(BrokerError):  # noqa: N818  named for what happened
    """The broker could not be reached, or the connection ended before an answer."""


class NotTrusted(BrokerError):  # noqa: N818  named for what happened
    """The certificate is not trusted, and therefore nothing was sent.

    Attributes:
        fingerprint: of the certificate offered, as `SHA256:AB:CD:…`; empty when it could not be read.
        reason: why it is not trusted.
    """

    def __init__(self, sentence: str, *, fingerprint: str = "", reason: str = "") -> None:
        super().__init__(sentence)
        self.fingerprint = fingerprint
        self.reason = reason


class NotAuthorized(BrokerError):  # noqa: N818  named for what happened
    """The client id, the secret or the token is not accepted.

    Attributes:
        reason: why, in a few words where they say more than the sentence to whoever just typed them.
    """

    def __init__(self, sentence: str, *, reason: str = "", was_sent: bool = False) -> None:
        super().__init__(sentence, was_sent=was_sent)
        self.reason = reason


class Refused(BrokerError):  # noqa: N818  named for what happened
    """The broker answered with an error.

    Attributes:
        status: of HTTP.
        text: the broker's own words, control characters made visible.
        request_id: of the answer, where it has one.
        retry_after_s: how long the broker asks to wait, where it says so.
    """

    def __init__(
        self,
        sentence: str,
        *,
        status: int,
        text: str,
        request_id: str = "",
        retry_after_s: float | None = None,
        was_sent: bool = False,
    ) -> None:
        super().__init__(sentence, was_sent=was_sent)
        self.status = status
        self.text = text
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class TimedOut(BrokerError):  # noqa: N818  named for what happened
    """No answer in time."""


class NotUnderstood(BrokerError):  # noqa: N818  named for what happened
    """The answer is not one that a broker gives: another program answers at this address."""
