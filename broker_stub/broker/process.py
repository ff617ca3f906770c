"""The broker as a process: the one owner of the signals, the ready notice, the exit status."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from broker_stub.broker.garbage import keep_collections_short
from broker_stub.broker.service import Broker
from broker_stub.broker.settings import Settings
from broker_stub.broker.settings_file import Loaded, SettingsError
from broker_stub.broker.sockets import ListenError
from broker_stub.broker.store import StoreTooNew, StoreUnavailable

logger = logging.getLogger(__name__)

_EXIT_OK = 0
_EXIT_FAILED = 1
_EXIT_CONFIGURATION = 78


def run(settings: Settings, ready_fd: int | None = None, reread: Callable[[], Loaded] | None = None) -> int:
    """Run a broker until SIGTERM or SIGINT; SIGHUP lets it read its file again.

    Args:
        settings: What it was told.
        reread: Reads the configuration file again.
        ready_fd: A descriptor that gets one JSON line with the addresses when the broker is ready.

    Returns:
        The exit status of the process.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings, ready_fd, reread))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        # It takes a third less CPU per request, but there is none for some platforms.
        import uvloop  # noqa: PLC0415  may be missing
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run(settings: Settings, ready_fd: int | None, reread: Callable[[], Loaded] | None) -> int:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    broker = Broker(settings, reread=reread)
    try:
        await broker.start()
    except (SettingsError, StoreTooNew) as error:
        logger.error("%s", error)  # noqa: TRY400  the sentence is all there is to say
        return _EXIT_CONFIGURATION
    except (ListenError, StoreUnavailable) as error:
        logger.error("%s", error)  # noqa: TRY400  the sentence is all there is to say
        return _EXIT_FAILED
    reloads: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGHUP, lambda: _begin(_reload(broker), reloads))
    sparing = asyncio.create_task(keep_collections_short())
    logger.info(
        "Ready: clients at %s, agents at %s, CA %s.", broker.client_url, broker.agent_url, broker.ca_file
    )
    if ready_fd is not None:
        _give_notice(ready_fd, broker)
    _tell_systemd("READY=1")
    status = await _until(told, broker)
    logger.info("Stopping.")
    _tell_systemd("STOPPING=1")
    await broker.stop()
    sparing.cancel()
    return status


def _begin(work: Coroutine[Any, Any, None], running: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    running.add(task)
    task.add_done_callback(running.discard)


async def _reload(broker: Broker) -> None:
    try:
        await broker.reload()
    except SettingsError as error:
        logger.error("The configuration stays as it was: %s", " ".join(error.problems))  # noqa: TRY400  they say it all


def _tell_systemd(state: str) -> None:
    """Say how it stands, where systemd wants to know (`Type=notify`)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, contextlib.suppress(OSError):
        notify.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def _give_notice(ready_fd: int, broker: Broker) -> None:
    notice = {
        "client_url": broker.client_url,
        "agent_url": broker.agent_url,
        "ca_file": str(broker.ca_file),
    }
    if broker.gateway_url is not None:
        notice["gateway_url"] = broker.gateway_url
    try:
        with os.fdopen(ready_fd, "w") as file:
            file.write(json.dumps(notice) + "\n")
    except OSError as error:
        logger.warning("Nobody takes the ready notice: %s.", error.strerror)


async def _until(told: asyncio.Event, broker: Broker) -> int:
    """Wait for a signal or the death of a part."""
    signalled = asyncio.create_task(told.wait())
    failed = asyncio.create_task(broker.wait_failed())
    await asyncio.wait((signalled, failed), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not failed.done():
        failed.cancel()
        return _EXIT_OK
    logger.error("The broker stops because a part of it failed.", exc_info=failed.exception())
    return _EXIT_FAILED
