# bash completion of forgectl; printed by: forgectl completion bash
_forgectl() {
    local line=${COMP_LINE:0:COMP_POINT} here=${COMP_WORDS[COMP_CWORD]} cur lead out candidate
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    cur=${words[-1]}
    # readline breaks words at = @ and : as well; what stands before the break is not to be repeated.
    case $here in
    [=@:]) here='' ;;
    esac
    lead=${cur%"$here"}
    COMPREPLY=()
    while IFS= read -r out; do
        candidate=${out%%$'\t'*}
        if [[ $candidate == :files ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$here")
            return
        fi
        COMPREPLY+=("${candidate#"$lead"}")
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _forgectl forgectl
