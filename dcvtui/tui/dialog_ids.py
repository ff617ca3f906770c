"""The ids of the keys of dialogs and forms, so that settings can be checked before these are loaded.

A test holds this to what the dialogs declare.
"""

from typing import Final

_IDS: Final = """
    any.interrupt-console
    choice.cancel-choice choice.choose-item choice.next-item choice.previous-item
    columns.cancel-choice columns.next-column columns.page-down columns.page-up
    columns.previous-column columns.reset-columns columns.shift-down columns.shift-up
    columns.show-columns columns.toggle-column
    confirm.accept-action confirm.cancel-action confirm.include-connected confirm.toggle-force
    connect.copy-link connect.edit-user connect.next-form connect.next-route connect.open-viewer
    connect.renew-token connect.save-file connect.show-link
    editor.choose-preset
    form.choose-template form.drop-permissions
    form.edit-permissions form.leave-form form.next-error form.next-field
    form.next-word form.previous-word form.send-form form.start-demo
    line.complete-word line.leave-line
    name.cancel-name name.take-name
    pane.page-down pane.page-up pane.scroll-down pane.scroll-up
    panel.choose-focused panel.focus-next panel.focus-previous panel.page-down panel.page-up
    panel.scroll-down panel.scroll-up
    path.cancel-path path.take-path
    person.cancel-person person.show-person
    preset.apply-preset preset.cancel-preset preset.next-preset preset.previous-preset
    result.copy-rows result.retry-failed
    rights.add-person rights.move-down rights.move-left rights.move-right rights.move-up
    rights.open-cell rights.toggle-right
    saved.cancel-choice saved.forget-saved saved.next-saved saved.previous-saved saved.save-present
    saved.use-saved
    screenshot.move-down screenshot.move-left screenshot.move-right screenshot.move-up
    screenshot.next-monitor screenshot.save-picture screenshot.toggle-fit
    text.copy-text
"""

DIALOG_IDS: Final = frozenset(_IDS.split())
"""All of them."""
