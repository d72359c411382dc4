# fish completion of forgectl; printed by: forgectl completion fish
function __forgectl_complete
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] "$cur" 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path "$cur"
        else
            echo $line
        end
    end
end
complete -c forgectl -f -a '(__forgectl_complete)'
