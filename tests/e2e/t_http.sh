# shellcheck shell=bash
# The control tower: its JSON, stream, actions, and what it refuses. docs/http.md is the contract.

start_tower() {    # [options of the ventilator]
    start_ventilator --http 127.0.0.1:0 "$@"
    url=$(ready_field ventilator http)
    [ -n "$url" ] || fail "the ready line of the ventilator lacks http="
}
start_tower_cluster() {    # [options of the ventilator]
    start_tower "$@"
    start_sink
    start_worker w1 --slots 2 --shutdown-timeout 60s
    wait_for 20 "the worker in the overview" overview_is .workers 1
}

get() { curl -sS --max-time 30 "$@"; }
code() { get -o "$T/body" -w '%{http_code}' "$@"; }
assert_code() {    # CODE CURL-ARGUMENTS...
    local wanted=$1 got
    shift
    got=$(code "$@")
    [ "$got" = "$wanted" ] || fail "curl $* answers $got, should be $wanted: $(head -c 600 "$T/body")"
}
# The same for a refusal, which is a sentence in JSON.
assert_error() {    # CODE WORDS CURL-ARGUMENTS...
    local wanted=$1 words=$2
    shift 2
    assert_code "$wanted" "$@"
    jq -e '.error | length > 10' "$T/body" >/dev/null || fail "curl $*: this is no refusal: $(head -c 600 "$T/body")"
    assert_contains "$T/body" "$words"
}
field_of() { get "$url/api/v1/$1" | jq -r "$2"; }    # PATH FILTER
field_is() { [ "$(field_of "$1" "$2")" = "$3" ]; }
overview_is() { field_is overview "$1" "$2"; }
post() { code -X POST -H 'X-Tarmac: 1' -H 'Content-Type: application/json' "$@"; }

test_every_path_answers() {
    local batch path failed
    start_tower_cluster
    batch=$(submit --name "süß" --timeout 300s --value user=ada -- sleep {} ::: 100 100 100 100 100)
    failed=$(submit --priority 5 --retries 1 --backoff 1ms,1,1ms -- sh -c 'echo "no luck" >&2; exit 3' ::: 1)
    wait_for 20 "two running attempts" overview_is .running 2
    for path in overview batches "batches?most=1" "batches/$batch" workers workers/w1 "explain/$batch" "explain/$batch/3" field slowest history \
        "history?batch=$batch" failures "failures?batch=$batch"; do
        assert_code 200 "$url/api/v1/$path"
        jq -e 'type == "object"' "$T/body" >/dev/null || fail "$path is no JSON object: $(head -c 300 "$T/body")"
    done
    assert_eq "overview" "$(field_of overview '"\(.slots) \(.open_batches) \(.sink_present) \(.ready)"')" "2 2 true true"
    assert_eq "the batch" "$(field_of "batches/$batch" '"\(.batch) \(.name) \(.state) \(.total)"')" "$batch süß sealed 5"
    assert_eq "a page" "$(field_of 'batches?most=1' '"\(.batches | length) \(.more)"')" "1 true"
    assert_eq "the rest" "$(field_of 'batches?most=9&after=1' '.batches[].batch')" "$failed"
    assert_eq "the worker" "$(field_of workers/w1 '"\(.name) \(.slots) \(.commands) \(.attempts | length)"')" "w1 2 true 2"
    assert_eq "the slowest" "$(field_of slowest '"\(.attempts | length) \(.attempts[0].phase) \(.attempts[0].left_ms < 300000)"')" "2 running true"
    assert_eq "the stand" "$(field_of field '.stands[0] | "\(.[1]) \(.[3]) \(.[5])"')" "w1 2 2"
    assert_eq "explain" "$(field_of "explain/$batch/4" '.lines | any(test("queued"))')" true
    wait_for 20 "points of the history" eval '[ "$(field_of history ".fine.running | max")" = 2 ]'
    ventilator cancel "$batch" >/dev/null 2>&1
    ventilator wait "$failed" >/dev/null 2>&1
    wait_for 20 "the failures" eval '[ "$(field_of failures ".failures | length")" = 2 ]'
    assert_eq "a failure" "$(field_of "failures?batch=$failed" '.failures[0] | "\(.verdict) \(.code) \(.stderr) \(.worker) \(.settled)"')" "failed 3 no luck
 w1 true"
    for path in nothing batches/zzzz workers/w9 explain/zzzz "history?batch=zzzz" batches/a/b/c/d/e; do assert_error 404 "" "$url/api/v1/$path"; done
    for path in 'batches?most=0' 'batches?most=257' 'batches?after=x' 'slowest?most=1000' "explain/$batch/x"; do assert_error 400 "" "$url/api/v1/$path"; done
    for path in / /index.html /tower.js /tower.css /metrics /healthz /readyz; do assert_code 200 "$url$path"; done
    assert_error 404 "nothing at this path" "$url/../../etc/passwd"
    assert_error 404 "nothing at this path" --path-as-is "$url/..%2f..%2fetc%2fpasswd"
    get -D - -o "$T/body" "$url/" | tr -d '\r' >"$T/headers"
    assert_contains "$T/headers" "Content-Security-Policy: default-src 'none'"
    assert_contains "$T/headers" "X-Content-Type-Options: nosniff"
    ! grep -qi access-control "$T/headers" || fail "there are CORS headers"
}

