"""``tenantry``, ``kubectl tenantry`` and ``python -m tenantry_operator.cli``: the program.

Whatever goes wrong is told in one line on standard error; a traceback is only for who sets ``TENANTRY_DEBUG``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

_EXTRA = ("typer", "rich")
_TROUBLE, _INTERRUPTED, _TERMINATED = 2, 130, 143


def program(started_as: str) -> str:
    """What help calls the program.

    :param started_as: the path it was started by. kubectl starts ``kubectl-tenantry`` for ``kubectl tenantry``.
    """
    return "kubectl tenantry" if Path(started_as).stem == "kubectl-tenantry" else "tenantry"


def main() -> NoReturn:
    """The command."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(sys.argv[1:], program(sys.argv[0]))
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough of it; Python must not say so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _terminate(*_: Any) -> NoReturn:
    # An exception, unlike the end at once, gives the terminal its cursor back.
    raise SystemExit(_TERMINATED)


def _run(arguments: list[str], name: str) -> int:
    try:
        from tenantry_operator.cli.app import app  # noqa: PLC0415 - may be missing
    except ModuleNotFoundError as error:
        return _explain(error)
    if any(argument.startswith(("--show-completion", "--install-completion")) for argument in arguments):
        name = "tenantry"  # shells complete a program, not the words of kubectl
    try:
        return int(app(arguments, prog_name=name, standalone_mode=False) or 0)
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("TENANTRY_DEBUG"):
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    """Tells of wrong usage, of what is not installed, or of a bug."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _EXTRA:
        return _complain(f"the command line needs {error.name}: pip install 'tenantry[cli]'")
    # Told by what it has: its class has moved from click to typer.
    message = getattr(error, "format_message", None)
    if message is None:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _complain(f"this is a bug, please report it with what TENANTRY_DEBUG=1 shows: {what}")
    if type(error).__name__ == "NoArgsIsHelpError":
        return _TROUBLE  # the help was printed
    context = getattr(error, "ctx", None)
    hint = f"; see `{context.command_path} --help`" if context is not None else ""
    return _complain(" ".join(f"{message().rstrip('.')}{hint}".split()))


def _complain(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return _TROUBLE


if __name__ == "__main__":
    main()
