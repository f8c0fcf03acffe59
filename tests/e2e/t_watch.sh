# shellcheck shell=bash
# The control tower in a terminal, through tmux; and as lines where there is none.

export LC_ALL=C.UTF-8
tower() { tmux -S "$T/tmux" -f /dev/null "$@"; }
open_tower() {    # COLUMNS ROWS [VAR=value…] [-- options of watch]
    local cols=$1 rows=$2
    shift 2
    tower new-session -d -x "$cols" -y "$rows" "env $* $BIN/ventilator watch --interval 200ms 2>$T/watch.err; echo watch ended with \$?; read -r x"
    PIDS[tmux]=$(tower display-message -p '#{pid}')
}
close_tower() {
    tower kill-server
    wait_for 5 "the end of tmux" not_alive "${PIDS[tmux]}"
    unset "PIDS[tmux]"
}
keys() { tower send-keys "$@"; }
screen() { tower capture-pane -p >"$T/screen" && cat "$T/screen"; }
screen_has() { screen | grep -qE -- "$1"; }
wait_screen() { holds_within $((10 * PATIENCE)) screen_has "$1" || fail "the screen should have '$1', is: $(cat "$T/screen")"; }

test_the_tower_at_two_sizes() {
    start_cluster 2 --slots 2
    local batch
    batch=$(submit --name thumbs --deadline 10m -- sh -c 'exec cat "$0"' "$T/never" ::: a)
    wait_for 10 "the end of the first" status_reaches "$batch" failed 1
    batch=$(submit --name long --deadline 10m --range 1-6 -- sh -c 'exec tail -f /dev/null')
    wait_for 10 "four to run" status_reaches "$batch" running 4
    open_tower 80 24
    wait_screen '^> 1 Batches  2, by newest'
    wait_screen "^> $batch +░░░░░░   0% +0/6 +[4-6] +- .* 9m[0-9]+s long"
    wait_screen "██████ 100% +1/1 +0 +1 .* done +- thumbs"
    wait_screen '^ 2 workers, 4/4 slots busy, '
    wait_screen '^  w1 +ready +████████ 2/2 '
    wait_screen "^  $batch +[0-3] +1 w[12] .* 9m[0-9]+s █"
    assert_eq "lines" "$(screen | wc -l)" 24
    [ "$(screen | wc -L)" -le 80 ] || fail "the screen is wider than 80: $(cat "$T/screen")"
    tower resize-window -x 200 -y 60
    wait_screen 'STATE +PROGRESS +DONE +QUEUED +RUN +OK +FAILED'
    assert_eq "lines" "$(screen | wc -l)" 60
    wait_screen '127\.0\.0\.1 +\(commands\)'
    tower resize-window -x 80 -y 24
    wait_screen '^  BATCH   PROGRESS +DONE   RUN NOT OK'
    keys '?'
    wait_screen 'any key goes back'
    keys z q
    wait_screen 'watch ended with 0'
    close_tower
    assert_exit 0 ventilator cancel "$batch"
}

test_keys_cancel_extend_and_drain() {
    start_cluster 2
    local one two
    one=$(submit --name one --deadline 10m --range 1-4 -- sh -c 'exec tail -f /dev/null')
    two=$(submit --name two --range 1-4 -- sh -c 'exec tail -f /dev/null')
    wait_for 10 "two to run" status_reaches "$one" running 2
    open_tower 100 30
    wait_screen "^> $two"
    keys j
    wait_screen "^> $one"
    keys e 2h Enter
    wait_screen "let batch $one end within 2h00m from now"
    keys y
    wait_screen "$one: deadline in 7(200|1[0-9][0-9]) s"
    [ "$(status_of "$one" deadline_left_ms)" -gt 7000000 ] || fail "the deadline has not moved"
    keys c
    wait_screen "cancel all of batch $one\\?"
    keys n
    wait_screen 'nothing was changed'
    assert_eq "state" "$(status_of "$one" state)" sealed
    keys 3 c
    wait_screen "cancel task [01] of batch $one\\?"
    keys y
    wait_screen "$one cancelled: 0 queued, 1 running"
    wait_for 10 "one task to be cancelled" status_reaches "$one" cancelled 1
    keys 1 c y
    wait_for 10 "all of it to be cancelled" status_reaches "$one" cancelled 4
    keys 2 j d
    wait_screen 'empty worker w2, and let it leave'
    keys y
    wait_screen '^> w2 +draining|w2 is draining'
    keys 1 / two Enter
    wait_screen '1 that match, by newest  filter: two'
    keys k x
    wait_screen "batch $two is sealed: 4 tasks"
    keys x q
    wait_screen 'watch ended with 0'
    close_tower
    assert_exit 0 ventilator cancel "$two"
}

test_the_tower_marks_what_is_stale_and_comes_back() {
    start_cluster 1
    local batch
    batch=$(submit --name kept --range 1-3 -- sh -c 'exec tail -f /dev/null')
    wait_for 10 "one to run" status_reaches "$batch" running 1
    open_tower 80 24 TERM=screen NO_COLOR=1
    wait_screen 'live +tcp:'
    stop ventilator KILL 137
    wait_screen 'STALE: no answer for'
    wait_screen "^> $batch .*kept"
    start_ventilator
    wait_screen 'live +tcp:'
    screen_has STALE && fail "it is still stale"
    tower capture-pane -p -e >"$T/escapes"
    if grep -qE $'\e\\[([0-9]+;)*(3[0-8]|9[0-7])[;m]' "$T/escapes"; then fail "there are colours in spite of NO_COLOR"; fi
    keys C-c
    wait_screen 'watch ended with 0'
    close_tower
    assert_exit 0 ventilator cancel "$batch"
}

watch_says() { grep -qE -- "$1" "$T/watch.out"; }

test_lines_on_a_pipe_and_a_dumb_terminal() {
    start_cluster 1
    start watch "$BIN/ventilator" watch --interval 100ms
    wait_for 10 "the first line" watch_says '^1 worker, 0/1 slots busy, 0 queued, 0 at workers'
    local batch
    batch=$(submit --name brief --range 1-3 -- sh -c 'exec tail -f /dev/null')
    wait_for 10 "a line of the batch" watch_says "^$batch \"brief\" sealed 0/3 .* running [1-3]"
    assert_exit 0 ventilator cancel "$batch"
    wait_for 10 "its end" watch_says "^$batch \"brief\" complete 3/3  cancelled 3\$"
    if grep -q $'\e' "$T/watch.out"; then fail "there are escapes in the lines"; fi
    stop watch TERM 0
    tower new-session -d -x 80 -y 24 "TERM=dumb $BIN/ventilator watch --interval 100ms; echo watch ended with \$?; read -r x"
    PIDS[tmux]=$(tower display-message -p '#{pid}')
    wait_screen '^1 worker, 0/1 slots busy'
    keys C-c
    wait_screen 'watch ended with 0'
    close_tower
}

test_watch_says_what_is_wrong() {
    assert_refused 3 "ipc://$T/nobody" ventilator watch --ventilator "ipc://$T/nobody" --connect-timeout 100ms
    assert_exit 2 ventilator watch b7k2
    assert_contains "$T/err" "usage: ventilator watch [options]"
    assert_exit 2 ventilator watch --interval soon
    assert_contains "$T/err" "interval"
}