test_actions_act() {
    local batch other
    start_tower_cluster
    batch=$(submit --deadline 5m -- sleep {} ::: 100 100 100)
    other=$(submit -- sleep {} ::: 100)
    wait_for 20 "two running attempts" overview_is .running 2
    assert_eq "extend" "$(post -d '{"deadline_ms":3600000}' "$url/api/v1/batches/$batch/extend")" 200
    [ "$(status_of "$batch" deadline_left_ms)" -gt 3000000 ] || fail "the deadline was not moved: $(status_of "$batch" deadline_left_ms)"
    assert_eq "cancel of a task" "$(post -d '{"tasks":[[2,1]]}' "$url/api/v1/batches/$batch/cancel")" 200
    assert_eq "its answer" "$(jq -c '[.batch, .queued + .running]' "$T/body")" "[\"$batch\",1]"
    wait_for 20 "the cancelled task" status_reaches "$batch" cancelled 1
    assert_eq "cancel" "$(post -d '{"reason":"enough"}' "$url/api/v1/batches/$batch/cancel")" 200
    assert_exit 130 ventilator wait "$batch"
    assert_exit 0 ventilator explain "$batch"
    assert_contains "$T/out" enough
    assert_eq "drain" "$(post -d '{}' "$url/api/v1/workers/w1/drain")" 200
    wait_for 20 "the draining worker" field_is workers/w1 .state draining
    assert_eq "cancel of the other" "$(post -d '{}' "$url/api/v1/batches/$other/cancel")" 200
    ended w1 0 30
    wait_for 20 "no worker" overview_is .workers 0
    # What the ventilator refuses, in its words.
    assert_error 404 zzzz -X POST -H 'X-Tarmac: 1' -H 'Content-Type: application/json' -d '{}' "$url/api/v1/batches/zzzz/cancel"
    assert_error 404 w1 -X POST -H 'X-Tarmac: 1' -H 'Content-Type: application/json' -d '{}' "$url/api/v1/workers/w1/drain"
    assert_error 409 ended -X POST -H 'X-Tarmac: 1' -H 'Content-Type: application/json' -d '{"deadline_ms":1000}' "$url/api/v1/batches/$batch/extend"
    for body in '{"deadline_ms":"5m"}' '{"deadline_ms":-1}' '{}' '[]' 'x' ''; do
        assert_eq "extend with '$body'" "$(post -d "$body" "$url/api/v1/batches/$batch/extend")" 400
    done
    for body in '{"tasks":[]}' '{"tasks":[[1]]}' '{"tasks":[[-1,1]]}' '{"tasks":[[0,0]]}' '{"tasks":7}' '{"tasks":[["a","b"]]}'; do
        assert_eq "cancel with '$body'" "$(post -d "$body" "$url/api/v1/batches/$other/cancel")" 400
    done
}

