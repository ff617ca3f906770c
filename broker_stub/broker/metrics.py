"""What Prometheus reads of the broker: the documented metrics of the original product, and more.

Numbers of the fleet are counted when somebody asks; times and results are counted as
they happen. Every series carries the fleet's name, as the original's dimension does.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker_stub.broker.audit import Call
from broker_stub.broker.events import Tally

# Answers that wait for hosts take seconds, those from memory milliseconds.
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COMMAND_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
_MOST_COMMANDS = 100_000


@dataclass(frozen=True, slots=True)
class Sources:
    """What the broker tells of itself when somebody asks."""

    tally: Callable[[], Tally]
    """Servers, sessions and queue, counted."""
    agent_channels: Callable[[], int]
    """Open channels."""
    database_errors: Callable[[], int]
    """Writes that failed since the start."""
    certificate_days: Callable[[], Mapping[str, float]]
    """Days until the certificate of each listener ends."""


class Metrics:
    """Counts what happens. Made before anything can.

    Args:
        fleet: Name of the fleet.
    """

    def __init__(self, fleet: str) -> None:
        self._fleet = fleet
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "dcvsm_request_seconds",
            "Time to answer a request",
            ("fleet", "operation", "status"),
            registry=self._registry,
            buckets=_REQUEST_BUCKETS,
        )
        self._commands = Histogram(
            "dcvsm_command_seconds",
            "Time from an order to an agent to its result",
            ("fleet", "kind", "outcome"),
            registry=self._registry,
            buckets=_COMMAND_BUCKETS,
        )
        self._token_checks = Counter(
            "dcvsm_token_checks",
            "Connection tokens that DCV servers asked about",
            ("fleet", "result"),
            registry=self._registry,
        )
        self._given: dict[str, tuple[str, float]] = {}
        self._observers: dict[tuple[str, int], Callable[[float], None]] = {}

    def observe_request(self, operation: str, status: int, seconds: float, call: Call) -> None:
        """A request was answered."""
        observe = self._observers.get((operation, status))
        if observe is None:  # finding the series costs more than counting in it
            series = self._requests.labels(self._fleet, operation, str(status))
            observe = self._observers[operation, status] = series.observe
        observe(seconds)
        if result := call.details.get("verdict"):
            self._token_checks.labels(self._fleet, result).inc()

    def command_given(self, command_id: str, kind: str) -> None:
        """An agent is to do something; the same again keeps its first time."""
        if len(self._given) >= _MOST_COMMANDS:  # results that never came
            del self._given[next(iter(self._given))]
        self._given.setdefault(command_id, (kind, time.monotonic()))

    def command_finished(self, command_id: str, *, success: bool) -> None:
        """It did, or said why not."""
        if given := self._given.pop(command_id, None):
            kind, begun = given
            outcome = "done" if success else "failed"
            self._commands.labels(self._fleet, kind, outcome).observe(time.monotonic() - begun)

    def app(self, sources: Sources, now: Callable[[], datetime]) -> Starlette:
        """The application of the metrics listener.

        Args:
            sources: Asked each time.
            now: The clock.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each is of no use
        self._registry.register(_Fleet(self._fleet, sources, now))

        async def answer(_request: Request) -> Response:
            return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        return Starlette(routes=[Route("/metrics", answer, methods=["GET"])])


class _Fleet(Collector):
    """Counts the fleet when it is asked."""

    def __init__(self, fleet: str, sources: Sources, now: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._sources = sources
        self._now = now
        self._process = psutil.Process()
        self._process.cpu_percent()  # the load is that since the last question

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not count the fleet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All numbers as they are now."""
        tally = self._sources.tally()
        servers, sessions = tally.servers, tally.sessions
        gauge = self._gauge
        yield gauge("servers", "Number of DCV servers", servers.total())
        yield gauge("ready_servers", "Number of ready DCV servers", servers[("AVAILABLE", "")])
        alive = {key: number for key, number in sessions.items() if key[1] != "DELETED"}
        yield gauge("sessions", "Number of DCV sessions", sum(alive.values()))
        for kind in ("console", "virtual"):
            number = sum(number for key, number in alive.items() if key[0] == kind.upper())
            yield gauge(f"{kind}_sessions", f"Number of DCV {kind} sessions", number)
        yield self._split("servers_by_availability", "Servers", ("availability", "reason"), servers.items())
        yield self._split(
            "sessions_by_state", "Sessions, with ended ones", ("type", "state"), sessions.items()
        )
        yield gauge("queued_sessions", "Sessions that wait for a server", tally.queued)
        since = tally.queued_since
        age = (self._now() - since).total_seconds() if since is not None else 0
        yield gauge("queue_age_seconds", "How long the first of them has waited", age)
        yield gauge("agent_channels", "Agents that are connected", self._sources.agent_channels())
        yield gauge("memory_used_bytes", "Resident memory of the broker", self._process.memory_info().rss)
        yield gauge("cpu_load", "Cores that the broker kept busy", self._process.cpu_percent() / 100)
        days = [((name,), left) for name, left in self._sources.certificate_days().items()]
        yield self._split("certificate_days_left", "Days until a certificate ends", ("listener",), days)
        errors = CounterMetricFamily("dcvsm_database_errors", "Writes that failed", labels=("fleet",))
        errors.add_metric((self._fleet,), self._sources.database_errors())
        yield errors

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"dcvsm_{name}", text, labels=("fleet",))
        family.add_metric((self._fleet,), value)
        return family

    def _split(
        self, name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
    ) -> Metric:
        family = GaugeMetricFamily(f"dcvsm_{name}", text, labels=("fleet", *labels))
        for key, value in sorted(values):
            family.add_metric((self._fleet, *key), value)
        return family
