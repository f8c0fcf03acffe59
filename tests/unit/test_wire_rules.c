/* Each rule of the wire broken once: the message is refused, and the sentence says which field and
 * what would be right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/why.h"
#include "tests/unit/wire_samples.h"

#define X16(s) s s s s s s s s s s s s s s s s
#define X256(s) X16(X16(s))
#define X300 X256("x") X16("x") X16("x") "xxxxxxxxxxxx"
#define X5000 X256("xxxxxxxxxxxxxxxx") X256("xxx") X16("xxxxxxxx") "xxxxxxxx"

#define REQ(case_, body, sentence, ...) {REQUEST, WIRE__REQUEST__WHAT_##case_, &__VA_ARGS__, body, sentence}
#define REP(case_, sentence, ...) {REPLY, WIRE__REPLY__WHAT_##case_, &__VA_ARGS__, 0, sentence}
#define UP(case_, body, sentence, ...) {UPWARD, WIRE__UPWARD__WHAT_##case_, &__VA_ARGS__, body, sentence}
#define DOWN(case_, sentence, ...) {DOWNWARD, WIRE__DOWNWARD__WHAT_##case_, &__VA_ARGS__, 0, sentence}
#define LAN(case_, body, sentence, ...) {LANE, WIRE__LANE__WHAT_##case_, &__VA_ARGS__, body, sentence}
#define RES(case_, body, sentence, ...) {RESULT, WIRE__RESULT__WHAT_##case_, &__VA_ARGS__, body, sentence}
#define QUE(case_, sentence, ...) {QUERY, WIRE__QUERY__WHAT_##case_, &__VA_ARGS__, 0, sentence}
#define ANS(case_, sentence, ...) {ANSWER, WIRE__ANSWER__WHAT_##case_, &__VA_ARGS__, 0, sentence}

/* A message that is right but for what the rest of the arguments say. */
#define CHUNK(body, sentence, ...) \
    REQ(CHUNK, body, sentence, M(Chunk, chunk, .batch = ID16, .tasks = &M(Tasks, tasks, __VA_ARGS__)))
#define EXTRAS(sentence, ...) CHUNK(0, sentence, .count = 2, MANY(extras, Wire__TaskExtra *, __VA_ARGS__))
#define SUBMIT(sentence, ...) REQ(SUBMIT, 0, sentence, M(Submit, submit, .submission = ID16, .options = &OPTIONS(__VA_ARGS__)))
#define SUBMIT_RAW(sentence, ...) \
    REQ(SUBMIT, 0, sentence, M(Submit, submit, .submission = ID16, .options = &M(Options, options, __VA_ARGS__)))
#define STARTED(sentence, ...) \
    UP(STARTED, 0, sentence, M(Started, started, MANY(fences, Wire__Fence *, &M(Fence, fence, __VA_ARGS__))))
#define HELLO(sentence, ...) UP(HELLO, 0, sentence, M(WorkerHello, worker_hello, .name = TEXT("w1"), __VA_ARGS__))
#define RECORDED(sentence, ...) \
    UP(RECORDED, 0, sentence, M(Recorded, recorded, MANY(results, Wire__RecordedResult *, \
       &M(RecordedResult, recorded_result, __VA_ARGS__))))
#define RECORDED3(sentence, ...) RECORDED(sentence, .fence = &FENCE(10, 3), .session = 7, __VA_ARGS__)
#define WELCOME(sentence, ...) \
    DOWN(WELCOME, sentence, M(Welcome, welcome, .ventilator = ID16, .lane_epoch = 1, .lease_us = 1, .silence_us = 1, __VA_ARGS__))
#define REPORT(body, sentence, ...) \
    RES(REPORT, body, sentence, M(Report, report, .fence = &FENCE(10, 3), .session = 7, __VA_ARGS__))
#define REPORT_OK(body, sentence, ...) REPORT(body, sentence, MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK), __VA_ARGS__)
#define CLOSING(sentence, ...) RES(CLOSING, 0, sentence, M(Closing, closing, .batch = ID16, __VA_ARGS__))
#define CANCEL(sentence, ...) REQ(CANCEL, 0, sentence, M(Cancel, cancel, .ref = TEXT("b"), MANY(tasks, Wire__Span *, __VA_ARGS__)))