# What another site's page could make a browser send is refused, and nothing happens.
test_foreign_pages_do_nothing() {
    local batch action
    start_tower_cluster
    batch=$(submit -- sleep {} ::: 100)
    wait_for 20 "a running attempt" overview_is .running 1
    action=(-X POST -H 'Content-Type: application/json' -d '{}' "$url/api/v1/batches/$batch/cancel")
    assert_error 403 X-Tarmac "${action[@]}"
    assert_error 403 X-Tarmac -H 'X-Tarmac: 1' -H 'Origin: http://evil.example' "${action[@]}"
    assert_error 403 X-Tarmac -H 'X-Tarmac: 1' -H 'Origin: null' "${action[@]}"
    assert_error 403 X-Tarmac -H 'X-Tarmac: 1' -H 'Sec-Fetch-Site: cross-site' "${action[@]}"
    assert_error 421 Host -H 'X-Tarmac: 1' -H 'Host: evil.example' "${action[@]}"
    assert_error 421 Host -H 'Host: evil.example:8080' "$url/api/v1/overview"
    assert_error 421 Host -H 'Host: 127.0.0.1.evil.example' "$url/"
    assert_error 415 application/json -X POST -H 'X-Tarmac: 1' -H 'Content-Type: text/plain' -d '{}' "$url/api/v1/batches/$batch/cancel"
    assert_error 405 POST "$url/api/v1/batches/$batch/cancel"
    assert_error 405 GET -X POST -H 'X-Tarmac: 1' -d '{}' "$url/api/v1/overview"
    assert_error 405 "GET, HEAD and POST" -X PUT -d '{}' "$url/api/v1/overview"
    assert_error 405 "GET, HEAD and POST" -X OPTIONS -H 'Origin: http://evil.example' -H 'Access-Control-Request-Method: POST' "$url/api/v1/overview"
    assert_eq "the state" "$(status_of "$batch" state)" sealed
    assert_code 200 -H 'X-Tarmac: 1' -H "Origin: $url" -H 'Sec-Fetch-Site: same-origin' "${action[@]}"
    assert_exit 130 ventilator wait "$batch"
}

