"""`gradmf completion`: the script that teaches a shell to complete gradmf's commands, options and paths."""

from __future__ import annotations

import click

VARIABLE = "_GRADMF_COMPLETE"
"""Set by the scripts to the name of the shell: gradmf then answers with completions."""
LINE = "_GRADMF_LINE"
"""The command line up to the cursor."""
WORD_BREAKS = "_GRADMF_BREAKS"
"""Characters at which the shell itself breaks words, after which a reply has to go on."""

# A reply is a line: kind, value and description with tabs between. Kinds: plain; open, which something
# may follow at once; file, which leaves the word to the shell.
_BASH = f"""\
_gradmf_completion() {{
    local kind value description
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value description; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            open) COMPREPLY+=("$value"); compopt -o nospace 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
        esac
    done < <({VARIABLE}=bash {LINE}="${{COMP_LINE:0:COMP_POINT}}" {WORD_BREAKS}="$COMP_WORDBREAKS" \\
        "${{1/#\\~/$HOME}}" 2>/dev/null)
}}
complete -o nosort -F _gradmf_completion gradmf 2>/dev/null || complete -F _gradmf_completion gradmf
"""

_ZSH = f"""\
#compdef gradmf
_gradmf_completion() {{
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
    done < <({VARIABLE}=zsh {LINE}="${{(j: :)words[1,CURRENT-1]}} $QIPREFIX$PREFIX" \\
        "${{words[1]/#\\~/$HOME}}" 2>/dev/null)
    (( $#described )) && _describe -V gradmf described
    (( $#plain )) && compadd -U -Q -V runs -a plain
    (( $#open )) && compadd -U -Q -V folders -S '' -a open
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _gradmf_completion "$@"
else
    compdef _gradmf_completion gradmf
fi
"""

_FISH = f"""\
function _gradmf_completion
    set -l words (commandline -opc)
    set -lx {VARIABLE} fish
    set -lx {LINE} (commandline -cp | string collect)
    for reply in (eval $words[1] 2>/dev/null)
        set -l parts (string split \\t -- $reply)
        if test $parts[1] = file
            __fish_complete_path (commandline -ct)
        else
            printf '%s\\t%s\\n' $parts[2] "$parts[3]"
        end
    end
end
complete --command gradmf --no-files --keep-order --arguments '(_gradmf_completion)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command(
    help="""Print a script for a shell that completes commands, options, predictors and paths of runs.

    \b
    bash  eval "$(gradmf completion bash)"      in ~/.bashrc
    zsh   eval "$(gradmf completion zsh)"       in ~/.zshrc, after compinit
    fish  gradmf completion fish | source       in ~/.config/fish/config.fish
    """,
    short_help="The script that lets a shell complete gradmf.",
    epilog="""\b
Examples:
  eval "$(gradmf completion bash)"
  gradmf completion fish > gradmf.fish""",
)
@click.argument("shell", type=click.Choice(sorted(SCRIPTS)), metavar="bash|zsh|fish")
def command(shell: str) -> int:
    click.echo(SCRIPTS[shell], nl=False)
    return 0