static Wire__Fence *many_fences[WIRE_FENCES + 1];
static Wire__Value *many_values[WIRE_VALUES + 1];
static Wire__Value *large_values[] = {
    &VALUE("a", X5000), &VALUE("b", X256("xxxxxxxxxxxxxxxx")), &VALUE("c", X256("xxxxxxxxxxxxxxxx")),
    &VALUE("d", X256("xxxxxxxxxxxxxxxx")), &VALUE("e", X256("xxxxxxxxxxxxxxxx")),
};
static char *many_words[WIRE_WORDS + 1];
static char *large_words[] = {TEXT(X256(X256("x"))), TEXT("y")};

static const struct sample refused[] = {
    /* frames of tasks */
    CHUNK(30, "chunk: tasks.lengths has 3 entries for 10 tasks; a column has none, one or one for each task",
          .count = 10, MANY(lengths, uint32_t, 1, 2, 3)),
    CHUNK(0, "chunk: tasks has 0 tasks; a frame has 1 to 4096", .count = 0),
    CHUNK(0, "chunk: tasks has 4097 tasks; a frame has 1 to 4096", .count = 4097),
    CHUNK(0, "chunk: tasks has tasks 4095 to 4096; a frame lies within one block of 4096", .first = 4095, .count = 2),
    CHUNK(0, "chunk: tasks begins at 4000000000 with 1 tasks; indices are below 4000000000", .first = WIRE_TASKS, .count = 1),
    CHUNK(0, "chunk: tasks begins at 3999999999 with 2 tasks; indices are below 4000000000", .first = WIRE_TASKS - 1, .count = 2),
    CHUNK(0, "chunk: tasks begins at 18446744073709551615 with 2 tasks; indices are below 4000000000", .first = UINT64_MAX, .count = 2),
    CHUNK(5, "chunk: tasks has a body of 5 bytes and lengths of 6; they must be the same", .count = 3, MANY(lengths, uint32_t, 2)),
    CHUNK(1, "chunk: tasks has a body of 1 bytes and lengths of 0; they must be the same", .count = 3),
    CHUNK(4096 * 65, "chunk: tasks has 266240 bytes for 4096 tasks; a frame has at most 262144, one task alone 67108864",
          .count = 4096, MANY(lengths, uint32_t, 65)),
    CHUNK(WIRE_PAYLOAD + 1, "chunk: tasks has 67108865 bytes for 1 tasks; a frame has at most 262144, one task alone 67108864",
          .count = 1, MANY(lengths, uint32_t, WIRE_PAYLOAD + 1)),
    CHUNK(WIRE_BODY + 1, "chunk: has a body of 69206017 bytes; it has at most 69206016", .count = 1),
    EXTRAS("chunk: tasks.extras[0] is for task 2 of 2; offsets begin at 0", &M(TaskExtra, task_extra, .offset = 2)),
    EXTRAS("chunk: tasks.extras[1] is for task 1, after 1; offsets rise", &M(TaskExtra, task_extra, .offset = 1),
           &M(TaskExtra, task_extra, .offset = 1)),
    EXTRAS("chunk: tasks.extras[0].timeout.us is 0; it is from 1 to 316224000000000",
           &M(TaskExtra, task_extra, .timeout = &M(Micros, micros, .us = 0))),
    EXTRAS("chunk: tasks.extras[0].values[0] has a key that is none; a key is [A-Za-z_][A-Za-z0-9_.-]*, at most 64 bytes",
           &M(TaskExtra, task_extra, MANY(values, Wire__Value *, &VALUE("a b", "")))),
    REQ(CHUNK, 0, "chunk: tasks is missing; this message must have it", M(Chunk, chunk, .batch = ID16)),
    REQ(CHUNK, 0, "chunk: batch has 0 bytes; an id has 16", M(Chunk, chunk, .tasks = &M(Tasks, tasks, .count = 1))),
    REQ(CHUNK, 0, "chunk: batch has 15 bytes; an id has 16", M(Chunk, chunk, .batch = BYTES("0123456789abcde"), .tasks = &M(Tasks, tasks, .count = 1))),

    /* options */
    REQ(SUBMIT, 0, "submit: options is missing; this message must have it", M(Submit, submit, .submission = ID16)),
    REQ(SUBMIT, 0, "submit: submission has 17 bytes; an id has 16, or none at all",
        M(Submit, submit, .submission = BYTES("0123456789abcdefg"), .options = &OPTIONS())),
    REQ(SUBMIT, 0, "submit: has neither submission nor key; one of them makes it safe to send again", M(Submit, submit, .options = &OPTIONS())),
    SUBMIT("submit: options.name has 300 bytes; it has at most 255", .name = TEXT(X300)),
    SUBMIT("submit: options.name has a control character in it; names have none", .name = TEXT("a\nb")),
    SUBMIT("submit: options.name has a control character in it; names have none", .name = TEXT("\x7f")),
    SUBMIT("submit: options.name has a control character in it; names have none", .name = TEXT("\xc2\x9b" "31m")),
    SUBMIT("submit: options.name is not UTF-8", .name = TEXT("caf\xe9")),
    SUBMIT("submit: options.name is not UTF-8", .name = TEXT("\xc0\xaf")),
    SUBMIT("submit: options.name is not UTF-8", .name = TEXT("\xe0\x80\xaf")),
    SUBMIT("submit: options.name is not UTF-8", .name = TEXT("\xed\xa0\x80")),
    SUBMIT("submit: options.name is not UTF-8", .name = TEXT("\xf4\x90\x80\x80")),
    SUBMIT("submit: options.name is not UTF-8", .name = TEXT("\xf0\x9f\x98")),
    SUBMIT_RAW("submit: options have neither a handler nor a command; a batch has one of both", .weight = 1),
    SUBMIT("submit: options have both a handler and a command; a batch has one of both", MANY(command, char *, TEXT("true"))),
    SUBMIT_RAW("submit: options have a command whose first word is empty; it names the program", .weight = 1, MANY(command, char *, TEXT(""), TEXT("a"))),
    SUBMIT_RAW("submit: options.command has 1025 entries; it has at most 1024", .weight = 1, .n_command = WIRE_WORDS + 1, .command = many_words),
    SUBMIT_RAW("submit: options have a command of 65539 bytes; it has at most 65536", .weight = 1, .n_command = 2, .command = large_words),
    SUBMIT_RAW("submit: options.command[1] is not UTF-8", .weight = 1, MANY(command, char *, TEXT("a"), TEXT("\xff"))),
    SUBMIT_RAW("submit: options.weight is 0; it is from 1 to 1000000", .handler = TEXT("h")),
    SUBMIT("submit: options.deadline.us is 18446744073709551615; it is from 0 to 316224000000000", .deadline = &M(Micros, micros, .us = UINT64_MAX)),
    SUBMIT("submit: options.timeout.us is 0; it is from 1 to 316224000000000", .timeout = &M(Micros, micros, .us = 0)),
    SUBMIT("submit: options.grace_us is 316224000000001; it is from 0 to 316224000000000", .grace_us = UINT64_C(316224000000001)),
    SUBMIT("submit: options.min_runtime_us is 316224000000001; it is from 0 to 316224000000000", .min_runtime_us = UINT64_C(316224000000001)),
    SUBMIT("submit: options.retry.retries is 4294967295; it is from 0 to 1000000", .retry = &M(RetryRule, retry_rule, .retries = UINT32_MAX)),
    SUBMIT("submit: options.retry.on_codes[1] is 256; it is from 0 to 255", .retry = &M(RetryRule, retry_rule, MANY(on_codes, uint32_t, 1, 256))),
    SUBMIT("submit: options.retry.backoff_us is 18446744073709551615; it is from 0 to 316224000000000",
           .retry = &M(RetryRule, retry_rule, .backoff_us = UINT64_MAX)),
    SUBMIT("submit: options.retry.backoff_factor_milli is 1000001; it is from 0 to 1000000",
           .retry = &M(RetryRule, retry_rule, .backoff_factor_milli = 1000001)),
    SUBMIT("submit: options.halt has neither failures nor percent; a halt needs one of them",
           .halt = &M(HaltRule, halt_rule, .when = WIRE__HALT_WHEN__HALT_NOW)),
    SUBMIT("submit: options.halt.percent is 101; it is from 0 to 100", .halt = &M(HaltRule, halt_rule, .percent = 101)),
    SUBMIT("submit: options.halt.when is 3; it is from 0 to 2", .halt = &M(HaltRule, halt_rule, .when = (Wire__HaltWhen)3)),
    SUBMIT("submit: options.halt.when is 4294967295; it is from 0 to 2", .halt = &M(HaltRule, halt_rule, .when = (Wire__HaltWhen)-1)),
    SUBMIT("submit: options.values has 65 entries; it has at most 64", .n_values = WIRE_VALUES + 1, .values = many_values),
    SUBMIT("submit: options.require[0] has a value of 5000 bytes; it has at most 4096", .n_require = 1, .require = large_values),
    SUBMIT("submit: options.values have 16388 bytes together; they have at most 16384", .n_values = 4, .values = large_values + 1),
    SUBMIT("submit: options.values[0] has a value that is not UTF-8", MANY(values, Wire__Value *, &VALUE("k", "\x80"))),
    SUBMIT("submit: options have a traceparent that is none; it is empty or 00-<32 hex>-<16 hex>-<2 hex>", .traceparent = TEXT("00-1-2-3")),
    SUBMIT("submit: options.tracestate has 5000 bytes; it has at most 512", .tracestate = TEXT(X5000)),
    SUBMIT("submit: options.max_output is 67108865; it is from 0 to 67108864", .max_output = WIRE_OUTPUT + 1),
    SUBMIT("submit: options.range.count is 0; it is from 1 to 4000000000", .range = &M(Range, range, .step = 1)),
    SUBMIT("submit: options.range has step 0; it must go up or down", .range = &M(Range, range, .count = 1)),
    SUBMIT("submit: options.range leaves the 64-bit numbers; its last one must be one of them",
           .range = &M(Range, range, .first = INT64_MAX, .count = 2, .step = 1)),
    SUBMIT("submit: options.range leaves the 64-bit numbers; its last one must be one of them",
           .range = &M(Range, range, .count = 4000000000, .step = INT64_MIN)),
    SUBMIT("submit: options.parent has 2 tasks; a parent is one attempt", .parent = &FENCE(1, 2)),
    SUBMIT("submit: options.parent.batch has 0 bytes; an id has 16", .parent = &M(Fence, fence, .count = 1)),

    /* other requests */
    REQ(SEAL, 0, "seal: has none of batch and ref; it has one", EMPTY(Seal, seal)),
    REQ(SEAL, 0, "seal: has both of batch and ref; it has one", M(Seal, seal, .batch = ID16, .ref = TEXT("b"))),
    REQ(SEAL, 1, "seal: has a body of 1 bytes; it has 0", M(Seal, seal, .batch = ID16)),
    REQ(CANCEL, 0, "cancel: ref is empty; it must be given", EMPTY(Cancel, cancel)),
    CANCEL("cancel: tasks[1] is empty; it has at least one task", &SPAN(1, 1), &SPAN(1, 0)),
    CANCEL("cancel: tasks[0] begins at 1 with 18446744073709551615 tasks; indices are below 4000000000", &SPAN(1, UINT64_MAX)),
    REQ(CANCEL, 0, "cancel: reason has 5000 bytes; it has at most 1024", M(Cancel, cancel, .ref = TEXT("b"), .reason = TEXT(X5000))),
    REQ(EXTEND, 0, "extend: deadline_us is 316224000000001; it is from 0 to 316224000000000",
        M(Extend, extend, .ref = TEXT("b"), .deadline_us = UINT64_C(316224000000001))),
    REQ(DRAIN, 0, "drain: worker is empty; it must be given", EMPTY(Drain, drain)),
    REQ(EXPLAIN, 0, "explain: index.n is 4000000001; it is from 0 to 4000000000",
        M(Explain, explain, .ref = TEXT("b"), .index = &M(Number, number, .n = WIRE_TASKS + 1))),
    REQ(PURGE, 0, "purge: has none of ref and older_than; it has one", EMPTY(Purge, purge)),
    REQ(RETRY, 0, "retry: submission has 0 bytes; an id has 16", M(Retry, retry, .ref = TEXT("b"))),
    REQ(RETRY, 0, "retry: tasks[1] is tasks 6 to 6; spans rise, don't overlap, and lie within 0 to 3999999999",
        M(Retry, retry, .ref = TEXT("b"), .submission = ID16, MANY(tasks, Wire__Span *, &SPAN(5, 2), &SPAN(6, 1)))),
    REQ(RETRY, 0, "retry: first is 4000000001; it is from 0 to 4000000000", M(Retry, retry, .ref = TEXT("b"), .submission = ID16, .first = WIRE_TASKS + 1)),
    REQ(RETRY, 0, "retry: verdicts[0] is 0; it is from 1 to 6",
        M(Retry, retry, .ref = TEXT("b"), .submission = ID16, MANY(verdicts, Wire__Verdict, WIRE__VERDICT__VERDICT_NONE))),

    /* replies */
    REP(WELCOME, "welcome: window_chunks is 0; it is from 1 to 4294967295", M(ClientWelcome, client_welcome, .window_bytes = 1)),
    REP(REFUSED, "refused: code is 8; it is from 0 to 7", M(Refused, refused, .code = (Wire__RefusedCode)8)),
    REP(SUBMITTED, "submitted: short_id is empty; it must be given", M(Submitted, submitted, .batch = ID16)),
    REP(SUBMITTED, "submitted: has a traceparent that is none; it is empty or 00-<32 hex>-<16 hex>-<2 hex>",
        M(Submitted, submitted, .batch = ID16, .short_id = TEXT("b"), .traceparent = TEXT("x"))),
    REP(ADMITTED, "admitted: next_index is 4000000001; it is from 0 to 4000000000", M(Admitted, admitted, .batch = ID16, .next_index = WIRE_TASKS + 1)),
    REP(ADMITTED, "admitted: state is 4; it is from 0 to 3", M(Admitted, admitted, .batch = ID16, .state = (Wire__State)4)),
    REP(WHERE, "where: query_port is 65536; it is from 0 to 65535", M(SinkPlace, sink_place, .query_port = 65536)),
    REP(WHERE, "where: endpoints[0] is empty; it must be given", M(SinkPlace, sink_place, MANY(endpoints, char *, TEXT("")))),
    REP(LIST, "list: batches[0].batch has 0 bytes; an id has 16", M(ListReport, list_report, MANY(batches, Wire__BatchStatus *, &EMPTY(BatchStatus, batch_status)))),

    /* from workers and sinks */
    STARTED("started: fences[0].batch has 3 bytes; an id has 16", .batch = BYTES("abc"), .count = 1),
    STARTED("started: fences[0] has 0 tasks; a frame has 1 to 4096", .batch = ID16),
    STARTED("started: fences[0] has tasks 4000 to 4999; a frame lies within one block of 4096", .batch = ID16, .first = 4000, .count = 1000),
    UP(STARTED, 0, "started: fences has 4097 entries; it has at most 4096", M(Started, started, .n_fences = WIRE_FENCES + 1, .fences = many_fences)),
    HELLO("hello: slots is 0; it is from 1 to 65535", .slots = 0),
    HELLO("hello: slots is 65536; it is from 1 to 65535", .slots = 65536),
    HELLO("hello: handlers[0] is empty; it must be given", .slots = 1, MANY(handlers, char *, TEXT(""))),
    HELLO("hello: holdings[0].fence is missing; this message must have it", .slots = 1, .ventilator = ID16,
          MANY(holdings, Wire__Holding *, &EMPTY(Holding, holding))),
    HELLO("hello: holdings[0].state is 3; it is from 0 to 2", .slots = 1, .ventilator = ID16,
          MANY(holdings, Wire__Holding *, &M(Holding, holding, .fence = &FENCE(1, 1), .state = (Wire__HoldingState)3))),
    HELLO("hello: has 1 holdings of no ventilator; it names the one that gave them", .slots = 1,
          MANY(holdings, Wire__Holding *, &M(Holding, holding, .fence = &FENCE(1, 1)))),
    UP(SINK_HELLO, 0, "sink_hello: store has 0 bytes; an id has 16", EMPTY(SinkHello, sink_hello)),
    RECORDED("recorded: results[0].fence is missing; this message must have it", .session = 7),
    RECORDED("recorded: results[0].session is 0; it is from 1 to 18446744073709551615", .fence = &FENCE(10, 3)),
    RECORDED3("recorded: results[0] has no verdicts; a result says how each task ended", .all_fresh = 1),
    RECORDED3("recorded: results[0].verdicts has 2 entries for 3 tasks; a column has none, one or one for each task",
              MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK, WIRE__VERDICT__OK)),
    RECORDED3("recorded: results[0].on_record has 2 entries for 3 tasks; a column has none, one or one for each task",
              MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK), MANY(on_record, uint32_t, 1, 2)),
    RECORDED3("recorded: results[0].fresh[0] is tasks 12 to 13; spans rise, don't overlap, and lie within 10 to 12",
              MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK), MANY(fresh, Wire__Span *, &SPAN(12, 2))),
    RECORDED3("recorded: results[0].fresh[1] is tasks 11 to 11; spans rise, don't overlap, and lie within 10 to 12",
              MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK), MANY(fresh, Wire__Span *, &SPAN(11, 1), &SPAN(11, 1))),
    RECORDED("recorded: results[0].fence is empty; it has at least one task", .fence = &M(Fence, fence, .batch = ID16), .session = 7,
             .kind = WIRE__RESULT_KIND__IS_CLOSING),
    RECORDED("recorded: results[0].fence.epoch is 3; it is from 0 to 0", .fence = &FENCE(10, 3), .session = 7, .span = 1,
             .kind = WIRE__RESULT_KIND__IS_CLOSING),
    UP(RECORDS, 0, "records: counts has 6 entries; it has 7 or none", M(BatchRecords, batch_records, .batch = ID16, MANY(counts, uint64_t, 0, 0, 0, 0, 0, 0))),
    UP(RECORDS, 9, "records: has a body of 9 bytes and is no bitmap; it has none then", M(BatchRecords, batch_records, .batch = ID16)),
    UP(RECORDS, 9, "records: has spans and a bitmap; it has one of both",
       M(BatchRecords, batch_records, .batch = ID16, .bitmap = 1, MANY(spans, Wire__Span *, &SPAN(1, 1)))),
    UP(RECORDS, 0, "records: begins at 8 and goes on at 8; a part has at least one task",
       M(BatchRecords, batch_records, .batch = ID16, .from = 8, .to = 8, .more = 1)),
    UP(RECORDS, 0, "records: spans[0] is tasks 7 to 8; spans rise, don't overlap, and lie within 4 to 7",
       M(BatchRecords, batch_records, .batch = ID16, .from = 4, .to = 8, .more = 1, MANY(spans, Wire__Span *, &SPAN(7, 2)))),
    UP(RECORDS, 0, "records: spans[1] is tasks 5 to 5; spans rise, don't overlap, and lie within 0 to 3999999999",
       M(BatchRecords, batch_records, .batch = ID16, MANY(spans, Wire__Span *, &SPAN(5, 1), &SPAN(5, 1)))),

    /* to workers and sinks */
    WELCOME("welcome: heartbeat_us is 0; it is from 1 to 316224000000000", .lane_port = 5600),
    WELCOME("welcome: has none of lane_port and lane_endpoint; it has one", .heartbeat_us = 1),
    WELCOME("welcome: has both of lane_port and lane_endpoint; it has one", .heartbeat_us = 1, .lane_port = 1, .lane_endpoint = TEXT("ipc://x")),
    DOWN(REGISTER, "register: options is missing; this message must have it", M(Register, register, .batch = ID16, .short_id = TEXT("b"))),
    DOWN(ASK, "ask: batch has 0 bytes; an id has 16", EMPTY(Ask, ask)),
    LAN(ASSIGN, 0, "assign: attempt is 0; it is from 1 to 4294967295",
        M(Assign, assign, .batch = ID16, .epoch = 1, .tasks = &M(Tasks, tasks, .count = 1))),
    LAN(ASSIGN, 0, "assign: tasks is missing; this message must have it", M(Assign, assign, .batch = ID16, .epoch = 1, .attempt = 1)),
    LAN(BEAT, 3, "beat: has a body of 3 bytes; it has 0", EMPTY(Beat, beat)),
    LAN(RECALL, 0, "recall: batch has 0 bytes; an id has 16", M(Recall, recall, .count = 1)),

    /* results */
    RES(REPORT, 0, "report: fence is missing; this message must have it", M(Report, report, .session = 7)),
    RES(REPORT, 0, "report: session is 0; it is from 1 to 18446744073709551615", M(Report, report, .fence = &FENCE(1, 1))),
    REPORT(0, "report: has no verdicts; a result says how each task ended", .worker = TEXT("w1")),
    REPORT(0, "report: verdicts[2] is 7; it is from 1 to 6",
           MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK, WIRE__VERDICT__OK, (Wire__Verdict)7)),
    REPORT(0, "report: verdicts[0] is 0; it is from 1 to 6", MANY(verdicts, Wire__Verdict, WIRE__VERDICT__VERDICT_NONE)),
    REPORT_OK(0, "report: kind is 2; it is from 0 to 1", .kind = WIRE__RESULT_KIND__IS_CLOSING),
    REPORT_OK(0, "report: reasons[0] is 99; it is from 0 to 18", MANY(reasons, Wire__Reason, (Wire__Reason)99)),
    REPORT_OK(0, "report: run_us has 2 entries for 3 tasks; a column has none, one or one for each task", MANY(run_us, uint64_t, 1, 2)),
    REPORT_OK(0, "report: slots has 4 entries for 3 tasks; a column has none, one or one for each task", MANY(slots, uint32_t, 1, 2, 3, 4)),
    REPORT_OK(0, "report: slots has an entry of 65536; one task has at most 65535", MANY(slots, uint32_t, 65536)),
    REPORT_OK(6, "report: has a body of 6 bytes and lengths of 7; they must be the same",
              MANY(output_lengths, uint32_t, 2), MANY(error_lengths, uint32_t, 1, 0, 0)),
    REPORT_OK(300000, "report: has 300000 bytes for 3 tasks; a frame has at most 262144, one task alone 67174400", MANY(output_lengths, uint32_t, 100000)),
    REPORT_OK(0, "report: error_lengths has an entry of 65537; one task has at most 65536", MANY(error_lengths, uint32_t, 65537)),
    REPORT_OK(0, "report: extras[0] is for task 3 of 3; offsets begin at 0",
              MANY(extras, Wire__ResultExtra *, &M(ResultExtra, result_extra, .offset = 3))),
    CLOSING("closing: span is missing; this message must have it", .session = 7, .verdict = WIRE__VERDICT__LOST),
    CLOSING("closing: span begins at 1 with 4000000000 tasks; indices are below 4000000000", .session = 7, .verdict = WIRE__VERDICT__LOST,
            .span = &SPAN(1, WIRE_TASKS)),
    CLOSING("closing: verdict is 0; it is from 1 to 6", .session = 7, .span = &SPAN(0, 1)),

    /* clients and the sink */
    QUE(SUBSCRIBE, "subscribe: ref is empty; it must be given", EMPTY(Subscribe, subscribe)),
    ANS(ROW, "row: has no row; it carries a packed one", EMPTY(StreamRow, stream_row)),
    ANS(BEGIN, "begin: options is missing; this message must have it", M(StreamBegin, stream_begin, .batch = ID16, .short_id = TEXT("b"))),
    ANS(PROGRESS, "progress: counts has 1 entries; it has 7 or none", M(StreamProgress, stream_progress, MANY(counts, uint64_t, 1))),
};

