"""A complete Session Manager broker and agent (the name is history, nothing in here is a stub)."""
