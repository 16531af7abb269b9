"""The command ``completion``: a script by which a shell completes commands, options and passes.

It is written from the parsers themselves, as they are here: passes of other packages, too.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from redir.app.options import add_command
from redir.evaluation import METRICS
from redir.io.plugins import plugins
from redir.pipeline.presets import PRESETS

_PLAIN = re.compile(r"[\w.+-]+")  # a word that no shell reads as anything else
_EXAMPLE = 'eval "$(redir completion bash)"'
_PIPELINE = "pipeline"  # names behind commas, too
_STATISTICS = "statistics"
_NAMES: Mapping[str, Callable[[], list[str]]] = {  # of what is installed, by where it is asked for
    _PIPELINE: lambda: [*plugins("redir.passes")],
    "print_ir_after": lambda: [*plugins("redir.passes"), "all"],
    "cost": lambda: [*plugins("redir.costs")],
    _STATISTICS: lambda: [*plugins("redir.statistics")],
    "metric": lambda: [*METRICS],
    "name": lambda: [*plugins("redir.passes"), *PRESETS],
}


@dataclass(frozen=True)
class Option:
    """An option, or where ``flags`` are none what a command takes without one.

    ``words`` are what may follow it, as far as that is known; ``takes`` is whether anything does.
    """

    flags: tuple[str, ...]
    takes: bool
    words: tuple[str, ...]
    help: str
    listed: bool  # with commas between them
    files: bool  # or a file

    @classmethod
    def of(cls, action: argparse.Action) -> Option:
        """What a parser says of an option of its own."""
        named = _NAMES.get(action.dest)
        words = named() if named else map(str, action.choices or ())
        plain = tuple(word for word in words if _PLAIN.fullmatch(word))
        where = action.dest == _PIPELINE, action.dest == _STATISTICS
        flags, takes = tuple(action.option_strings), action.nargs != 0
        return cls(flags, takes, plain, action.help or "", *where)


@dataclass(frozen=True)
class Told:
    """A command, and what it takes."""

    name: str
    help: str
    options: tuple[Option, ...]

    @property
    def flags(self) -> list[str]:
        """All its options, by all their names."""
        return [flag for option in self.options for flag in option.flags]

    @property
    def words(self) -> list[str]:
        """What it takes without an option, as far as that is known."""
        return [word for option in self.options if not option.flags for word in option.words]

    @property
    def worded(self) -> list[Option]:
        """The options that some words may follow."""
        return [option for option in self.options if option.flags and option.words]


def add_completion(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    summary = "Print a script by which a shell completes commands, options and names of passes."
    command = add_command(commands, "completion", partial(_completion, commands), summary, _EXAMPLE)
    command.add_argument("shell", metavar="SHELL", choices=tuple(_SHELLS), help="bash, zsh or fish")


def _completion(commands: Any, options: argparse.Namespace) -> int:
    told = [
        Told(name, parser.description, tuple(map(Option.of, parser._actions)))
        for name, parser in commands.choices.items()
    ]
    sys.stdout.write(_SHELLS[options.shell](told))
    return 0


_BASH = r"""# bash completion for redir
_redir() {
    local cur=$2 prev=$3 line=${COMP_LINE:0:$COMP_POINT} word head done words='' name found
    word=${line##*[[:space:]]}
    word=${word#[\"\']} cur=${cur#[\"\']}
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W '%(commands)s' -- "$cur"))
        return
    fi
    prev=${line%%"${line##*[[:space:]]}"}
    prev=${prev%%"${prev##*[![:space:]]}"}
    prev=${prev##*[[:space:]]}
    COMPREPLY=()
    case "${COMP_WORDS[1]} $prev" in
%(following)s
        *)
            case "${COMP_WORDS[1]} $cur" in
%(taken)s
            esac
            ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
# names behind the last comma of a pipeline; a shell hands over what is behind the last = alone
_redir_passes() {
    head=${word%%"${word##*,}"} done=${word%%"$cur"}
    for name in %(passes)s; do
        [[ $head$name == "$word"* ]] && found=$head$name && COMPREPLY+=("${found#"$done"}")
    done
    compopt -o nospace 2>/dev/null
}
complete -o default -F _redir redir
"""


def _bash(told: list[Told]) -> str:
    following = (_follows(command, option) for command in told for option in command.worded)
    taken = (line for command in told for line in _taken(command))
    return _BASH % {
        "commands": " ".join(command.name for command in told),
        "following": "\n".join(following),
        "taken": "\n".join(taken),
        "passes": " ".join(_passes(told)),
    }


def _passes(told: list[Told]) -> tuple[str, ...]:
    return next(option.words for command in told for option in command.options if option.listed)


def _follows(command: Told, option: Option) -> str:
    """A case for what follows an option."""
    cases = "|".join(f"'{command.name} {flag}'" for flag in option.flags)
    does = "_redir_passes; return" if option.listed else f"words='{' '.join(option.words)}'"
    return f"        {cases}) {does} ;;"


def _taken(command: Told) -> Iterator[str]:
    """The cases for what is behind no option: without a match the shell offers files."""
    yield f"                '{command.name} -'*) words='{' '.join(command.flags)}' ;;"
    yield f"                '{command.name} '*) words='{' '.join(command.words)}' ;;"


def _zsh(told: list[Told]) -> str:
    """The script of bash, which zsh runs by means of its own."""
    return _ZSH + _bash(told)


_ZSH = """# zsh completion for redir
(( $+functions[compdef] )) || { autoload -U compinit; compinit }
autoload -U +X bashcompinit && bashcompinit
"""

_FISH = r"""# fish completion for redir
function __redir_passes
    set -l head (string replace -r '[^,]*$' '' -- (commandline -ct | string trim -c '\'"'))
    printf "$head%%s\n" %(passes)s
end
complete -c redir -n __fish_use_subcommand -f
%(commands)s
"""


def _fish(told: list[Told]) -> str:
    passes = " ".join(_passes(told))
    return _FISH % {"passes": passes, "commands": "\n".join(_fish_lines(told))}


def _fish_lines(told: list[Told]) -> Iterator[str]:
    for command in told:
        about = f"-a {command.name} -d {_quoted(command.help)}"
        yield f"complete -c redir -n __fish_use_subcommand -f {about}"
    for command in told:
        behind = f"complete -c redir -n '__fish_seen_subcommand_from {command.name}'"
        if command.words:
            yield f"{behind} -f -a {_quoted(' '.join(command.words))}"
        for option in command.options:
            if option.flags:
                yield f"{behind} {_fish_option(option)}"


def _fish_option(option: Option) -> str:
    flags = (f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags)
    words = "(__redir_passes)" if option.listed else " ".join(option.words)
    taken = " -r" if option.takes else ""
    if words:
        taken += f"{'' if option.files else ' -f'} -a {_quoted(words)}"
    return f"{' '.join(flags)}{taken} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_SHELLS: Mapping[str, Callable[[list[Told]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
