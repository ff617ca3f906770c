"""Where the console's forms are found: new sessions, permissions, first run. Each is a module of its own."""

from dcvtui.tui.create_form import CreateOutcome, CreateSessionForm
from dcvtui.tui.first_run import BrokerEntry, FirstRunForm, FirstRunOutcome, Step
from dcvtui.tui.permissions_editor import PermissionsEditor, PermissionsOutcome
from dcvtui.tui.session_draft import SessionDraft

__all__ = [
    "BrokerEntry",
    "CreateOutcome",
    "CreateSessionForm",
    "FirstRunForm",
    "FirstRunOutcome",
    "PermissionsEditor",
    "PermissionsOutcome",
    "SessionDraft",
    "Step",
]