static int set_up(void **state)
{
    static Wire__Fence fence;
    static Wire__Value value;
    fence = FENCE(1, 1);
    value = VALUE("k", "v");
    for (size_t i = 0; i <= WIRE_FENCES; i++)
        many_fences[i] = &fence;
    for (size_t i = 0; i <= WIRE_VALUES; i++)
        many_values[i] = &value;
    for (size_t i = 0; i <= WIRE_WORDS; i++)
        many_words[i] = TEXT("w");
    *state = wire_arena_new();
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    wire_arena_destroy((struct wire_arena **)state);
    return 0;
}

static void test_every_rule_broken_once(void **state)
{
    struct wire_writer w = {0};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct why why = {""};
        assert_int_equal(write_sample(&w, &refused[i]), 0);
        if (read_as(refused[i].envelope, *state, w.bytes, w.len, refused[i].body_len, &why))
            fail_msg("accepted, though: %s", refused[i].sentence);
        assert_string_equal(why.text, refused[i].sentence);
    }
    wire_writer_release(&w);
}

/* Enums of the tables are checked against their number of words. */
static void test_enums_have_no_holes(void **state)
{
    (void)state;
    static const ProtobufCEnumDescriptor *const enums[] = {
        &wire__verdict__descriptor, &wire__reason__descriptor, &wire__state__descriptor, &wire__halt_when__descriptor,
        &wire__refused_code__descriptor, &wire__holding_state__descriptor, &wire__return_cause__descriptor,
        &wire__result_kind__descriptor,
    };
    for (size_t e = 0; e < sizeof enums / sizeof *enums; e++)
        for (unsigned i = 0; i < enums[e]->n_values; i++)
            assert_int_equal(enums[e]->values[i].value, i);
}

