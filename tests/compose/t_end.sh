# shellcheck shell=bash
# The end of it all.

test_stop_is_quick_and_clean() {
    local service since code
    whole 2 || return 1
    since=$SECONDS
    timeout 120 "${compose[@]}" stop >"$work/stop" 2>&1 </dev/null || { cat "$work/stop"; fail "stop failed"; return 1; }
    [ $((SECONDS - since)) -lt 40 ] || { fail "stopping idle containers took $((SECONDS - since)) s"; return 1; }
    for service in ventilator sink worker; do
        for code in $(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter "label=com.docker.compose.service=$service" |
            xargs docker inspect -f '{{.State.ExitCode}}'); do
            [ "$code" = 0 ] || { fail "$service ended with exit code $code"; return 1; }
        done
    done
}
