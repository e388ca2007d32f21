# Runs the commands of README.md as they are written there. To be sourced by a script with a folder `work`
# of its own, a function `fail`, and a list `pids` of what it ends.

# The commands of one section: its ```sh blocks, a line each.
commands() { # section
    awk -v want="## $1" '/^## /{here = ($0 == want)} here && /^```sh$/{code = 1; next} /^```$/{code = 0} code' README.md |
        sed -e ':join' -e '/\\$/N; s/\\\n *//; t join'
}

# Waits until a command succeeds, for so many seconds.
until_true() { # seconds command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited too long for: $*"
        sleep 0.2
    done
}

# Starts the playground on ports of its own, so that nothing is in the way of one that runs already.
playground() { # bin port
    PLAYGROUND_PORT=$2 scripts/playground.sh "$1" "$work/playground" >"$work/playground.log" 2>&1 &
    pids+=($!)
    until_true 30 test -s "$work/playground/env"
}

# Runs the commands of a section in this shell, one after the other, so that each finds the variables of those
# before. Answers are shown; the last one is left in the file `answer`.
play() { # section
    local all command code answer
    mapfile -t all < <(commands "$1")
    [ "${#all[@]}" -gt 0 ] || fail "no commands under: $1"
    for command in "${all[@]}"; do
        echo "readme: $ $command"
        case "$command" in
        # The script has started it.
        'make playground') continue ;;
        esac
        code=0 answer=answer
        # What stays behind has a place of its own to write to.
        case "$command" in *'&') answer=background ;; esac
        # A variable that README forgot to set is an empty word for its reader, too.
        set +u
        eval "${command//target\/playground/"$work/playground"}" >"$work/$answer" 2>"$work/$answer.log" </dev/null || code=$?
        set -u
        case "$command" in *'&') pids+=($!) && continue ;; esac
        # A stream of events ends when curl's time is over: 28.
        [ "$code" = 0 ] || [ "$code" = 28 ] || fail "exit code $code"
        cut -c1-200 "$work/answer" | sed -n 1,12p
        ! grep -qE '^\{.*"status": *[45][0-9][0-9]' "$work/answer" || fail "refused"
        case "$command" in
        *'curl -sS -N'*) grep -qE '^event: *agent.ready' "$work/answer" || fail "no agent in the events" ;;
        esac
    done
}
