"""A group of subcommands, such as `xtrace kb`."""

import typer


def new_group(name: str | None, explanation: str, *, add_completion: bool = False) -> typer.Typer:
    """Creates an empty group. Its help is plain text without boxes and colours, also for pipes and docs/cli.md."""
    return typer.Typer(
        name=name,
        help=explanation,
        no_args_is_help=True,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
