# shellcheck shell=bash
# Payloads and results of real size: contents go with --files and come back with --out-dir, no file system is shared, and
# memory is bounded by what is in flight.

MIB=1024    # in kB, as everything here
N=7         # files of 64 MiB, the largest payload that there is

make_files() {
    local i
    mkdir -p "$T/in"
    for ((i = 1; i <= N; i++)); do
        printf 'file %d\n' "$i" >"$T/in/$i.dat"
        truncate -s 64M "$T/in/$i.dat"
    done
}

peaks_until() {    # NAME: of the process that is waited for
    local now name
    declare -gA peaks=()
    while alive "${PIDS[$1]}"; do
        for name in "$1" ventilator sink w1 w2; do
            now=$(anonymous_kb "${PIDS[$name]}" 2>/dev/null)
            [ "${now:-0}" -le "${peaks[$name]:-0}" ] || peaks[$name]=$now
        done
        nap 0.02
    done
}

# 448 MiB go through everybody. In flight at a worker: one payload in its slot and one that waits, each with the result of the
# one before; at the others no more than what is on its way.
test_plain_files_of_64_mib_go_and_come_back() {
    local name i
    make_files
    start_cluster 2
    start submit "$BIN/ventilator" submit --wait --pipe --files "$T"/in/*.dat --max-output 64M --out-dir "$T/made" --out-name '{/}' -- cat
    peaks_until submit
    ended submit 0 100
    for ((i = 1; i <= N; i++)); do
        cmp "$T/in/$i.dat" "$T/made/$i.dat" || fail "file $i came back changed"
        rm "$T/made/$i.dat"
    done
    rmdir "$T/made" || fail "there is more in the folder: $(ls -A "$T/made")"
    for name in submit ventilator sink w1 w2; do echo "# $name: at most $((${peaks[$name]} / MIB)) MiB"; done
    for name in submit ventilator sink w1 w2; do
        assert_between "peak of $name in kB" "${peaks[$name]}" 1 $((400 * MIB))
    done
}

# One byte too many is refused in words, and nothing is half done.
test_a_file_that_is_too_large() {
    start_cluster 1
    mkdir -p "$T/in"
    truncate -s $((64 * 1024 * 1024 + 1)) "$T/in/large.dat"
    assert_exit 4 "$BIN/ventilator" submit --pipe --files "$T/in/large.dat" -- cat
    grep -qE '64|67108864' "$T/err" || fail "the refusal should name the bound: $(cat "$T/err")"
}

# Two files of one name in different folders: both results are there.
test_files_of_one_name() {
    local i
    start_cluster 2
    for i in 1 2 3; do mkdir -p "$T/in$i"; echo "from $i" >"$T/in$i/same.txt"; done
    assert_exit 0 "$BIN/ventilator" submit --wait --pipe --files "$T"/in?/same.txt --out-dir "$T/made" --out-name '{/}' -- cat
    assert_eq "contents" "$(cat "$T"/made/* | sort | paste -sd' ' -)" "from 1 from 2 from 3"
    [ -s "$T/made/same.txt" ] || fail "none of them has the plain name: $(ls "$T/made")"
    assert_eq "names" "$(find "$T/made" -name 'same-[123].txt' | wc -l)" 2
}
