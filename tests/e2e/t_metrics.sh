# shellcheck shell=bash
# /metrics, judged by Prometheus' own tool, and the alert rules of docs/alerts.yml.

metric() { curl -sS "$url/metrics" | grep -F "$1" | grep -v '^#' | head -n 1 | awk '{ print $NF }'; }    # NAME[{LABELS}]
metric_is() { [ "$(metric "$1")" = "$2" ]; }

test_metrics_follow_the_conventions() {
    local batch failed
    start_ventilator --http 127.0.0.1:0
    url=$(ready_field ventilator http)
    start_sink
    start_worker w1 --slots 2 --handler 'greet=echo hello {}'
    start_worker 'w "2\' --handler 'greet=echo hello {}'
    batch=$(submit --handler greet ::: 1 2 3 4 5)
    failed=$(submit --retries 1 --backoff 1ms,1,1ms -- false ::: 1)
    ventilator wait "$batch" >/dev/null 2>&1
    ventilator wait "$failed" >/dev/null 2>&1
    wait_for 30 "the sink's figures" metric_is 'tarmac_handler_verdicts_total{handler="greet",verdict="ok"}' 5
    wait_for 30 "its figures of the other" metric_is 'tarmac_handler_verdicts_total{handler="(command)",verdict="failed"}' 1
    curl -sS "$url/metrics" >"$T/metrics"
    promtool check metrics <"$T/metrics" >"$T/promtool" 2>&1 || fail "promtool check metrics: $(head -c 2000 "$T/promtool")"
    [ ! -s "$T/promtool" ] || fail "promtool check metrics: $(head -c 2000 "$T/promtool")"
    assert_eq "runs of greet" "$(metric 'tarmac_run_seconds_count{handler="greet"}')" 5
    assert_eq "runs of commands" "$(metric 'tarmac_run_seconds_count{handler="(command)"}')" 2
    assert_eq "waits" "$(metric 'tarmac_queue_wait_seconds_count{handler="greet"}')" 5
    assert_eq "failed" "$(metric 'tarmac_handler_verdicts_total{handler="(command)",verdict="failed"}')" 1
    assert_eq "retried" "$(metric tarmac_attempts_retried_total)" 1
    assert_eq "slots" "$(metric tarmac_slots)" 3
    assert_eq "desired slots" "$(metric tarmac_desired_slots)" 0
    [ "$(metric tarmac_commit_seconds_count)" -ge 2 ] || fail "commits: $(metric tarmac_commit_seconds_count)"
    grep -qF 'tarmac_worker_slots{worker="w \"2\\"} 1' "$T/metrics" || fail "the label is not escaped: $(grep worker_slots "$T/metrics")"
    # As many slots as there is something to do for, and no more than a batch may use.
    submit -- sleep {} ::: 100 100 100 100 >/dev/null
    submit --max-running 2 -- sleep {} ::: 100 100 100 100 >/dev/null
    wait_for 30 "desired slots" metric_is tarmac_desired_slots 6
    wait_for 30 "running attempts" metric_is 'tarmac_attempts{phase="running"}' 3
    stop sink TERM 0
    wait_for 30 "the sink to be gone" metric_is tarmac_sink_up 0
    assert_eq "readiness" "$(curl -sS -o "$T/body" -w '%{http_code}' "$url/readyz")" 503
    assert_contains "$T/body" "no sink"
}

# The rules are right, and ask for nothing that isn't there.
test_alert_rules() {
    local name
    promtool check rules docs/alerts.yml >"$T/promtool" 2>&1 || fail "promtool check rules: $(head -c 2000 "$T/promtool")"
    start_ventilator --http 127.0.0.1:0
    url=$(ready_field ventilator http)
    curl -sS "$url/metrics" >"$T/metrics"
    for name in $(grep -o 'tarmac_[a-z_]*' docs/alerts.yml | sort -u); do
        grep -q "^# TYPE ${name%_bucket} " "$T/metrics" || fail "docs/alerts.yml asks for $name, which /metrics doesn't have"
    done
    cp docs/alerts.yml "$T/alerts.yml"
    cat >"$T/alerts_test.yml" <<'YAML'
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'tarmac_sink_up{instance="a"}', values: '1 1 0 0 0 0'}
      - {series: 'tarmac_journal_full{instance="a"}', values: '0x30'}
      - {series: 'tarmac_tasks_queued{instance="a"}', values: '5x40'}
      - {series: 'tarmac_tasks_recorded_total{instance="a"}', values: '7x40'}
      - {series: 'tarmac_attempts{instance="a",phase="running"}', values: '0x40'}
      - {series: 'tarmac_workers{instance="a"}', values: '1x40'}
    alert_rule_test:
      - eval_time: 1m
        alertname: TarmacSinkGone
        exp_alerts: []
      - eval_time: 4m
        alertname: TarmacSinkGone
        exp_alerts:
          - exp_labels: {severity: page, instance: a}
            exp_annotations:
              summary: "No sink is connected to a"
              description: "Results can't be recorded, workers keep them and start nothing more once their credit is used up. Start the sink with its data folder."
      - eval_time: 20m
        alertname: TarmacDiskFull
        exp_alerts: []
      - eval_time: 30m
        alertname: TarmacQueueStandsStill
        exp_alerts:
          - exp_labels: {severity: page, instance: a}
            exp_annotations:
              summary: "5 tasks wait at a and none runs"
              description: "'ventilator explain BATCH' says what is missing: a worker, a label, a handler, the sink."
      - eval_time: 30m
        alertname: TarmacNoWorkers
        exp_alerts: []
YAML
    (cd "$T" && promtool test rules alerts_test.yml) >"$T/promtool" 2>&1 || fail "promtool test rules: $(head -c 3000 "$T/promtool")"
}