/* What the envelopes themselves must say, byte by byte: no writer of ours makes these. */
static void test_envelopes(void **state)
{
    static const struct { enum envelope envelope; const char *bytes; size_t len; const char *sentence; } cases[] = {
        {REQUEST, "", 0, "request: says nothing that this version (1.0) knows; one of Request's messages must be set"},
        {REQUEST, "\x08\x07", 2, "request: says nothing that this version (1.0) knows; one of Request's messages must be set"},
        {REQUEST, "\xfa\x01\x00", 3, "request: says nothing that this version (1.0) knows; one of Request's messages must be set"},
        {REQUEST, "\x32\x05\x0a\x03" "a\0b", 7, "status: ref has a NUL byte in it; text has none"},
        {REQUEST, "\x32\x03\x0a\x01\0", 5, "status: ref has a NUL byte in it; text has none"},
        {REQUEST, "\x32\x05\x0a", 3, "request: the head of 3 bytes is cut off, damaged or holds too many entries; it must be one packed "
                                     "wire.Request"},
        {REQUEST, "\x32\x03\x80\0\0", 5, "status: has a field with number 0; numbers begin at 1"},
        {UPWARD, "\x2a\0", 2, "upward: session is 0; it is from 1 to 18446744073709551615"},
        {LANE, "\x22\0", 2, "lane: session is 0; it is from 1 to 18446744073709551615"},
        {LANE, "\x09\1\0\0\0\0\0\0\0\x22\0", 11, "lane: lane_epoch is 0; it is from 1 to 18446744073709551615"},
        {LANE, "\x09\1\0\0\0\0\0\0\0\x10\1\x22\0", 13, "lane: sequence is 0; it is from 1 to 18446744073709551615"},
        {RESULT, "", 0, "result: says nothing that this version (1.0) knows; one of Result's messages must be set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct why why = {""};
        assert_null(read_as(cases[i].envelope, *state, (const uint8_t *)cases[i].bytes, cases[i].len, 0, &why));
        assert_string_equal(why.text, cases[i].sentence);
    }
}

static void refuse_row(struct wire_arena *arena, const Wire__Row *row, size_t body_len, const char *sentence)
{
    struct wire_writer w = {0};
    struct why why = {""};
    const Wire__Row *untouched = row;
    assert_int_equal(wire_write(&w, &row->base), 0);
    assert_int_equal(wire_read_row(arena, w.bytes, w.len, body_len, &untouched, &why), sentence ? -1 : 0);
    assert_string_equal(why.text, sentence ? sentence : "");
    if (sentence)
        assert_ptr_equal(untouched, row);
    wire_writer_release(&w);
}

static void test_rows(void **state)
{
    Wire__Report *report = &M(Report, report, .fence = &FENCE(8, 9), .session = 7, MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK),
                              MANY(output_lengths, uint32_t, 1));
    Wire__Closing *closing = &M(Closing, closing, .batch = ID16, .span = &SPAN(10, 20), .session = 7, .verdict = WIRE__VERDICT__LOST);
    refuse_row(*state, &EMPTY(Row, row), 0, "row: has none of report and closing; it has one");
    refuse_row(*state, &M(Row, row, .report = report, .closing = closing), 9, "row: has both of report and closing; it has one");
    refuse_row(*state, &M(Row, row, .report = report), 8, "row: report has a body of 8 bytes and lengths of 9; they must be the same");
    refuse_row(*state, &M(Row, row, .report = report, .fresh = BYTES("x")), 9, "row: has a bitmap of 1 bytes; it has none or 2");
    refuse_row(*state, &M(Row, row, .report = report, MANY(closed, Wire__Span *, &SPAN(10, 1))), 9,
               "row: is a report and has closed tasks; a closing has them");
    refuse_row(*state, &M(Row, row, .closing = closing), 9, "row: is a closing and has a body of 9 bytes; it has none");
    refuse_row(*state, &M(Row, row, .closing = closing, MANY(closed, Wire__Span *, &SPAN(9, 1))), 0,
               "row: closed[0] is tasks 9 to 9; spans rise, don't overlap, and lie within 10 to 29");
    refuse_row(*state, &M(Row, row, .closing = closing, .closed_bitmap = BYTES("xx")), 0,
               "row: has a bitmap of 2 bytes for 20 tasks; it has 3");
    refuse_row(*state, &M(Row, row, .closing = closing, .closed_bitmap = BYTES("xxx"), MANY(closed, Wire__Span *, &SPAN(10, 1))), 0,
               "row: has closed spans and a bitmap; it has one of both");
    refuse_row(*state, &M(Row, row, .closing = closing, .closed_bitmap = BYTES("xxx")), 0, NULL);
    refuse_row(*state, &M(Row, row, .closing = closing, MANY(closed, Wire__Span *, &SPAN(10, 1), &SPAN(11, 19))), WIRE_NO_BODY, NULL);
    refuse_row(*state, &M(Row, row, .report = report, .fresh = BYTES("xx")), 9, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_rule_broken_once, set_up, tear_down),
        cmocka_unit_test(test_enums_have_no_holes),
        cmocka_unit_test_setup_teardown(test_envelopes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
