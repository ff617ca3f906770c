"""Where the console's forms are found: new sessions, permissions, first run. Each is a module of its own."""

from dcvtui.broker_check import BrokerEntry, Step
from dcvtui.tui.create_form import CreateOutcome, CreateSessionForm
from dcvtui.tui.first_run import DemoChosen, FirstRunForm, FirstRunOutcome
from dcvtui.tui.permissions_editor import PermissionsEditor, PermissionsOutcome
from dcvtui.tui.session_draft import SessionDraft

__all__ = [
    "BrokerEntry",
    "CreateOutcome",
    "CreateSessionForm",
    "DemoChosen",
    "FirstRunForm",
    "FirstRunOutcome",
    "PermissionsEditor",
    "PermissionsOutcome",
    "SessionDraft",
    "Step",
]
