/* One message of each kind, as full as may be: all of them are accepted. */
#ifndef TESTS_UNIT_WIRE_ACCEPTED_H
#define TESTS_UNIT_WIRE_ACCEPTED_H

#include "tests/unit/wire_samples.h"

#define REQ(case_, message, ...) {REQUEST, WIRE__REQUEST__WHAT_##case_, &message, __VA_ARGS__}
#define REP(case_, message) {REPLY, WIRE__REPLY__WHAT_##case_, &message, 0, NULL}
#define UP(case_, message, ...) {UPWARD, WIRE__UPWARD__WHAT_##case_, &message, __VA_ARGS__}
#define DOWN(case_, message) {DOWNWARD, WIRE__DOWNWARD__WHAT_##case_, &message, 0, NULL}
#define LAN(case_, message, ...) {LANE, WIRE__LANE__WHAT_##case_, &message, __VA_ARGS__}
#define RES(case_, message, ...) {RESULT, WIRE__RESULT__WHAT_##case_, &message, __VA_ARGS__}
#define QUE(case_, message) {QUERY, WIRE__QUERY__WHAT_##case_, &message, 0, NULL}
#define ANS(case_, message, ...) {ANSWER, WIRE__ANSWER__WHAT_##case_, &message, __VA_ARGS__}

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define FENCES MANY(fences, Wire__Fence *, &FENCE(0, 1), &FENCE(4096, 4096))
#define PLACE M(SinkPlace, sink_place, MANY(hosts, char *, TEXT(""), TEXT("sink.example")), .results_port = 5557, .query_port = 5558)
#define COUNTS MANY(counts, uint64_t, 0, 10, 1, 2, 0, 0, 0)

/* Everything that options can say. */
static const Wire__Options full_options = {
    .base = PROTOBUF_C_MESSAGE_INIT(&wire__options__descriptor),
    .name = TEXT("thumbnails \xc3\xbc"),
    MANY(command, char *, TEXT("convert"), TEXT("{}"), TEXT("two\nlines")),
    .pipe = 1,
    .deadline = &M(Micros, micros, .us = 60000000),
    .timeout = &M(Micros, micros, .us = 1),
    .grace_us = 2000000,
    .min_runtime_us = 5,
    .retry = &M(RetryRule, retry_rule, .retries = 3, .on_failed = 1, MANY(on_codes, uint32_t, 75, 255), .backoff_us = 1000000,
                .backoff_factor_milli = 2000, .backoff_max_us = 60000000),
    .halt = &M(HaltRule, halt_rule, .when = WIRE__HALT_WHEN__HALT_SOON, .percent = 10),
    .priority = -5,
    .weight = 1,
    .max_running = 9,
    MANY(require, Wire__Value *, &VALUE("gpu", "a100")),
    .require_worker = 1,
    MANY(values, Wire__Value *, &VALUE("user", "ada"), &VALUE("_x.y-z", "")),
    .traceparent = TEXT(TRACEPARENT),
    .tracestate = TEXT("vendor=1"),
    .max_output = 1 << 20,
    .range = &M(Range, range, .first = INT64_MIN, .count = 2, .step = INT64_MAX),
    .parent = &FENCE(17, 1),
    .detach = 1,
};

static const Wire__Tasks three_tasks = {
    .base = PROTOBUF_C_MESSAGE_INIT(&wire__tasks__descriptor),
    .first = 8192, .count = 3, MANY(lengths, uint32_t, 1, 0, 300),
    MANY(extras, Wire__TaskExtra *, &M(TaskExtra, task_extra, .offset = 0, .timeout = &M(Micros, micros, .us = 9)),
         &M(TaskExtra, task_extra, .offset = 2, MANY(values, Wire__Value *, &VALUE("file", "a.png")))),
};

