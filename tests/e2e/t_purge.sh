# shellcheck shell=bash disable=SC2016
# purge and retention: complete batches are forgotten by both sides, whatever crashes; the space goes back.

# Whether neither side keeps anything of it any more.
sink_has_forgotten() { ! ventilator purge "$1" 2>&1 | grep -q 'still to forget'; }

size_of() { stat -c %s "$1"; }
smaller_than() { [ "$(size_of "$1")" -lt "$2" ]; }    # FILE BYTES

test_purge_one() {
    start_cluster 1
    local batch
    batch=$(submit --key nightly -- echo {} ::: 1 2 3)
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator purge "$batch"
    assert_eq "answer" "$(cat "$T/out")" "$batch is purged"
    assert_exit 0 ventilator purge "$batch"
    assert_eq "the same again" "$(cat "$T/out")" "$batch is purged already"
    local command
    for command in status results cancel explain seal wait; do
        assert_refused 4 "$batch was purged at UTC" ventilator "$command" "$batch"
    done
    assert_exit 0 ventilator list --json
    [ ! -s "$T/out" ] || fail "a purged batch should not be listed: $(cat "$T/out")"
    assert_refused 4 "nightly $batch purged --key" ventilator submit --key nightly -- echo {} ::: 1 2 3
    batch=$(submit --key another -- echo {} ::: 1)
    assert_exit 0 ventilator wait "$batch"
}