test_other_addresses_need_a_token() {
    local token=0123456789abcdefghij port
    assert_refused 2 "http-token 0.0.0.0" "$BIN/ventilator" serve --data "$T/d" --listen "ipc://$T/c" --workers-listen "ipc://$T/w" --http 0.0.0.0:0
    assert_refused 2 "http-token 16" "$BIN/ventilator" serve --data "$T/d" --listen "ipc://$T/c" --workers-listen "ipc://$T/w" --http 127.0.0.1:0 --http-token short
    assert_refused 2 "http-token $T/none" "$BIN/ventilator" serve --data "$T/d" --listen "ipc://$T/c" --workers-listen "ipc://$T/w" --http 127.0.0.1:0 --http-token "$T/none"
    assert_refused 2 "http there:80" "$BIN/ventilator" serve --data "$T/d" --listen "ipc://$T/c" --workers-listen "ipc://$T/w" --http there:80
    echo "$token" >"$T/token"
    start_ventilator --http 0.0.0.0:0 --http-token "$T/token" --http-name tower.example
    port=$(ready_field ventilator http)
    port=${port##*:}
    url=http://127.0.0.1:$port
    for path in / /metrics /api/v1/overview /api/v1/stream; do assert_error 401 token "$url$path"; done
    assert_code 200 "$url/healthz"
    assert_code 503 "$url/readyz"
    assert_error 401 token -H "Authorization: Bearer ${token}x" "$url/metrics"
    assert_error 401 token -H "Authorization: Bearer ${token%?}x" "$url/metrics"
    assert_error 401 token "$url/api/v1/overview?token=$token"
    assert_code 200 -H "Authorization: Bearer $token" "$url/metrics"
    assert_code 303 -c "$T/cookies" "$url/?token=$token"
    grep -q '#HttpOnly.*tarmac' "$T/cookies" || fail "the token's cookie is not HttpOnly: $(cat "$T/cookies")"
    assert_code 200 -b "$T/cookies" "$url/api/v1/overview"
    assert_code 200 -H "Cookie: tarmac=$token" -H 'Host: tower.example' "$url/"
    assert_error 421 Host -H "Cookie: tarmac=$token" -H 'Host: other.example' "$url/"
    # An address that was asked for is no matter of luck.
    assert_refused 5 "$port" "$BIN/ventilator" serve --data "$T/d" --listen "ipc://$T/c" --workers-listen "ipc://$T/w" --http "127.0.0.1:$port"
}

# The bytes of each tick, with 10,000,000 tasks queued and others flying.
test_a_stream_is_bounded() {
    local batch longest
    start_tower --http-tick 200ms
    start_sink
    start_worker w1 --slots 4
    batch=$(submit --range 1-10000000 -- true)
    wait_for 30 "the backlog" status_reaches "$batch" queued 9000000
    curl -sN --max-time $((30 * PATIENCE)) "$url/api/v1/stream" >"$T/stream" &
    PIDS[viewer]=$!
    wait_for 30 "twenty ticks" eval '[ "$(grep -c "^event: tick" "$T/stream")" -ge 20 ]'
    kill "${PIDS[viewer]}"
    grep '^data: ' "$T/stream" | sed 's/^data: //' | sed '$d' >"$T/ticks"
    jq -e . "$T/ticks" >/dev/null || fail "a tick is no JSON"
    longest=$(awk '{ if (length($0) > n) n = length($0) } END { print n }' "$T/ticks")
    assert_between "bytes of the longest tick" "$longest" 300 8192
    jq -se '[.[] | select(.takeoffs)] | map(.takeoffs) | add > 0' "$T/ticks" >/dev/null || fail "no attempt took off in these ticks"
    jq -se '[.[] | select(.landed) | .landed.ok] | add > 0' "$T/ticks" >/dev/null || fail "no task landed in these ticks"
    jq -se '[.[] | .sequence] as $s | [range(1; $s | length) | select($s[.] > $s[. - 1] + 1)] | length == 0' "$T/ticks" >/dev/null || fail "ticks are missing"
    assert_exit 0 ventilator cancel "$batch"
}

test_a_slow_viewer_is_dropped() {
    local before
    start_tower --http-tick 5ms --http-silence 2s
    start_sink
    cat >"$T/slow.py" <<'PYTHON'
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
s.connect((host, port))
s.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
seen = b""
while b"event: " not in seen:
    got = s.recv(2048)
    if not got:
        sys.exit("no event came")
    seen += got
print("views", flush=True)
sys.stdin.readline()
PYTHON
    mkfifo "$T/go"
    exec {go}<>"$T/go"
    for i in 1 2 3; do
        python3 "$T/slow.py" 127.0.0.1 "${url##*:}" <"$T/go" >"$T/slow.$i.out" &
        PIDS[slow$i]=$!
    done
    # Each has seen an event, and reads no more; one may have been dropped before the next one is there.
    for i in 1 2 3; do wait_for 20 "viewer $i" grep -qs views "$T/slow.$i.out"; done
    before=$(anonymous_kb "${PIDS[ventilator]}")
    wait_for 60 "the end of all three" eval '[ "$(get "$url/metrics" | sed -n "s/^tarmac_http_viewers //p")" = 0 ]'
    [ -n "$SAN" ] || assert_between "KB that grew" $(($(anonymous_kb "${PIDS[ventilator]}") - before)) -8192 8192
    printf 'go\ngo\ngo\n' >&"$go"
    assert_code 200 "$url/healthz"
}

test_limits() {
    local n
    start_tower
    head -c 20000 /dev/zero | tr '\0' x >"$T/large"
    assert_error 413 "16384 bytes" -X POST -H 'X-Tarmac: 1' -H 'Content-Type: application/json' --data-binary "@$T/large" "$url/api/v1/batches/x/cancel"
    n=$(code -H "X-Large: $(head -c 40000 /dev/zero | tr '\0' x)" "$url/")
    case $n in 413 | 431 | 400) ;; *) fail "a head of 40,000 bytes is answered $n" ;; esac
    cat >"$T/many.py" <<'PYTHON'
import socket, sys
port = int(sys.argv[1])
held = []
for i in range(200):
    s = socket.socket()
    s.connect(("127.0.0.1", port))
    held.append(s)
shut = 0
for s in held:
    s.settimeout(0.05)
    try:
        shut += s.recv(1) == b""
    except TimeoutError:
        pass
    except ConnectionError:
        shut += 1
