# shellcheck shell=bash
# docker-compose.yml on one host: what it starts, who sees what, ways to submit, scaling, and everything that can happen to
# a container while a batch runs.

test_all_become_healthy() {
    local service id
    whole 2
    for service in ventilator sink worker; do
        for id in $(ids $service); do
            until_true 90 "a healthy $service" is_healthy "$id" || return 1
        done
    done
    [ "$(docker inspect -f '{{.State.ExitCode}}' "$(keys_container)")" = 0 ] || fail "the key service failed"
}
is_healthy() { [ "$(health_of "$1")" = healthy ]; }
keys_container() { docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter label=com.docker.compose.service=keys | head -n 1; }

# Above the base image there are our programs and the libraries they need, and nothing that builds.
test_images_are_small_and_bare() {
    local base image id tool
    base=$(docker image inspect -f '{{.Size}}' debian:bookworm-slim)
    for image in "$TARMAC_IMAGE" "$TARMAC_WORKER_IMAGE"; do
        id=$(docker image inspect -f '{{.Size}}' "$image")
        say "image $image: $((id / 1000000)) MB, $(((id - base) / 1000000)) MB above its base"
    done
    id=$(docker image inspect -f '{{.Size}}' "$TARMAC_IMAGE")
    [ $(((id - base) / 1000000)) -le 30 ] || { fail "the image of the services is too large"; return 1; }
    id=$(one worker)
    for tool in gcc cc make protoc-c ld; do
        ! docker exec "$id" sh -c "command -v $tool" >/dev/null || { fail "$tool is in the image of workers"; return 1; }
    done
    for id in $(one ventilator) $(one sink) $(one worker); do
        docker exec "$id" sh -c '[ "$(id -u)" -ne 0 ] && ! touch /tarmac-was-here 2>/dev/null && touch /tmp/here &&
            grep -qx "CapEff:.*0000000000000000" /proc/1/status && grep -qx "NoNewPrivs:.*1" /proc/1/status' ||
            { fail "$id runs as root, with capabilities, or can write to its image"; return 1; }
    done
}

test_each_service_sees_its_own_keys_only() {
    local service mounts
    for service in ventilator sink worker; do
        mounts=$(docker inspect -f '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}' "$(one $service)" |
            tr ' ' '\n' | grep keys | sed "s/^${COMPOSE_PROJECT_NAME}_//" | xargs)
        [ "$mounts" = "keys-$service" ] || { fail "$service has the volumes '$mounts', not keys-$service alone"; return 1; }
        docker exec "$(one $service)" sh -c '[ -s /keys/own.key ] && [ "$(stat -c %a /keys/own.key)" = 600 ] && ! touch /keys/mine 2>/dev/null' ||
            { fail "$service has no own key with mode 600, or can write to its keys"; return 1; }
    done
    # Without keys, or with those of a worker, nobody gets in.
    ! TARMAC_KEYS='' v status --connect-timeout 2s >"$work/doctor" 2>&1 || { fail "a client without keys is answered"; return 1; }
    docker cp "$(one worker)":/keys "$work/worker-keys" >/dev/null || { fail "can't copy a worker's keys"; return 1; }
    ! v status --keys "$work/worker-keys" --connect-timeout 2s >"$work/doctor" 2>&1 || fail "a client with a worker's keys is answered"
}

test_submit_inside() {
    timeout 120 "${compose[@]}" run --rm -T client submit --wait --format json -- sh -c 'echo $((2*$0))' '{}' ::: 1 2 3 4 5 >"$work/out" 2>"$work/err" </dev/null ||
        { tail -n 5 "$work/err"; fail "submit --wait exits $?"; return 1; }
    [ "$(jq -r .stdout "$work/out" | sort -n | xargs)" = "2 4 6 8 10" ] || { cat "$work/out"; fail "the results are not 2 4 6 8 10"; }
}

