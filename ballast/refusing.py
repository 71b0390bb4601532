"""What the flag parser refuses, in Chinese: which word, what is there instead, where help is. The
parser's English stands behind it where it says more than its kind and its names do."""

from __future__ import annotations

from typing import Any, Final

import typer

from ballast.messages import text

USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__bases__[0]
REFUSAL: Final[type[Exception]] = USAGE_ERROR.__bases__[0]
"""The parser's family of errors; of the library these are its public class's bases."""
SAYS_ALL = "NoArgsIsHelpError"
"""Its text is the help page, which has been shown."""


def told(error: Any) -> str:
    """The lines for the terminal; empty where everything has been said."""
    kind = type(error).__name__
    if kind == SAYS_ALL:
        return ""
    context = getattr(error, "ctx", None)
    lines = [f"ballast: {_what(kind, error)}"]
    below = sorted(getattr(getattr(context, "command", None), "commands", ()))
    if below and kind == USAGE_ERROR.__name__:
        lines.append(text("help.known_commands", "zh", names=below))
    if context is not None:
        path = context.command_path
        lines.append(text("help.see_help", "zh", command=f"{path} {context.help_option_names[0]}"))
    return "\n".join(lines)


def _what(kind: str, error: Any) -> str:
    if kind == "NoSuchOption":
        meant = list(error.possibilities or ())
        key = "help.no_option_meant" if meant else "help.no_option"
        return text(key, "zh", name=error.option_name, **({"meant": meant} if meant else {}))
    if kind == "MissingParameter" and error.param is not None:
        return text("help.missing", "zh", name=error.param.get_error_hint())
    if kind == "BadParameter" and error.param is not None:
        name = error.param.get_error_hint()
        return text("help.bad_value", "zh", name=name, said=error.message)
    return text("help.wrong", "zh", said=error.format_message())
