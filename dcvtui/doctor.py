"""Looks at everything between a person and a broker, and says for each thing what it is and what to change.

The broker: name, reach, TLS, token, API, clock. The terminal: colours, UTF-8,
pictures, clipboard, tmux. Findings are values; how they are shown is decided by
the command line and the console. Changes nothing anywhere.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dcvtui.api.text import visible
from dcvtui.config import Connection
from dcvtui.errors import NotTrusted, ProgramError, Unreachable
from dcvtui.images import Form
from dcvtui.private_files import shown_path
from dcvtui.terminal import ColourDepth, Terminal, clipboard_program
from dcvtui.trust import Trust

if TYPE_CHECKING:
    from dcvtui.client import BrokerClient

DEADLINE_S = 5.0
_CLOCK_TOLERANCE_S = 5.0
# Tokens begin and end by the broker's clock; this much apart some of them are refused.
_CLOCK_LIMIT_S = 60.0
_EXPIRES_SOON = timedelta(days=30)
_SLOWEST_ESCAPE_MS = 50


class Verdict(StrEnum):
    """How a finding is to be taken."""

    GOOD = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: `broker` or `terminal`.
        name: what was looked at.
        verdict: good, worth knowing, or something does not work.
        text: what was found, and for all but good ones what to change.
    """

    topic: str
    name: str
    verdict: Verdict
    text: str


def has_failed(findings: list[Finding]) -> bool:
    """Something does not work."""
    return any(finding.verdict is Verdict.FAILED for finding in findings)


# ------------------------------------------------------------------ the broker


async def broker_findings(connection: Connection, deadline_s: float = DEADLINE_S) -> AsyncIterator[Finding]:
    """Test the way to a broker; ends with the first step that fails, because the next ones need it.

    Args:
        connection: as it was configured.
        deadline_s: for finding the name, for a connection and for a handshake, each.
    """
    from dcvtui.client import BrokerClient  # noqa: PLC0415  a console that only looks at the terminal does without

    parts = urlsplit(connection.url)
    way = _Way(parts.hostname or "", parts.port or 443, connection, deadline_s)
    try:
        yield _good("name", await way.find())
        yield _good("reach", await way.reach())
        yield await way.judge()
        async with BrokerClient.to(connection) as client:
            yield _good("token", await way.authorize(client))
            yield _good("API", await way.ask(client))
            yield clock_finding(client.broker_time, datetime.now(UTC))
    except ProgramError as error:
        yield Finding("broker", way.step, Verdict.FAILED, error.sentence)


def _good(name: str, text: str) -> Finding:
    return Finding("broker", name, Verdict.GOOD, text)


@dataclass(slots=True)
class _Way:
    """The steps to one broker; `step` is the one that is being taken."""

    host: str
    port: int
    connection: Connection
    deadline_s: float
    step: str = ""

    async def find(self) -> str:
        from dcvtui.reach import find_addresses  # noqa: PLC0415  as above

        self.step = "name"
        addresses = await find_addresses(self.host, self.port, self.deadline_s)
        return f"{visible(self.host)}{f' is {addresses}' if addresses else ''}"

    async def reach(self) -> str:
        from dcvtui.reach import reach  # noqa: PLC0415  as above

        self.step = "reach"
        await reach(self.host, self.port, self.deadline_s)
        return f"port {self.port} answers"

    async def judge(self) -> Finding:
        from dcvtui.first_trust import fault_of  # noqa: PLC0415  as above
        from dcvtui.trust import offered_certificate  # noqa: PLC0415  as above

        self.step = "TLS"
        trust = self.connection.trust
        fault = await fault_of(self.host, self.port, trust, self.deadline_s)
        offered = await offered_certificate(self.host, self.port, self.deadline_s)
        if offered is None:
            raise Unreachable("the connection ended before a certificate came. Try again.")
        if fault is not None:
            raise NotTrusted(
                f"the certificate is {fault}. It shows {offered.fingerprint}. Name the broker's CA with "
                "--ca-bundle FILE, or compare the fingerprint there and let `dcvtui login` keep it."
            )
        if not trust.is_verified:
            advice = "not checked (no-verify-ssl). `dcvtui login` keeps the broker's certificate instead."
            return Finding("broker", "TLS", Verdict.NOTE, advice)
        how = _trusted_by(trust)
        try:
            end = offered.validity[1]
        except ValueError:  # TLS takes certificates that the stricter reader does not
            return _good("TLS", how)
        is_near = end - datetime.now(UTC) < _EXPIRES_SOON
        renew = ". It ends soon: have it renewed" if is_near else ""
        verdict = Verdict.NOTE if is_near else Verdict.GOOD
        return Finding("broker", "TLS", verdict, f"valid until {end:%Y-%m-%d}, {how}{renew}")

    async def authorize(self, client: "BrokerClient") -> str:
        self.step = "token"
        credentials = self.connection.credentials
        if credentials is None:
            return "the broker is asked without one (no_token)"
        await client.authorize()
        return (
            "a ready one is used"
            if credentials.access_token
            else f"given to {visible(credentials.client_id)}"
        )

    async def ask(self, client: "BrokerClient") -> str:
        self.step = "API"
        page = await client.describe_servers_page()
        count, more = len(page["Servers"]), "more than " if "NextToken" in page else ""
        return f"it lists {more}{count:,} server{'' if count == 1 else 's'}"


