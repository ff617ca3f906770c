"""What the administration socket answers about the broker itself: state, reload, certificates.

The commands are in `broker_stub.service_commands`; access to the socket is checked
before anything here is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker_stub.broker.listener_tls import ListenerTls
from broker_stub.broker.reload import Reload
from broker_stub.broker.settings_file import SettingsError


def service_routes(
    status: Callable[[], Mapping[str, Any]], reload: Callable[[], Awaitable[Reload]], tls: ListenerTls
) -> Sequence[Route]:
    """The paths of the administration socket that this module answers.

    Args:
        status: How the broker is.
        reload: Reads its file again.
        tls: Its certificates.
    """

    async def describe(_request: Request) -> Response:
        return JSONResponse(status())

    async def read_again(_request: Request) -> Response:
        try:
            found = await reload()
        except SettingsError as error:
            return JSONResponse({"error": "; ".join(error.problems)}, 400)
        return JSONResponse({"changed": found.changed, "needsRestart": found.needs_restart})

    async def issue(_request: Request) -> Response:
        await asyncio.to_thread(tls.renew, anew=True)
        return JSONResponse({"daysLeft": tls.days_left()})

    return [
        Route("/status", describe, methods=["GET"]),
        Route("/reload", read_again, methods=["POST"]),
        Route("/certificates", issue, methods=["POST"]),
    ]
