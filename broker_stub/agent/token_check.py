"""Asks the broker whether a connection token is good, and for whom, as a DCV server does.

The form goes to the broker's agent port without credentials (broker specification,
7). The token is a secret of the person who connects: it is in the body of the
request and in no message or log.
"""

import ssl
from collections.abc import Callable
from xml.etree import ElementTree

import httpx

from broker_stub.channel import NotUnderstood, TimedOut, Unreachable

VERIFIER_PATH = "/agent/validate-authentication-token"
_LONGEST_ANSWER = 16 * 1024
_LONGEST_USER = 256


class TokenCheck:
    """The question to one broker.

    Args:
        url: Where it is asked.
        tls: The TLS context to ask with; may change when its CA file does.
        limit_s: How long an answer may take.
    """

    def __init__(self, url: str, tls: Callable[[], ssl.SSLContext], limit_s: float = 8.0) -> None:
        self._url = url
        self._tls = tls
        self._limit_s = limit_s

    async def user_of(self, session_id: str, token: str, client_address: str) -> str | None:
        """The user a token stands for in a session, `None` if the broker does not take it.

        Raises:
            ChannelError: the broker cannot be asked, or its answer means nothing.
        """
        form = {"sessionId": session_id, "authenticationToken": token, "clientAddress": client_address}
        try:
            async with httpx.AsyncClient(
                verify=self._tls(), timeout=self._limit_s, trust_env=False, follow_redirects=False
            ) as client:
                answer = await client.post(self._url, data=form)
        except httpx.TimeoutException:
            raise TimedOut(f"The broker did not answer within {self._limit_s:g} s") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"The broker cannot be asked about a token: {type(error).__name__}") from None
        if answer.status_code == httpx.codes.BAD_REQUEST:
            return None  # nothing that could be a token
        if answer.status_code != httpx.codes.OK or len(answer.content) > _LONGEST_ANSWER:
            raise NotUnderstood(f"The broker answered a token check with status {answer.status_code}")
        return read_verdict(answer.content)


def read_verdict(body: bytes) -> str | None:
    """The user in the answer to a token check, `None` for "no".

    Raises:
        NotUnderstood: it is neither.
    """
    try:
        if b"<!" in body:  # no entities, whatever the parser would make of them
            raise NotUnderstood("The answer to a token check has a document type")
        verdict = ElementTree.fromstring(body)  # noqa: S314  see above, and the sender is the broker
    except ElementTree.ParseError:
        raise NotUnderstood("The answer to a token check is not XML") from None
    result = verdict.get("result") if verdict.tag == "auth" else None
    if result == "no":
        return None
    user = verdict.findtext("username")
    if result != "yes" or not user or len(user) > _LONGEST_USER:
        raise NotUnderstood("The answer to a token check says neither yes with a user nor no")
    return user