def _trusted_by(trust: Trust) -> str:
    if trust.fingerprint:
        return "pinned"
    return f"trusted by {shown_path(trust.ca_file)}" if trust.ca_file else "trusted by the system's CAs"


def clock_finding(broker_time: datetime | None, now: datetime) -> Finding:
    """Compare the clocks: a token that is not valid yet, or no longer, is refused."""
    if broker_time is None:
        return Finding("broker", "clock", Verdict.NOTE, "the broker's answers tell no time")
    difference = (broker_time - now).total_seconds()
    # `Date` has whole seconds, and answers take their time.
    if abs(difference) <= _CLOCK_TOLERANCE_S:
        return _good("clock", "the same time here and there")
    which = "ahead of" if difference > 0 else "behind"
    verdict = Verdict.FAILED if abs(difference) > _CLOCK_LIMIT_S else Verdict.NOTE
    text = (
        f"the broker is {abs(difference):,.0f} s {which} this machine. Let both follow a time server (NTP)."
    )
    return Finding("broker", "clock", verdict, text)


# ------------------------------------------------------------------ the terminal


def terminal_findings(
    terminal: Terminal, environ: Mapping[str, str], tmux: Mapping[str, str]
) -> Iterator[Finding]:
    """What this terminal can do for the console.

    Args:
        terminal: as the environment tells it.
        environ: the variables of the process.
        tmux: its options, see `tmux_options`; empty outside of it.
    """
    if terminal.term in ("", "dumb"):
        text = f"TERM is '{visible(terminal.term)}': no screen can be drawn here. Take another terminal."
        yield Finding("terminal", "screen", Verdict.FAILED, text)
    else:
        yield Finding("terminal", "screen", Verdict.GOOD, f"TERM is {visible(terminal.term)}")
    yield _colours(terminal, environ)
    yield _letters(terminal)
    yield _pictures(terminal)
    yield _clipboard(terminal, environ)
    if terminal.is_tmux:
        yield from _tmux(tmux)


def _finding(name: str, verdict: Verdict, text: str) -> Finding:
    return Finding("terminal", name, verdict, text)


def _colours(terminal: Terminal, environ: Mapping[str, str]) -> Finding:
    if environ.get("NO_COLOR"):
        return _finding("colours", Verdict.GOOD, "none, as NO_COLOR asks; states keep their signs and words")
    if terminal.colours is ColourDepth.TRUE:
        return _finding("colours", Verdict.GOOD, "16 million")
    more = "Set COLORTERM=truecolor if this terminal shows more."
    if terminal.colours is ColourDepth.PALETTE:
        return _finding("colours", Verdict.GOOD, f"256. {more}")
    if terminal.colours is ColourDepth.SIXTEEN:
        return _finding("colours", Verdict.NOTE, "16. Set TERM=xterm-256color if this terminal shows more.")
    return _finding("colours", Verdict.NOTE, f"none. {more}")