# Contents go and come: no file system is shared. Pictures, as the image of workers has ImageMagick.
test_submit_from_the_host() {
    local i
    mkdir -p "$work/pictures"
    for i in 1 2 3; do printf 'P2\n2 2\n255\n%d %d %d %d\n' "$i" "$i" "$i" "$i" >"$work/pictures/$i.pgm"; done
    v submit --wait --pipe --files "$work"/pictures/*.pgm --out-dir "$work/made" --out-name '{/.}.png' -- convert - -resize 8x8! png:- >"$work/out" 2>&1 ||
        { tail -n 5 "$work/out"; fail "submit --files exits $?"; return 1; }
    [ "$(file -b "$work"/made/{1,2,3}.png 2>/dev/null | grep -c 'PNG image data, 8 x 8' || true)" = 3 ] ||
        [ "$(head -qc 4 "$work"/made/{1,2,3}.png | tr -dc 'PNG')" = PNGPNGPNG ] || { ls -l "$work/made"; fail "no three pictures came back"; }
}

test_scale_in_a_batch() {
    local batch before=$SECONDS
    whole 1 && scale 1 || return 1
    batch=$(submit --range 1-20000 -- true) || return 1
    until_true 60 "the first results" has_ok "$batch" 200 && scale 8 && until_true 90 "8 workers" n_workers 8 || return 1
    until_true 300 "results of 8 workers" has_ok "$batch" 6000 && scale 2 || return 1
    recorded_once "$batch" 20000 && until_true 60 "2 workers" n_workers 2 || return 1
    say "20,000 tasks while 1 worker became 8 and then 2: $((SECONDS - before)) s"
}

# ---- mishaps ----

# WHAT happens to the one container of SERVICE ($victim) while a batch runs; then everything is recorded once.
mishap() {    # SERVICE WHAT
    local batch victim n=900
    whole 4 || return 1
    victim=$(one "$1")
    batch=$(submit --range 1-$n -- sh -c 'sleep 0.05') || return 1
    until_true 60 "the first results" has_ok "$batch" 100 || return 1
    "$2_of_$1" || return 1
    recorded_once "$batch" $n && until_true 90 "4 workers" n_workers 4
}
progress() {    # until one more result is recorded
    local n
    until_true 90 "an answer" answers || return 1
    n=$(ok_count "$batch")
    until_true 90 "progress" has_ok_or_all "$batch" $((${n:-0} + 1))
}
has_ok_or_all() { local n; n=$(ok_count "$1"); [ "${n:-0}" -ge "$2" ] || [ "${n:-0}" = 900 ]; }
after() {    # WORDS COMMAND...: the command, and how long until results are recorded again
    local words=$1 since
    shift
    "$@" || { fail "$*: failed"; return 1; }
    since=$(now_ms)
    progress || return 1
    say "$words: results again after $(($(now_ms) - since)) ms"
}
noticed() {    # WORDS COMMAND...
    local words=$1
    shift
    until_true 60 "$words" "$@" || return 1
    say "$words after $waited ms"
}
restart() { timeout 120 docker restart -t 45 "$victim" >/dev/null; }
pause() { docker pause "$victim" >/dev/null; }
unpause() { docker unpause "$victim" >/dev/null; }

pause_of_ventilator() { local w; w=$(one worker); pause && noticed "a ventilator that is paused: a worker waits" is_away "$w" && after "ventilator unpaused" unpause; }
pause_of_sink() { pause && noticed "a sink that is paused: the ventilator misses it" sink_is_missed && after "sink unpaused" unpause; }
pause_of_worker() { pause && noticed "a worker that is paused: it is given up" n_workers 3 && after "worker unpaused" unpause; }
kill_of_ventilator() { after "ventilator killed" crash "$victim"; }
kill_of_sink() { after "sink killed" crash "$victim"; }
kill_of_worker() { after "worker killed" crash "$victim"; }
cut_of_ventilator() { local w; w=$(one worker); unplug "$victim" && noticed "a ventilator that is cut off: a worker waits" is_away "$w" && after "ventilator plugged in" plug_in "$victim" ventilator; }
cut_of_sink() { unplug "$victim" && noticed "a sink that is cut off: the ventilator misses it" sink_is_missed && after "sink plugged in" plug_in "$victim" sink; }
cut_of_worker() { unplug "$victim" && noticed "a worker that is cut off: it is given up" n_workers 3 && after "worker plugged in" plug_in "$victim" worker; }
restart_of_ventilator() { after "ventilator restarted" restart; }
restart_of_sink() { after "sink restarted" restart; }
restart_of_worker() { after "worker restarted" restart; }

test_ventilator_mishaps() { mishap ventilator pause && mishap ventilator kill && mishap ventilator cut && mishap ventilator restart; }
test_sink_mishaps() { mishap sink pause && mishap sink kill && mishap sink cut && mishap sink restart; }
test_worker_mishaps() { mishap worker pause && mishap worker kill && mishap worker cut && mishap worker restart; }
