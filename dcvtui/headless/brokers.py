"""`login`, `logout`, `profiles`: several brokers, each with its secret where only its owner reads it."""

import asyncio
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dcvtui import keyring_secrets
from dcvtui.api.text import visible
from dcvtui.broker_check import DEADLINE_S, BrokerCheck, BrokerEntry, Step, broker_url
from dcvtui.config import Files, Options
from dcvtui.errors import ConfigError, ProgramError
from dcvtui.first_trust import fault_of
from dcvtui.headless.first_use import show_former_trust
from dcvtui.headless.words import answer, ask, is_asking_possible, say, secret_answer
from dcvtui.nearest import did_you_mean
from dcvtui.output import ExitCode, Format, exit_code_of, write_object, write_rows
from dcvtui.profiles import Profile, ProfileFile, read_profiles, remove_profile, save_profile
from dcvtui.trust import Trust, read_fingerprint

_HOW_TO_GIVE_IT = "Give the secret with --client-secret-file PATH, or '-' for standard input."


@dataclass(frozen=True, slots=True)
class Login:
    """What the command line says of a broker; None where it says nothing."""

    profiles: Path
    name: str | None = None
    url: str | None = None
    client_id: str | None = None
    secret_file: str | None = None
    ca_bundle: Path | None = None
    fingerprint: str | None = None
    is_default: bool = False
    in_file: bool = False

    @classmethod
    def asked(cls, options: Options, environ: Mapping[str, str], **asked: Any) -> "Login":
        """What options and environment say.

        Raises:
            ConfigError: the fingerprint is none.
        """
        fingerprint = options.trust_fingerprint
        return cls(
            Files.standard(environ).profiles,
            options.profile or environ.get("DCVTUI_PROFILE"),
            options.broker_url,
            ca_bundle=options.ca_bundle,
            fingerprint=read_fingerprint(fingerprint) if fingerprint else None,
            **asked,
        )


def log_in(login: Login) -> int:
    """Ask for what is missing, test it step by step, and keep it as a profile.

    Raises:
        ConfigError: something is missing and nobody can be asked, or the profile cannot be written.
    """
    known = read_profiles(login.profiles)
    profile = known.profiles.get(login.name or "", Profile(login.name or ""))
    entry = _entry(login, profile)
    check = BrokerCheck(login.profiles)
    while step := asyncio.run(_first_fault(check, entry)):
        if not step.fingerprint or not is_asking_possible():
            say(_in_a_sentence(step, entry))
            return exit_code_of(step.error) if step.error else ExitCode.OTHER
        show_former_trust(Trust(ca_file=profile.ca_file, fingerprint=profile.fingerprint))
        if not ask("Trust it from now on?", ""):
            say("Nothing was sent and nothing was kept.")
            return ExitCode.NOT_REACHED
        entry = replace(entry, fingerprint=step.fingerprint)
    is_default = login.is_default or not known.profiles
    saved = check.save(entry, name=login.name or "", in_keyring=not login.in_file, is_default=is_default)
    say(asyncio.run(saved))
    return ExitCode.OK


def _entry(login: Login, profile: Profile) -> BrokerEntry:
    address = login.url or profile.url
    if not address:
        address = answer("Broker (such as broker.example:8443): ", "Give its address with --broker-url.")
    client_id = login.client_id or profile.client_id
    if not client_id:
        client_id = answer("Client id: ", "Give it with --client-id.").strip()
    if login.secret_file:
        secret = _secret_in(login.secret_file)
    else:
        secret = secret_answer("Client secret (not shown): ", _HOW_TO_GIVE_IT).strip()
    if not secret:
        raise ConfigError(f"There is no client secret. {_HOW_TO_GIVE_IT}", ExitCode.BAD_VALUE)
    ca_file = login.ca_bundle or _ca_that_still_fits(address, profile)
    return BrokerEntry(
        address, client_id, secret, str(ca_file or ""), login.fingerprint or profile.fingerprint or ""
    )


def _ca_that_still_fits(address: str, profile: Profile) -> Path | None:
    """The CA that is kept; None if the broker shows another certificate now, which is then asked about."""
    if profile.ca_file is None:
        return None
    parts = urlsplit(broker_url(address))
    trust = Trust(ca_file=profile.ca_file)
    try:
        fault = asyncio.run(fault_of(parts.hostname or "", parts.port or 443, trust, DEADLINE_S))
    except ConfigError:
        return None  # the file is gone or damaged
    except ProgramError:
        return profile.ca_file  # the steps of the test say what it is
    return profile.ca_file if fault is None else None