def _letters(terminal: Terminal) -> Finding:
    if terminal.is_utf8:
        return _finding("UTF-8", Verdict.GOOD, "yes")
    text = "no: signs and frames are drawn in ASCII. Set LANG=C.UTF-8 or another UTF-8 locale."
    return _finding("UTF-8", Verdict.NOTE, text)


def _pictures(terminal: Terminal) -> Finding:
    forms = {Form.QUADRANTS: "in quadrant blocks", Form.HALF_BLOCKS: "in half blocks"}
    if terminal.picture_form is None:
        return _finding("pictures", Verdict.NOTE, "none without UTF-8; `dcvtui screenshot --dir` saves files")
    colours = "16 million" if terminal.colours is ColourDepth.TRUE else "256"
    return _finding("pictures", Verdict.GOOD, f"{forms[terminal.picture_form]}, {colours} colours")


def _clipboard(terminal: Terminal, environ: Mapping[str, str]) -> Finding:
    command = clipboard_program(terminal, environ)
    if command and not terminal.is_tmux:
        return _finding("clipboard", Verdict.GOOD, f"through {command[0]}")
    if terminal.is_tmux:
        return _finding("clipboard", Verdict.GOOD, "through tmux to the terminal")
    text = "by OSC 52 to the terminal, which may refuse it silently: allow clipboard access in its settings"
    return _finding("clipboard", Verdict.GOOD if terminal.is_ssh else Verdict.NOTE, text)


def _tmux(options: Mapping[str, str]) -> Iterator[Finding]:
    """The options of tmux that stand between the console and the terminal; section 2 of its own manual."""
    version = options.get("version", "")
    if _release(version) < (3, 2):
        text = f"{version or 'unknown'}: copying needs 3.2 or newer"
        yield _finding("tmux", Verdict.NOTE, text)
    else:
        yield _finding("tmux", Verdict.GOOD, version)
    if options.get("set-clipboard") == "off":
        yield _finding("tmux", Verdict.NOTE, "set-clipboard is off. Copying needs: set -s set-clipboard on")
    features = options.get("terminal-features", "") + options.get("terminal-overrides", "")
    if "RGB" not in features and "Tc" not in features:
        text = "256 colours at most. For more: set -as terminal-features ',*:RGB'"
        yield _finding("tmux", Verdict.NOTE, text)
    if options.get("allow-passthrough", "off") == "off":
        text = "pictures in blocks only. For more: set -g allow-passthrough on"
        yield _finding("tmux", Verdict.NOTE, text)
    if (wait := options.get("escape-time", "")).isdecimal() and int(wait) > _SLOWEST_ESCAPE_MS:
        text = f"esc waits {wait} ms. Quicker: set -s escape-time 20"
        yield _finding("tmux", Verdict.NOTE, text)


def _release(version: str) -> tuple[int, int]:
    major, _, minor = version.removeprefix("tmux ").removeprefix("next-").partition(".")
    digits = "".join(character for character in minor if character.isdigit())
    return (int(major), int(digits or 0)) if major.isdecimal() else (0, 0)


_TMUX_OPTIONS = (
    "set-clipboard",
    "terminal-features",
    "terminal-overrides",
    "allow-passthrough",
    "escape-time",
)


async def tmux_options() -> dict[str, str]:
    """The options of the tmux this runs in, and its `version`; empty if it cannot be asked."""
    try:
        found = {"version": await _tmux_says("-V")}
        for name in _TMUX_OPTIONS:
            # Server options are shown by -s, those of windows by -gw; -A with -p finds all that apply here.
            found[name] = await _tmux_says("show-options", "-Apqv", name) or await _tmux_says(
                "show-options", "-sqv", name
            )
    except OSError:
        return {}
    return found


async def _tmux_says(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "tmux",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return output.decode(errors="replace").strip().replace("\n", " ")
