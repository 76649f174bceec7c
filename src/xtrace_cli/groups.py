"""A group of subcommands, such as `xtrace kb`."""

import typer


def new_group(name: str | None, explanation: str, *, add_completion: bool = False) -> typer.Typer:
    """An empty group. Plain text without boxes and colours: it is read in pipes and in docs/cli.md as well."""
    return typer.Typer(
        name=name,
        help=explanation,
        no_args_is_help=True,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