def _secret_in(path: str) -> str:
    """The secret alone in a file, or the first line of standard input."""
    if path == "-":
        return sys.stdin.readline().strip()
    file = Path(path).expanduser()
    try:
        if os.name == "posix" and file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            say(f"Others can read '{path}'. Run: chmod 600 '{path}'")
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"The secret in '{path}' cannot be read: {reason}.", ExitCode.BAD_VALUE) from None


async def _first_fault(check: BrokerCheck, entry: BrokerEntry) -> Step | None:
    """Test an entry and tell of each step; the one that failed, if one did."""
    async for step in check.steps(entry):
        is_question = bool(step.fingerprint) and is_asking_possible()
        if step.is_done or is_question:
            text = f"the certificate is {step.text}" if is_question else step.text or "ok"
            sys.stderr.write(f"{step.name:<6} {text if is_question else visible(text)}\n")
        if not step.is_done:
            return step
    return None


def _in_a_sentence(step: Step, entry: BrokerEntry) -> str:
    if step.fingerprint:
        return (
            f"The certificate of {entry.address} is not trusted: {step.text.splitlines()[0]} It shows "
            f"{step.fingerprint}. Nothing was sent. Compare it at the broker and give "
            f"--trust-fingerprint {step.fingerprint}"
        )
    return f"{step.name}: {step.text}"


# ------------------------------------------------------------------ logout, profiles


def log_out(profiles: Path, name: str | None, *, is_forgetting: bool) -> int:
    """Take the secret of a profile away, or the whole profile.

    Raises:
        ConfigError: there is no such profile.
    """
    profile = _known(read_profiles(profiles), name)
    if profile.secret_in_keyring:
        keyring_secrets.forget(profile.url or "", profile.client_id or "")
    if is_forgetting:
        remove_profile(profiles, profile.name)
        say(f"The profile '{profile.name}' is gone.")
    else:
        save_profile(profiles, replace(profile, client_secret=None, secret_in_keyring=False))
        again = f"dcvtui login --profile {profile.name}"
        say(f"The secret of '{profile.name}' is gone; its address stays. Again: {again}")
    return ExitCode.OK


def _known(file: ProfileFile, name: str | None) -> Profile:
    wanted = name or file.default
    if wanted is None or wanted not in file.profiles:
        near = did_you_mean(wanted or "", file.profiles)
        known = ", ".join(sorted(file.profiles)) or "none"
        which = f"There is no profile '{visible(wanted)}'" if wanted else "No profile is the default"
        raise ConfigError(f"{which}.{near} Known: {known}.", ExitCode.BAD_ENVIRONMENT)
    return file.profiles[wanted]


def print_profiles(profiles: Path, default: str | None, chosen: Format) -> int:
    """Print the profiles, none of their secrets; first make one the default, if that is wanted.

    Raises:
        ConfigError: there is no such profile, or the file is damaged.
    """
    file = read_profiles(profiles)
    for note in file.notes:
        say(note)
    if default is not None:
        save_profile(profiles, _known(file, default), is_default=True)
        file = read_profiles(profiles)
    found = [
        _shown(profile, is_default=name == file.default) for name, profile in sorted(file.profiles.items())
    ]
    if chosen.is_structured:
        write_object({"profiles": found}, chosen, sys.stdout)
    elif chosen is Format.IDS:
        sys.stdout.writelines(f"{visible(str(one['name']))}\n" for one in found)
    elif found or chosen is not Format.TABLE:
        heads = ("NAME", "DEFAULT", "BROKER", "SECRET", "TRUST")
        rows = [
            [
                str(one["name"]),
                "yes" if one["default"] else "no",
                *(str(one[k]) for k in ("url", "secret", "trust")),
            ]
            for one in found
        ]
        write_rows(heads, rows, chosen, sys.stdout)
    else:
        say("There are no profiles yet. Make one with: dcvtui login")
    return ExitCode.OK


def _shown(profile: Profile, *, is_default: bool) -> dict[str, object]:
    pin = "pinned" if profile.fingerprint else "system"
    return {
        "name": profile.name,
        "default": is_default,
        "url": profile.url or "",
        "client_id": profile.client_id or "",
        "secret": _place_of_secret(profile),
        "trust": f"CA {profile.ca_file.name}" if profile.ca_file else pin,
        "read_only": profile.read_only,
    }


def _place_of_secret(profile: Profile) -> str:
    if profile.no_token:
        return "not needed"
    if profile.secret_in_keyring:
        return "keyring"
    return "file" if profile.client_secret else "none"
