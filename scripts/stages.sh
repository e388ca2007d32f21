# Stages of a long check, each with its name before it and the time it took in the end. To be sourced.
report=()

stage() { # name command...
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    report+=("$(printf '%-12s %4d s' "$name" $((SECONDS - began)))")
}

stages_report() {
    printf '\n== stages\n'
    printf '%s\n' "${report[@]}"
    printf '%-12s %4d s\n' total "$SECONDS"
}