static const Wire__Report report = {
    .base = PROTOBUF_C_MESSAGE_INIT(&wire__report__descriptor),
    .fence = &FENCE(40, 3), .session = 77, .worker = TEXT("w1"),
    MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK, WIRE__VERDICT__FAILED, WIRE__VERDICT__OK),
    MANY(reasons, Wire__Reason, WIRE__REASON__REASON_NONE, WIRE__REASON__EXIT_CODE, WIRE__REASON__REASON_NONE),
    MANY(codes, int32_t, 0, -1, 0), MANY(signals, uint32_t, 0), MANY(output_lengths, uint32_t, 5), MANY(error_lengths, uint32_t, 0, 2, 0),
    MANY(flags, uint32_t, 8), MANY(queued_us, uint64_t, 100), MANY(run_us, uint64_t, 1, 2, UINT64_MAX), MANY(slots, uint32_t, 1, 2, 3),
    MANY(extras, Wire__ResultExtra *, &M(ResultExtra, result_extra, .offset = 1, .sentence = TEXT("exit 1"))),
};

static const struct sample samples[] = {
    REQ(HELLO, M(ClientHello, client_hello, .major = 1, .program = TEXT("ventilator 0.1.0")), 0, NULL),
    REQ(SUBMIT, M(Submit, submit, .submission = ID16, .options = (Wire__Options *)(uintptr_t)&full_options), 0, NULL),
    REQ(SUBMIT, M(Submit, submit, .key = TEXT("nightly"), .options = &OPTIONS()), 0, NULL),
    REQ(CHUNK, M(Chunk, chunk, .batch = ID16, .tasks = (Wire__Tasks *)(uintptr_t)&three_tasks, .digest_before = 1, .digest_after = 2), 301, NULL),
    REQ(CHUNK, M(Chunk, chunk, .batch = ID16, .tasks = &M(Tasks, tasks, .first = 4095, .count = 1, MANY(lengths, uint32_t, WIRE_PAYLOAD)),
                 .last = 1), WIRE_PAYLOAD, NULL),
    REQ(CHUNK, M(Chunk, chunk, .batch = ID16, .tasks = &M(Tasks, tasks, .count = 4096, MANY(lengths, uint32_t, 64))), 4096 * 64, NULL),
    REQ(SEAL, M(Seal, seal, .batch = ID16), 0, NULL),
    REQ(STATUS, M(Status, status, .ref = TEXT("b7k2")), 0, NULL),
    REQ(LIST, EMPTY(List, list), 0, NULL),
    REQ(CANCEL, M(Cancel, cancel, .ref = TEXT("b7k2"), MANY(tasks, Wire__Span *, &SPAN(7, 3), &SPAN(3, 1)), .reason = TEXT("too late")), 0, NULL),
    REQ(EXTEND, M(Extend, extend, .ref = TEXT("b7k2"), .deadline_us = 600000000), 0, NULL),
    REQ(WORKERS, EMPTY(Workers, workers), 0, NULL),
    REQ(DRAIN, M(Drain, drain, .worker = TEXT("w1")), 0, NULL),
    REQ(SLOWEST, M(Slowest, slowest, .most = 32), 0, NULL),
    REQ(WHERE, EMPTY(Where, where), 0, NULL),
    REQ(EXPLAIN, M(Explain, explain, .ref = TEXT("b7k2"), .index = &M(Number, number, .n = 0)), 0, NULL),
    REQ(PURGE, M(Purge, purge, .older_than = &M(Micros, micros, .us = 1)), 0, NULL),
    REQ(RETRY, M(Retry, retry, .ref = TEXT("b7k2"), .submission = ID16, .first = 7, .last = 1, MANY(tasks, Wire__Span *, &SPAN(0, 5), &SPAN(9, 1))), 0, NULL),
    REQ(RETRY, M(Retry, retry, .ref = TEXT("b7k2"), .submission = ID16, MANY(verdicts, Wire__Verdict, WIRE__VERDICT__LOST)), 0, NULL),

    REP(WELCOME, M(ClientWelcome, client_welcome, .major = 1, .epoch = 3, .max_payload = 1, .window_chunks = 16, .window_bytes = 1)),
    REP(SAY_HELLO, EMPTY(SayHello, say_hello)),
    REP(REFUSED, M(Refused, refused, .code = WIRE__REFUSED_CODE__OUT_OF_ORDER, .sentence = TEXT("chunk begins at 5; 3 is next"), .next_index = 3)),
    REP(SUBMITTED, M(Submitted, submitted, .batch = ID16, .short_id = TEXT("b7k2"), .digest = 9, .sink = &PLACE, .traceparent = TEXT(TRACEPARENT))),
    REP(ADMITTED, M(Admitted, admitted, .batch = ID16, .next_index = WIRE_TASKS, .state = WIRE__STATE__SEALED)),
    REP(STATUS, M(StatusReport, status_report, MANY(batches, Wire__BatchStatus *, &M(BatchStatus, batch_status, .batch = ID16,
        .short_id = TEXT("b7k2"), .total = 9, .deadline_left = &M(SignedMicros, signed_micros, .us = -5), .eta = &M(Micros, micros, .us = 1))),
        .system = &M(SystemStatus, system_status, .epoch = 3, .sink_present = 1))),
    REP(LIST, M(ListReport, list_report, .n_batches = 0)),
    REP(CANCELLED, M(CancelReport, cancel_report, .queued = 1, .running = 2, .finished = 3, .unreachable = 4)),
    REP(EXTENDED, M(Extended, extended, .deadline_left_us = 1)),
    REP(WORKERS, M(WorkersReport, workers_report, MANY(workers, Wire__WorkerStatus *, &M(WorkerStatus, worker_status, .name = TEXT("w1"),
        .session = 5, .state = TEXT("ready"), MANY(handlers, char *, TEXT("resize")), MANY(labels, Wire__Value *, &VALUE("gpu", "no")))))),
    REP(DRAINING, M(Draining, draining, .worker = TEXT("w1"))),
    REP(SLOWEST, M(SlowestReport, slowest_report, .running = 1, MANY(attempts, Wire__RunningAttempt *, &M(RunningAttempt, running_attempt,
        .short_id = TEXT("b7k2"), .index = 3, .attempt = 1, .worker = TEXT("w1"), .age_us = 5, .left = &M(SignedMicros, signed_micros, .us = -5))))),
    REP(WHERE, PLACE),
    REP(EXPLANATION, M(Explanation, explanation, MANY(lines, char *, TEXT("queued"), TEXT("")))),
    REP(PURGED, M(Purged, purged, .batches = 2)),

    UP(HELLO, M(WorkerHello, worker_hello, .major = 1, .name = TEXT("w1"), .slots = 65535, MANY(handlers, char *, TEXT("resize")),
        MANY(holdings, Wire__Holding *, &M(Holding, holding, .fence = &FENCE(4095, 1), .state = WIRE__HOLDING_STATE__ENDED)), .ventilator = ID16), 0, NULL),
    UP(HEARTBEAT, M(Heartbeat, heartbeat, .number = 8, .lane_sequence = 400, .busy = 4, .sink_up = 1), 0, NULL),
    UP(OPENED, M(Opened, opened, .lane_sequence = 1), 0, NULL),
    UP(STARTED, M(Started, started, FENCES), 0, NULL),
    UP(FINISHED, M(Finished, finished, FENCES, .run_us = 12, .result_bytes = 9), 0, NULL),
    UP(RETURNED, M(Returned, returned, FENCES, .cause = WIRE__RETURN_CAUSE__OVER_CREDIT, .cut_off = 1), 0, NULL),
    UP(CONFIRMED, M(Confirmed, confirmed, .number = 1, .dropped = 2, .stopping = 3), 0, NULL),
    UP(GOODBYE, M(Goodbye, goodbye, .unreleased = 1), 0, NULL),
    UP(SINK_HELLO, M(SinkHello, sink_hello, .major = 1, .store = ID16, .results_port = 65535, .query_endpoint = TEXT("ipc:///tmp/x/q")), 0, NULL),
    UP(REGISTERED, M(Registered, registered, .batch = ID16, .unknown = 1), 0, NULL),
    UP(RECORDED, M(Recorded, recorded, MANY(results, Wire__RecordedResult *,
        &M(RecordedResult, recorded_result, .fence = &FENCE(4090, 6), .session = 77, MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK),
           MANY(fresh, Wire__Span *, &SPAN(4090, 2), &SPAN(4094, 2)), MANY(codes, int32_t, 0, 1, 2, 3, 4, -5)),
        &M(RecordedResult, recorded_result, .fence = &M(Fence, fence, .batch = ID16, .first = 10), .session = 77, .number = 4,
           .kind = WIRE__RESULT_KIND__IS_CLOSING, .closed = 3, .span = 10000000))), 0, NULL),
    UP(REFUSED, M(RefusedResult, refused_result, .fence = &FENCE(1, 1), .session = 77, .reason = WIRE__REASON__MALFORMED), 0, NULL),
    UP(RECORDS, M(BatchRecords, batch_records, .batch = ID16, .known = 1, COUNTS, .bitmap = 1,
        MANY(attempts, Wire__AttemptNote *, &M(AttemptNote, attempt_note, .first = 4000, .count = 5000, .attempts = 1))), 1250000, NULL),
    UP(RECORDS, M(BatchRecords, batch_records, .batch = ID16, .known = 1, MANY(spans, Wire__Span *, &SPAN(0, 5), &SPAN(5, 1))), 0, NULL),
    UP(FIGURES, M(Figures, figures, .results = 5, .recorded = 4,
                  .commit = &M(Durations, durations, .n_buckets = 2, .buckets = (uint64_t[]){1, 2}, .sum_us = 300),
                  MANY(handlers, Wire__HandlerFigures *, &M(HandlerFigures, handler_figures, .handler = TEXT("resize"),
                       .n_verdicts = 7, .verdicts = (uint64_t[]){0, 4, 0, 0, 0, 0, 0})),
                  MANY(batches, Wire__BatchFigures *, &M(BatchFigures, batch_figures, .batch = ID16)),
                  MANY(failures, Wire__FailureNote *, &M(FailureNote, failure_note, .batch = ID16, .index = 7,
                       .verdict = WIRE__VERDICT__FAILED, .worker = TEXT("w1"), .tail = BYTES("oops")))), 0, NULL),
    UP(FORGOTTEN, M(Forgotten, forgotten, .batch = ID16), 0, NULL),

    DOWN(WELCOME, M(Welcome, welcome, .major = 1, .ventilator = ID16, .lane_port = 5600, .lane_epoch = 2, .heartbeat_us = 1000000,
        .lease_us = 1500000, .silence_us = 10000000, .result_credit = 1 << 26, .sink = &PLACE, MANY(dropped, Wire__Fence *, &FENCE(1, 2)))),
    DOWN(SAY_HELLO, EMPTY(SayHello, say_hello)),
    DOWN(REFUSED, M(Refused, refused, .code = WIRE__REFUSED_CODE__WRONG_VERSION)),
    DOWN(HEARTBEAT, M(HeartbeatAnswer, heartbeat_answer, .number = 8)),
    DOWN(GOODBYE, M(Goodbye, goodbye, .unreleased = 0)),
    DOWN(SINK_WELCOME, M(SinkWelcome, sink_welcome, .major = 1, .journal = ID16, .heartbeat_us = 1000000)),
    DOWN(REGISTER, M(Register, register, .batch = ID16, .short_id = TEXT("b7k2"), .options = &OPTIONS(), .total = &M(Number, number, .n = 5))),
    DOWN(ASK, M(Ask, ask, .batch = ID16)),
    DOWN(FORGET, M(Forget, forget, .batch = ID16)),
    DOWN(CLOSING, M(Closing, closing, .batch = ID16, .number = 4, .span = &SPAN(0, 5), .verdict = WIRE__VERDICT__CANCELLED,
        .reason = WIRE__REASON__CANCEL, .session = 77)),

    LAN(OPEN, EMPTY(Open, open), 0, NULL),
    LAN(ANNOUNCE, M(Announce, announce, .batch = ID16, .short_id = TEXT("b7k2"), .options = &OPTIONS(), .deadline_left = &M(Micros, micros, .us = 0)), 0, NULL),
    LAN(ASSIGN, M(Assign, assign, .batch = ID16, .tasks = (Wire__Tasks *)(uintptr_t)&three_tasks, .epoch = 3, .attempt = 1), 301, NULL),
    LAN(ASSIGN, M(Assign, assign, .batch = ID16, .tasks = &M(Tasks, tasks, .count = 4096), .epoch = 3, .attempt = 1), 0, NULL),
    LAN(CANCEL, M(CancelTasks, cancel_tasks, .number = 1, .batch = ID16, .reason = WIRE__REASON__HALT, MANY(tasks, Wire__Span *, &SPAN(0, 100000))), 0, NULL),
    LAN(EXTEND, M(MoveDeadline, move_deadline, .batch = ID16), 0, NULL),
    LAN(RELEASE, M(Release, release, FENCES), 0, NULL),
    LAN(RECALL, M(Recall, recall, .number = 2, .batch = ID16, .count = 5), 0, NULL),
    LAN(DRAIN, EMPTY(LaneDrain, lane_drain), 0, NULL),
    LAN(RETIRE, M(Retire, retire, .batch = ID16), 0, NULL),
    LAN(BEAT, EMPTY(Beat, beat), 0, NULL),

    {RESULT, WIRE__RESULT__WHAT_REPORT, &report, 17, NULL},
    RES(REPORT, M(Report, report, .fence = &FENCE(1, 1), .session = 77, .kind = WIRE__RESULT_KIND__IS_ATTEMPT,
        MANY(verdicts, Wire__Verdict, WIRE__VERDICT__LOST), MANY(output_lengths, uint32_t, WIRE_OUTPUT), MANY(error_lengths, uint32_t, WIRE_ERRORS)),
        WIRE_OUTPUT + WIRE_ERRORS, NULL),
    RES(CLOSING, M(Closing, closing, .batch = ID16, .number = 4, .span = &SPAN(0, WIRE_TASKS), .verdict = WIRE__VERDICT__CANCELLED,
        .reason = WIRE__REASON__CANCEL, .session = 77, .whole = 1), 0, NULL),

    QUE(HELLO, M(ClientHello, client_hello, .major = 1)),
    QUE(SUBSCRIBE, M(Subscribe, subscribe, .ref = TEXT("b7k2"), .follow = 1, .credit = 1 << 20)),
    QUE(CREDIT, M(Credit, credit, .bytes = 1000)),
    QUE(UNSUBSCRIBE, EMPTY(Unsubscribe, unsubscribe)),

    ANS(WELCOME, M(ClientWelcome, client_welcome, .major = 1, .window_chunks = 1, .window_bytes = 1), 0, NULL),
    ANS(SAY_HELLO, EMPTY(SayHello, say_hello), 0, NULL),
    ANS(REFUSED, M(Refused, refused, .code = WIRE__REFUSED_CODE__UNKNOWN_BATCH), 0, NULL),
    ANS(BEGIN, M(StreamBegin, stream_begin, .batch = ID16, .short_id = TEXT("b7k2"), .options = &OPTIONS()), 0, NULL),
    ANS(ROW, M(StreamRow, stream_row, .number = 1, .row = BYTES("packed")), 300, NULL),
    ANS(END, M(StreamEnd, stream_end, .recorded = 3, .total = &M(Number, number, .n = 3), COUNTS, .complete = 1), 0, NULL),
    ANS(PROGRESS, M(StreamProgress, stream_progress, .recorded = 3, COUNTS), 0, NULL),
};
#define SAMPLES (sizeof samples / sizeof *samples)

#endif
