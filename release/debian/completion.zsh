#compdef balancectl
autoload -U +X bashcompinit && bashcompinit

_balancectl() {
  local word=${COMP_WORDS[COMP_CWORD]} words=
  if [ "$COMP_CWORD" -eq 1 ]; then words="status why check drain down up failback clear completion spread help"
  else case ${COMP_WORDS[1]} in
    status) words="-at -every -json -watch" ;;
    why) words="-at -json" ;;
    check) words="-coredns -strict" ;;
    drain) words="-at -configmap -dry-run -file -for -force -name -until -wait -why" ;;
    down) words="-at -configmap -dry-run -file -for -force -name -until -wait -why" ;;
    up) words="-at -configmap -dry-run -file -for -force -name -until -wait -why" ;;
    failback) words="-at -configmap -dry-run -file -force -wait -why" ;;
    clear) words="-at -configmap -dry-run -file -force -name -wait" ;;
    completion) words="bash zsh" ;;
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _balancectl balancectl
