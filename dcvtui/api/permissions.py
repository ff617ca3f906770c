"""Permissions files: parse, check, who may do what, presets.

This is the door to the `permissions_*` modules, for the console's editor, the
command line and the agent. The file's language and what it means follow the
permissions specification. Nothing here raises on any text.
"""

from dcvtui.api.permissions_check import Context, warnings
from dcvtui.api.permissions_features import FEATURE_GROUPS, FEATURES
from dcvtui.api.permissions_matrix import Difference, Row, matrix, rights_difference, who
from dcvtui.api.permissions_presets import (
    DEFAULT_TEXT,
    PRESETS,
    Applied,
    Preset,
    apply_preset,
    preset_result,
    toggle,
)
from dcvtui.api.permissions_resolve import Importer, PermissionsFile, resolve
from dcvtui.api.permissions_rights import Decision, State, evaluate, explain
from dcvtui.api.permissions_text import Actor, Diagnostic, Level, Line, Statement, read_actor

__all__ = [
    "ANYWHERE",
    "DEFAULT_TEXT",
    "FEATURES",
    "FEATURE_GROUPS",
    "PRESETS",
    "Actor",
    "Applied",
    "Context",
    "Decision",
    "Diagnostic",
    "Difference",
    "Importer",
    "Level",
    "Line",
    "PermissionsFile",
    "Preset",
    "Row",
    "State",
    "Statement",
    "apply_preset",
    "evaluate",
    "explain",
    "has_errors",
    "matrix",
    "parse",
    "preset_result",
    "read_actor",
    "rights_difference",
    "toggle",
    "who",
]

ANYWHERE = Context()


def parse(
    text: str | bytes,
    *,
    name: str = "",
    importer: Importer | None = None,
    context: Context = ANYWHERE,
) -> PermissionsFile:
    """Read a permissions file and all there is to say about it.

    Args:
        text: the file; bytes are taken as UTF-8, and what is not UTF-8 is an error in the result.
        name: what findings call the file; relative imports start from its folder.
        importer: reads imported files; without one import lines have no effect and are errors.
        context: the session and server it is meant for; some warnings only make sense with them.
    """
    file = resolve(text, name, importer)
    found = dict.fromkeys([*file.diagnostics, *warnings(file, context)])
    # Findings of the file itself come first, then those of imported files in the order of their import.
    order: dict[str, int] = {name: 0}
    for finding in found:
        order.setdefault(finding.file, len(order))
    file.diagnostics = sorted(found, key=lambda one: (order[one.file], one.line, one.column))
    return file


def has_errors(file: PermissionsFile) -> bool:
    """Whether something in the file is wrong and has no effect; such a text is sent only on purpose."""
    return any(finding.level is Level.ERROR for finding in file.diagnostics)
