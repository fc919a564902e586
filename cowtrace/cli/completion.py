"""`cowtrace completion`: print the shell script that completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_COWTRACE_COMPLETE"  # as click looks for it when a shell asks


@click.command(
    epilog="\b\nExamples:\n"
    "  cowtrace completion bash | sudo tee /etc/bash_completion.d/cowtrace\n"
    "  cowtrace completion zsh > ~/.zfunc/_cowtrace\n"
    "  cowtrace completion fish > ~/.config/fish/completions/cowtrace.fish"
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    For one session: eval "$(cowtrace completion bash)", or zsh; in fish,
    cowtrace completion fish | source.
    """
    from cowtrace.cli import main

    found = get_completion_class(shell)
    assert found is not None, shell  # click has all of SHELLS
    click.echo(found(main, {}, "cowtrace", _VARIABLE).source())
