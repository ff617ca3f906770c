"""`completion`: the script that makes a shell complete command lines of this program."""

import click

from dcvtui.options import Command, OneOf


@click.command(cls=Command)
@click.argument("shell", type=OneOf(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script that completes command lines.

    \b
    bash, in ~/.bashrc:  eval "$(dcvtui completion bash)"
    zsh, in ~/.zshrc:    eval "$(dcvtui completion zsh)"
    fish, once:          dcvtui completion fish >~/.config/fish/completions/dcvtui.fish
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415  quick help

    script = get_completion_class(shell)
    assert script is not None  # noqa: S101  these three come with the library
    name = context.find_root().command.name or ""
    click.echo(script(context.find_root().command, {}, name, f"_{name.upper()}_COMPLETE").source())
    return 0
