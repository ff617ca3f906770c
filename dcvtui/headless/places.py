"""`locate` and `config show`: where every file is, and every value with where it comes from."""

import sys
from collections.abc import Mapping
from pathlib import Path

from dcvtui.config import Connection, Files
from dcvtui.console_files import ConsoleFiles
from dcvtui.output import ExitCode, Format, write_object, write_rows


def print_places(environ: Mapping[str, str], chosen: Format) -> int:
    """Print where the files are, whether they exist or not."""
    files = Files.standard(environ)
    console = ConsoleFiles.standard()
    places = {
        "profiles": files.profiles,
        "settings of the console": console.settings,
        "saved by the console": console.saved,
        "audit trail": console.audit,
        "official configuration": files.conf,
        "program": Path(__file__).parents[1],
    }
    if chosen.is_structured:
        found = [{"what": what, "path": str(path), "exists": path.exists()} for what, path in places.items()]
        write_object({"files": found}, chosen, sys.stdout)
    else:
        rows = [(what, "yes" if path.exists() else "no", str(path)) for what, path in places.items()]
        write_rows(("WHAT", "EXISTS", "PATH"), rows, chosen, sys.stdout)
    return ExitCode.OK


def print_settings(connection: Connection, chosen: Format) -> int:
    """Print every value that counts, its secrets masked."""
    if chosen.is_structured:
        found = [{"name": s.name, "value": s.value, "origin": s.origin} for s in connection.settings]
        write_object({"settings": found}, chosen, sys.stdout)
    else:
        rows = [(s.name, s.origin, s.value) for s in connection.settings]
        write_rows(("NAME", "FROM", "VALUE"), rows, chosen, sys.stdout)
    return ExitCode.OK
