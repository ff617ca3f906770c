"""The version of the program, said in one place: the build reads it, and `--version` needs nothing else.

Asking the installed package for it would cost a fifth of the time that `--version` takes.
"""

__version__ = "0.1.0"
