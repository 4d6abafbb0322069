"""Shell completion: a script for bash, zsh or fish, made from a program's parser.

The words of a command line are known when the script is made, so no process is started while
somebody types. Files and folders are completed where nothing else is.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SHELLS", "completion_script"]

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class Word:
    """A word that may be typed next."""

    text: str
    help: str


@dataclass(frozen=True)
class Place:
    """What may follow some words of a command line."""

    path: str
    """The words before, each after a space; empty: the program's name alone."""
    commands: tuple[Word, ...]
    """Also an argument's values, where they are a short list."""
    options: tuple[Word, ...]
    values: tuple[tuple[str, tuple[str, ...]], ...]
    """By option, what it may be followed by, where that is a short list."""


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script of one of `SHELLS`, with how to use it in its first line."""
    places = list(_places(parser, ""))
    if shell == "fish":
        return _fish(parser.prog, places)
    script = _bash(parser.prog, places)
    if shell == "zsh":
        begin = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"
        script = begin + script
    return f'# In ~/.{shell}rc: eval "$({parser.prog} --completion {shell})"\n{script}'


def _places(parser: argparse.ArgumentParser, path: str) -> Iterator[Place]:
    """Yield what may follow the program's name, each command and each group."""
    commands: list[Word] = []
    options: list[Word] = []
    values: list[tuple[str, tuple[str, ...]]] = []
    below: list[tuple[argparse.ArgumentParser, str]] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to look at a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            told = {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001
            for name, made in action.choices.items():
                commands.append(Word(name, told.get(name, "")))
                below.append((made, f"{path} {name}"))
            continue
        names = [name for name in action.option_strings if name.startswith("--")]
        options += [Word(name, action.help or "") for name in names]
        if action.choices and not action.option_strings:
            commands += [Word(str(choice), "") for choice in action.choices]
        elif action.choices:
            values += [(name, tuple(map(str, action.choices))) for name in names]
    yield Place(path, tuple(commands), tuple(options), tuple(values))
    for made, its_path in below:
        yield from _places(made, its_path)


def _bash(program: str, places: list[Place]) -> str:
    name = "_" + re.sub(r"\W", "_", program)
    paths = "|".join(f'"{place.path}"' for place in places if place.path)
    lines = [
        f"{name}() {{",
        '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"',
        '  local typed="" offer="" i',
        "  for ((i = 1; i < COMP_CWORD; i++)); do",
        '    case "$typed ${COMP_WORDS[i]}" in',
        f'      {paths}) typed="$typed ${{COMP_WORDS[i]}}" ;;',
        "    esac",
        "  done",
        '  case "$typed $prev" in',
    ]
    for place in places:
        for option, choices in place.values:
            lines.append(f'    "{place.path} {option}") offer="{" ".join(choices)}" ;;')
    lines += ["  esac", '  if [ -z "$offer" ]; then', '    case "$typed" in']
    for place in places:
        commands = " ".join(word.text for word in place.commands)
        options = " ".join(word.text for word in place.options)
        lines.append(f'      "{place.path}") offer="{commands}"; [[ "$cur" == -* ]] &&')
        lines.append(f'        offer="{options}" ;;')
    lines += [
        "    esac",
        "  fi",
        '  COMPREPLY=($(compgen -W "$offer" -- "$cur"))',
        "}",
        f"complete -o default -F {name} {program}",
        "",
    ]
    return "\n".join(lines)


def _fish(program: str, places: list[Place]) -> str:
    name = "__" + re.sub(r"\W", "_", program) + "_after"
    lines = [
        f"# {program} --completion fish > ~/.config/fish/completions/{program}.fish",
        f"function {name}",
        "  set -l typed",
        "  for word in (commandline -opc)[2..]",
        "    switch $word",
        "      case '-*'",
        "      case '*'",
        f'        contains -- "$typed $word" {_quoted_paths(places)}; and set typed "$typed $word"',
        "    end",
        "  end",
        '  test "$typed" = "$argv[1]"',
        "end",
    ]
    for place in places:
        head = f"complete -c {program} -n '{name} \"{place.path}\"'"
        values = dict(place.values)
        lines += [
            f"{head} -f -a {word.text} -d {_fish_quoted(word.help)}" for word in place.commands
        ]
        for word in place.options:
            line = f"{head} -l {word.text.removeprefix('--')} -d {_fish_quoted(word.help)}"
            if word.text in values:
                line += f" -x -a '{' '.join(values[word.text])}'"
            lines.append(line)
    return "\n".join([*lines, ""])


def _quoted_paths(places: list[Place]) -> str:
    return " ".join(f'"{place.path}"' for place in places if place.path)


def _fish_quoted(text: str) -> str:
    text = text.replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
