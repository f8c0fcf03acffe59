# libtarmac as others use it: installed, found by pkg-config, the examples compiled and run against a cluster.

build_examples() {    # compiles every examples/*.c against the installed library, into $T/bin
    local file flags
    # Tests run side by side, and this writes into the build folder too.
    flock "$B/flags" make -s install B="$B" DESTDIR="$T/root" PREFIX=/usr >"$T/install.out" 2>&1 || fail "make install: $(tail -n 5 "$T/install.out")"
    ! grep -q '^  CC ' "$T/install.out" || fail "make install compiles $(grep -c '^  CC ' "$T/install.out") files: others run what lies there; make it first, and with the same flags"
    export PKG_CONFIG_SYSROOT_DIR=$T/root PKG_CONFIG_PATH=$T/root/usr/lib/pkgconfig PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
    read -ra flags <<<"$(pkg-config --cflags --libs libtarmac)"
    [ ${#flags[@]} -ge 3 ] || fail "pkg-config says nothing of libtarmac: ${flags[*]}"
    mkdir "$T/bin"
    for file in examples/*.c; do
        cc -Wall -Wextra -Werror -o "$T/bin/$(basename "$file" .c)" "$file" "${flags[@]}" ${SAN:+-fsanitize=$SAN} 2>"$T/cc.err" ||
            fail "$file: $(head -n 20 "$T/cc.err")"
    done
    export LD_LIBRARY_PATH=$T/root/usr/lib
}

test_fan_out_and_fan_in() {
    build_examples
    start_cluster 3
    assert_exit 0 "$T/bin/fan_out" 1 2 3 4 5
    assert_eq "the sum of squares" "$(tail -n 1 "$T/out")" "sum 55"
    assert_eq "results" "$(grep -c ': ok' "$T/out")" 5
    # One that is no number: the shell's own complaint, and the rest all the same.
    assert_exit 0 "$T/bin/fan_out" 2 x/ 3
    assert_contains "$T/out" "sum 13"
}

test_a_query_that_takes_too_long() {
    build_examples
    start_ventilator
    start_sink
    start_worker w1 --handler "query=sqlite3 :memory: {}"
    assert_exit 0 "$T/bin/slow_query" 30000 1000
    assert_contains "$T/out" "rows: 1000"
    assert_exit 0 "$T/bin/slow_query" 2000
    assert_contains "$T/out" "deadline exceeded"
    assert_between "ms until it was cut off" "$took" 1900 $((5000 * PATIENCE))
    wait_for 10 "the end of the query" none_running "WITH RECURSIVE"
}

test_a_cancelled_tree() {
    build_examples
    start_cluster 1 --slots 3
    assert_exit 0 "$T/bin/cancelled_tree"
    assert_eq "ends" "$(sort "$T/out")" "$(printf 'apart: ok, for ada\nleft: cancelled, for ada\nright: cancelled, for ada')"
    wait_for 10 "the end of the commands" none_running "sleep 3600"
}

test_nobody_there() {
    build_examples
    export TARMAC_VENTILATOR=ipc://$T/nobody
    assert_exit 1 timeout 60 "$T/bin/fan_out" 1
    assert_contains "$T/err" "can't reach the ventilator"
    export TARMAC_VENTILATOR=nonsense
    assert_exit 1 "$T/bin/fan_out" 1
    assert_contains "$T/err" "nonsense"
}
