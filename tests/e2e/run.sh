#!/bin/bash
# Runs the end-to-end tests, each function test_* of each t_*.sh in a shell, a folder and a time limit of
# its own, and prints TAP. A test that measures what a sanitizer distorts is named test_plain_*: it is left
# out, not skipped, when SAN is set; so are the files in $waiting, whose minutes go by in waiting for bounds and whose
# crashes, losses and drains others have as well, unless SAN_ALL is set.
# usage: [B=build] [SAN=…] [SAN_ALL=1] [E2E_JOBS=one and a half for each core] [E2E_UNTIL=seconds since 1970] tests/e2e/run.sh [NAME...]
# NAME: a part of FILE/FUNCTION. After E2E_UNTIL no test begins; those that are left are skipped, and say so.
set -u
cd "$(dirname "$0")/../.." || exit 1
export B=${B:-build} SAN=${SAN:-} LC_ALL=C.UTF-8
limit=${E2E_LIMIT:-800} jobs=${E2E_JOBS:-$(($(nproc) * 3 / 2))}
[ -z "$SAN" ] || limit=$((limit * 2))

for built in bin/ventilator bin/worker bin/sink tests/{relay,pretender,powercut.so,disk_shim.so,wallclock.so}; do
    [ -x "$B/$built" ] || { echo "Bail out! $B/$built is not built; run: make programs tests"; exit 1; }
done

# A network of its own for each test, where that is allowed: while a process is down that is started again, no neighbour takes its ports.
# shellcheck disable=SC2016
alone=(unshare -n -- sh -c 'ip link set lo up && exec "$@"' sh)
"${alone[@]}" true 2>/dev/null || alone=()

waiting="t_hosts t_matrix t_rolling t_stuck"
tests=()
for file in tests/e2e/t_*.sh; do
    if [ -n "$SAN" ] && [ -z "${SAN_ALL:-}" ] && [[ " $waiting " == *" $(basename "$file" .sh) "* ]]; then continue; fi
    while read -r name; do
        [ -z "$SAN" ] || case $name in test_plain_*) continue ;; esac
        full=$(basename "$file" .sh)/$name
        if [ $# -eq 0 ]; then tests+=("$full"); continue; fi
        for part in "$@"; do case $full in *"$part"*) tests+=("$full"); break ;; esac; done
    done < <(sed -n 's/^\(test_[a-z0-9_]*\)() *{.*/\1/p' "$file")
done
[ ${#tests[@]} -gt 0 ] || { echo "Bail out! no end-to-end test fits: $*"; exit 1; }

# Whoever is told to leave takes along what it runs: `timeout` has a group of its own and passes the signal on to the test.
leave() { jobs -p | xargs -r kill 2>/dev/null; wait; rm -rf "${E2E_DIR:-}"; exit 143; }

# One test: what it has to say goes into the file NUMBER.tap of $results, in one piece when it is over.
run_one() {    # NUMBER FILE/FUNCTION
    local number=$1 full=$2 began=$SECONDS code
    trap leave TERM INT
    E2E_DIR=$(mktemp -d /tmp/tarmac-e2e.XXXXXX) || exit 1
    export E2E_DIR E2E_NAME=$full
    # timeout signals the whole group; what left the group is found by its mark.
    timeout -k 40 "$limit" "${alone[@]}" bash -c 'set -u; . tests/e2e/lib.sh; . "tests/e2e/${E2E_NAME%%/*}.sh"; "${E2E_NAME##*/}"' >"$E2E_DIR/said" 2>&1 &
    wait $!
    code=$?
    [ $code -ne 124 ] || printf '# %s took longer than %s s\n' "$full" "$limit" >>"$E2E_DIR/said"
    if [ $code -eq 0 ]; then
        echo "ok $number - e2e/$full ($((SECONDS - began)) s)"
        grep '^#' "$E2E_DIR/said"    # figures, and the seed that made them
    else
        echo "not ok $number - e2e/$full ($((SECONDS - began)) s)"
        sed 's/^#* */# /' "$E2E_DIR/said"
    fi >"$results/$number.part"
    rm -rf "$E2E_DIR"
    mv "$results/$number.part" "$results/$number.tap"
}

results=$(mktemp -d /tmp/tarmac-e2e-results.XXXXXX) || exit 1
trap 'rm -rf "$results"' EXIT
trap leave TERM INT

# Most of a test is waiting, so more of them than cores run at a time. What they say is printed in order.
# These tests have real clocks in them, and a machine that stands still for a few seconds can break any of them: one that
# failed runs once more, alone, and what the first try said is shown all the same. Where many fail none gets a second try.
started=0 printed=0 failed=0 again=()
print_ended() {
    local file
    while [ -e "$results/$((printed + 1)).tap" ]; do
        printed=$((printed + 1))
        file=$results/$printed.tap
        if grep -q '^not ok' "$file"; then
            again+=("$printed")
            sed 's/^/# first try: /' "$file"
        else
            cat "$file"
        fi
    done
}

echo "1..${#tests[@]}"
for full in "${tests[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; print_ended; done
    started=$((started + 1))
    if [ -n "${E2E_UNTIL:-}" ] && [ "$EPOCHSECONDS" -ge "$E2E_UNTIL" ]; then
        echo "ok $started - e2e/$full # SKIP the time for these tests was up" >"$results/$started.tap"
    else
        run_one $started "$full" &
    fi
done
wait
print_ended

for number in "${again[@]}"; do
    full=${tests[number - 1]}
    if [ ${#again[@]} -le 5 ]; then
        run_one "$number" "$full"
        ! grep -q '^ok' "$results/$number.tap" || echo "# second try: $full needed one"
    fi
    cat "$results/$number.tap"
    ! grep -q '^not ok' "$results/$number.tap" || failed=$((failed + 1))
done
[ $failed -eq 0 ] && [ $printed -eq ${#tests[@]} ]
