"""How bash, zsh and fish ask for completions: click's classes for them, and the scripts that they are taught.

Click's own hand the words over one by one as the shell breaks them, which loses where `ema:0.9` began. These
hand over the line up to the cursor, and each value comes back as it is to replace what the shell takes for
the word. A reply is a line: kind, value and description with tabs between. Kinds: plain; open, which
something may follow at once; file, which leaves the word to the shell.
"""

from __future__ import annotations

import os
import re
from typing import Any

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

VARIABLE = "_GRADMF_COMPLETE"
"""Set by the scripts to `bash_complete` and the like: gradmf then answers with completions."""
LINE = "_GRADMF_LINE"
"""The command line up to the cursor."""
WORD_BREAKS = "_GRADMF_BREAKS"
"""Characters at which bash breaks words, after which a reply has to go on."""

_CURSOR = "\ue000"
"""A character of no meaning, so that a word that is still empty is a word."""
_SAFE = re.compile(r"[^\w@%+=:,./~-]")


class _Shell(ShellComplete):
    """Completes the line up to the cursor."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The complete words after the program's name, and the word that the cursor is in."""
        *before, word = split_arg_string(os.environ.get(LINE, "") + _CURSOR)
        return before[1:], word.replace(_CURSOR, "")

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What can stand in the place of the word; click tells of `--rank=ex` what can stand behind the =."""
        option, equals, _ = incomplete.partition("=")
        given = f"{option}=" if equals and option.startswith("-") else ""
        return [
            item
            if item.type == "file"
            else CompletionItem(self.typed(f"{given}{item.value}", incomplete), item.type, item.help)
            for item in super().get_completions(args, incomplete)
        ]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """The reply."""
        help_text = " ".join((item.help or "").split())
        return "\t".join((item.type, item.value, *filter(None, (help_text,))))

    def typed(self, value: str, word: str) -> str:  # noqa: ARG002
        """The value as it is to replace what the shell takes for the word."""
        return value


class Bash(_Shell):
    """Takes a word for several where one of COMP_WORDBREAKS is in it."""

    name = "bash"
    source_template = f"""\
%(complete_func)s() {{
    local kind value description
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value description; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            open) COMPREPLY+=("$value"); compopt -o nospace 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
        esac
    done < <(%(complete_var)s=bash_complete {LINE}="${{COMP_LINE:0:COMP_POINT}}" \\
        {WORD_BREAKS}="$COMP_WORDBREAKS" "${{1/#\\~/$HOME}}" 2>/dev/null)
}}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null \\
    || complete -F %(complete_func)s %(prog_name)s
"""

    def typed(self, value: str, word: str) -> str:
        """What follows the part of the word that bash takes for words of their own."""
        breaks = [mark for mark in ":=" if mark in os.environ.get(WORD_BREAKS, "")]
        return _quoted(value, max((word.rfind(mark) + 1 for mark in breaks), default=0))


class Zsh(_Shell):
    """Takes words whole."""

    name = "zsh"
    source_template = f"""\
#compdef %(prog_name)s
%(complete_func)s() {{
    local kind value description
    local -a plain open described
    while IFS=$'\\t' read -r kind value description; do
        case $kind in
            plain)
                if [[ -n $description ]]; then
                    described+=("${{value//:/\\\\:}}:$description")
                else
                    plain+=("$value")
                fi ;;
            open) open+=("$value") ;;
            file) _files ;;
        esac
    done < <(%(complete_var)s=zsh_complete {LINE}="${{(j: :)words[1,CURRENT-1]}} $QIPREFIX$PREFIX" \\
        "${{words[1]/#\\~/$HOME}}" 2>/dev/null)
    (( $#described )) && _describe -V gradmf described
    (( $#plain )) && compadd -U -Q -V runs -a plain
    (( $#open )) && compadd -U -Q -V folders -S '' -a open
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

    def typed(self, value: str, word: str) -> str:  # noqa: ARG002
        """The value, quoted."""
        return _quoted(value)


class Fish(_Shell):
    """Takes words whole, and quotes by itself."""

    name = "fish"
    source_template = f"""\
function %(complete_func)s
    set -l words (commandline -opc)
    set -lx %(complete_var)s fish_complete
    set -lx {LINE} (commandline -cp | string collect)
    for reply in (eval $words[1] 2>/dev/null)
        set -l parts (string split \\t -- $reply)
        if test "$parts[1]" = file
            __fish_complete_path (commandline -ct)
        else if test -n "$parts[1]"
            printf '%%s\\t%%s\\n' $parts[2] "$parts[3]"
        end
    end
end
complete --command %(prog_name)s --no-files --keep-order --arguments '(%(complete_func)s)'
"""


SHELLS: dict[str, type[ShellComplete]] = {
    shell.name: add_completion_class(shell) for shell in (Bash, Fish, Zsh)
}


def _quoted(value: str, begun: int = 0) -> str:
    """What goes on behind `begun` characters, with what the shell would read as more than text escaped.

    Within a quote the value is given whole: there it is one word, and the shell escapes.
    """
    return value if _open_quote(os.environ.get(LINE, "")) else _SAFE.sub(r"\\\g<0>", value[begun:])


def _open_quote(line: str) -> str:
    """The quote that the end of the line is within, or nothing."""
    quote = ""
    escaped = False
    for character in line:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return quote