print(shut)
PYTHON
    n=$(timeout 100 python3 "$T/many.py" "${url##*:}") || fail "200 connections: $n"
    assert_between "connections that were shut of 200" "$n" 100 200
    wait_for 30 "an answer after them" eval '[ "$(code "$url/healthz")" = 200 ]'
    # Nobody asks faster than the others can bear. Many ask side by side, so that a slow machine doesn't make them slow enough.
    get -Z --parallel-max 20 -o /dev/null -w '%{http_code}\n' "$url/healthz?[1-900]" >"$T/codes" 2>"$T/curl.err"
    grep -q 429 "$T/codes" || fail "900 requests at once are all answered: $(sort "$T/codes" | uniq -c | paste -sd' ')"
    wait_for 30 "an answer after the flood" eval '[ "$(code "$url/healthz")" = 200 ]'
}

# A bounded number of requests that nobody should send.
test_malformed_requests() {
    local before
    start_tower_cluster --http-silence 2s
    seed 7
    cat >"$T/fuzz.py" <<'PYTHON'
import random, socket, sys
port, seed = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
whole = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /api/v1/batches/x/cancel HTTP/1.1\r\nHost: localhost\r\nX-Tarmac: 1\r\n"
         b"Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"reason\":1}", b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n",
         b"POST /api/v1/workers/x/drain HTTP/1.1\r\nHost: localhost\r\nX-Tarmac: 1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         b"GET /api/v1/batches?most=%31&after=2 HTTP/1.0\r\nHost: localhost\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: [::1]\r\nCookie: tarmac=x; a=b\r\n\r\n"]
words = [b"\0", b"\r\n", b"\n", b" ", b"%00", b"%", b"%zz", b"../", b"HTTP/9.9", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
         b"Transfer-Encoding: chunked\r\n", b"Host: a\r\nHost: b\r\n", b"\xff\xfe", b"A" * 3000, b"[" * 5000, b"{\"tasks\":", b"Range: bytes=0-\r\n",
         b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"?" * 100, b"&" * 500, b"=", b";", b"\""]
for i in range(400):
    bytes_ = bytearray(chance.choice(whole))
    for _ in range(chance.randint(0, 6)):
        at = chance.randint(0, len(bytes_))
        kind = chance.randint(0, 3)
        if kind == 0:
            bytes_[at:at] = chance.choice(words)
        elif kind == 1:
            del bytes_[at:at + chance.randint(1, 20)]
        elif kind == 2 and at < len(bytes_):
            bytes_[at] = chance.randint(0, 255)
        else:
            bytes_ = bytes_[:at] + bytes_[:at]
    s = socket.socket()
    s.settimeout(10)
    try:
        s.connect(("127.0.0.1", port))
        s.sendall(bytes_)
        if chance.randint(0, 3) > 0:
            s.shutdown(socket.SHUT_WR)
        if chance.randint(0, 1):
            s.settimeout(0.02)
            s.recv(4096)
    except OSError:
        pass
    s.close()
PYTHON
    python3 "$T/fuzz.py" "${url##*:}" $((SEED + 1))
    before=$(anonymous_kb "${PIDS[ventilator]}")
    python3 "$T/fuzz.py" "${url##*:}" "$SEED"
    wait_for 30 "an answer after it" eval '[ "$(code "$url/healthz")" = 200 ]'
    wait_for 30 "no viewer left" eval '[ "$(get "$url/metrics" | sed -n "s/^tarmac_http_viewers //p")" = 0 ]'
    [ -n "$SAN" ] || assert_between "KB that grew" $(($(anonymous_kb "${PIDS[ventilator]}") - before)) -8192 8192
    assert_exit 0 ventilator submit --wait -- true ::: 1 2 3
    assert_eq "workers" "$(field_of overview .workers)" 1
}

test_streams_end_with_the_ventilator() {
    start_tower_cluster
    curl -sN "$url/api/v1/stream" >"$T/stream" &
    PIDS[viewer]=$!
    wait_for 20 "a tick" grep -qs '^event: tick' "$T/stream"
    stop ventilator TERM 0
    wait_for 20 "the end of the stream" not_alive "${PIDS[viewer]}"
    unset "PIDS[viewer]"
}
