"""Build a trial's command line from the macros for program, interpreter and parameters."""

import itertools
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
ENVIRONMENT = re.compile(r"\$\{envvar:([A-Za-z0-9_]*)\}")
MACRO = re.compile(r"\$\{[^}]*\}")
Values = Mapping[str, Any]


def _args(values: Values) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def _no_boolean_flags(values: Values) -> list[str]:
    shown = {name: value for name, value in values.items() if value is not False}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in shown.items()]


ARGUMENTS: dict[str, Callable[[Values], list[str]]] = {
    "${args}": _args,
    "${args_no_hyphens}": lambda values: [f"{name}={value}" for name, value in values.items()],
    "${args_no_equals}": lambda values: [part for name, value in values.items() for part in (f"--{name}", str(value))],
    "${args_no_boolean_flags}": _no_boolean_flags,
    "${args_append_hydra}": lambda values: [f"+{name}={value}" for name, value in values.items()],
    "${args_override_hydra}": lambda values: [f"++{name}={value}" for name, value in values.items()],
    "${args_json}": lambda values: [json.dumps(dict(values))],
}
"""What a trial's values look like on the command line, by macro; exactly as W&B's agent writes them."""
MACROS = ("${env}", "${interpreter}", "${program}", "${args_json_file}", *ARGUMENTS)


def items(given: object, program: object) -> tuple[str, ...]:
    """Check a sweep's command, or take the usual one.

    Raises:
        ValueError: If it is no list of words, a macro is unknown or does not stand alone, or there is no program.
    """
    if given is None:
        given = list(DEFAULT)
    if not isinstance(given, list) or not given:
        raise ValueError(f"command must be a list, for example {list(DEFAULT)}, got {given!r}")
    if wrong := [part for part in given if not isinstance(part, str | int | float)]:
        raise ValueError(f"command: every item is one word or number, got {wrong[0]!r}; put quotes around macros")
    parts = tuple(str(part) for part in given)
    for part in parts:
        _check_macros(part)
    if "${program}" in parts and not isinstance(program, str):
        raise ValueError("program is missing: the script to run, or write a `command` without ${program}")
    return parts


def _check_macros(part: str) -> None:
    for macro in MACRO.findall(ENVIRONMENT.sub("", part)):
        if macro not in MACROS:
            raise ValueError(f"command: unknown macro {macro}; known: {', '.join(MACROS)}, ${{envvar:NAME}}")
        if macro != part:
            raise ValueError(f"command: {macro} must stand alone in its item, got {part!r}; W&B would not replace it")


def expand(
    parts: Sequence[str], program: str, values: Values, json_file: Path, environ: Mapping[str, str]
) -> list[str]:
    """Replace the macros of a command by one trial's values.

    `${interpreter}` is the Python that runs the sweep (W&B's agent takes the first `python` on the path).

    Args:
        json_file: Where `${args_json_file}` is written.

    Raises:
        ValueError: If an environment variable that the command names is not set.
    """
    fixed = {
        "${env}": [] if sys.platform == "win32" else ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${program}": [program],
    }
    line: list[str] = []
    for part in parts:
        if part == "${args_json_file}":
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(dict(values)), encoding="utf-8")
            line.append(str(json_file))
        elif part in ARGUMENTS:
            line += ARGUMENTS[part](values)
        elif part in fixed:
            line += fixed[part]
        else:
            line.append(_with_environment(part, environ))
    return line


def _with_environment(part: str, environ: Mapping[str, str]) -> str:
    for name in ENVIRONMENT.findall(part):
        if name not in environ:
            raise ValueError(f"command: the environment variable {name} is not set; set it or take it out of {part!r}")
    return ENVIRONMENT.sub(lambda match: environ[match[1]], part)


def trains(parts: Sequence[str], program: str) -> bool:
    """Say whether a command runs `cvx train`."""
    named = [program if part == "${program}" else part for part in parts]
    pairs = itertools.pairwise(named)
    return any(second == "train" and _is_cvx(first) for first, second in pairs)


def _is_cvx(part: str) -> bool:
    return part == "cvx" or Path(part).parts[-2:] == ("cvx", "__main__.py")


def shown(line: Sequence[str]) -> list[str]:
    """Return a command line as a person would type it: `python` for the interpreter, no `/usr/bin/env`."""
    kept = line[1:] if line[0] == "/usr/bin/env" else line
    return ["python" if part == sys.executable else part for part in kept]
