"""`python -m dcvtui` is the command `dcvtui`."""

from dcvtui.cli import main

main()
