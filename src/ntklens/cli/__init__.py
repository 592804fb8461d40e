"""The command line: each verb parses, calls the library and prints; wrong input ends in one sentence and exit code 2.

The modules of the verbs import the library inside their functions. It takes seconds to load, and a help page or a refused
option needs none of it.
"""

from __future__ import annotations

import re
import shlex
import sys
import traceback
from typing import NoReturn

import typer

from ntklens.cli.attack import attack
from ntklens.cli.audit import audit
from ntklens.cli.certify import certify
from ntklens.cli.characters import replace_what_cannot_be_shown
from ntklens.cli.compare import compare
from ntklens.cli.data import data
from ntklens.cli.demo import demo
from ntklens.cli.dynamics import dynamics
from ntklens.cli.features import features
from ntklens.cli.fit import fit
from ntklens.cli.kernel import kernel
from ntklens.cli.paper import paper
from ntklens.cli.report import report
from ntklens.cli.run import run
from ntklens.cli.transfer import transfer
from ntklens.errors import NtklensError, UnsupportedLayer

app = typer.Typer(
    name="ntklens",
    help="""See, attack and explain the adversarial robustness of a neural network through its tangent kernel.

    Example: ntklens demo

    Example: ntklens attack --help
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    demo,
    data,
    fit,
    kernel,
    attack,
    certify,
    audit,
    transfer,
    features,
    dynamics,
    paper,
    run,
    report,
    compare,
):
    app.command()(verb)


def main() -> None:
    """Run the `ntklens` command.

    Exit codes are 0 where all went well, 1 where a gate failed (`attack --fail-under`, `--strict`), 2 for an error that the
    user can mend, which is printed as one sentence, 3 for an error of ours, with its traceback, and 130 after Ctrl-C. With
    `--json` an error is printed on standard output too, as {"error": "..."}.
    """
    replace_what_cannot_be_shown()
    try:
        code = app(standalone_mode=False)
    except NtklensError as error:
        from ntklens.cli import console

        message = _in_options(str(error), sys.argv)
        console.fail(message)
        if isinstance(error, UnsupportedLayer) and _takes_a_kernel():
            console.note(
                f"to use the tangent kernel of the network with its weights: {shlex.join(_command())} --kernel empirical"
            )
        _finish(2, message)
    except Exception as error:
        # The errors of the command line's own parser, which typer takes from click or from its own copy of it.
        if isinstance(status := getattr(error, "exit_code", None), int) and hasattr(error, "show"):
            error.show()
            _finish(status, error.format_message())  # type: ignore[attr-defined]
        traceback.print_exc()
        _finish(3, f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _in_options(message: str, words: list[str]) -> str:
    """Return an error message that names the option which was given, and not the field of an experiment that it fills."""
    field = re.match(r"the experiment's `[\w.]*?(\w+)` does not fit", message)
    if field is None:
        return message
    option = "--" + {"name": "data", "surrogates": "surrogate"}.get(field[1], field[1]).replace("_", "-")
    given = any(word.split("=")[0] == option for word in words)
    return message.replace(field[0], f"{option} does not fit", 1) if given else message


def _finish(code: int, error: str) -> NoReturn:
    """End with an exit code, and with the error as JSON where the command was to print JSON."""
    if "--json" in sys.argv:
        from ntklens.cli import console

        console.as_json({"error": error})
    sys.exit(code)


def _takes_a_kernel() -> bool:
    """Return whether the command that was given has the option --kernel, which was left out and would help.

    No tangent kernel of a network with its weights has a certificate, so it does not help --certified.
    """
    if any(word.split("=")[0] == "--certified" for word in sys.argv):
        return False
    return sys.argv[1:2] in (["attack"], ["features"], ["transfer"], ["fit"], ["kernel"]) and "--kernel" not in sys.argv


def _command() -> list[str]:
    return ["ntklens", *sys.argv[1:]]
