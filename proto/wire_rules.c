/* The rules of wire.proto, message by message, as tables: which field is an id, a name, a number
 * between bounds, a message that must be there. What a table can't say (columns, spans, one of two)
 * is a function beside it. What passes here is trusted by everybody else. */
#include <inttypes.h>
#include <stddef.h>

#include "common/histogram.h"
#include "proto/wire_check.h"

#define TEN_YEARS_US (UINT64_C(10) * 366 * 86400 * 1000000)
#define PORT 65535u
#define HOSTS 16u                       /* hosts, endpoints of a sink */
#define RETRIES 1000000u
#define WEIGHT 1000000u
#define BACKOFF_FACTOR_MILLI 1000000u
#define EXIT_CODES 256u
#define TAIL 512u                       /* bytes of a failure's standard error, in figures */
#define NOTES 65536u                    /* attempt notes of one batch */

/* ---- how the tables are written ---- */

#define AT(type, f) .field = #f, .at = offsetof(Wire__##type, f)
#define LIST(type, f) AT(type, f), .n_at = offsetof(Wire__##type, n_##f)

#define ID(type, f)              {AT(type, f), .kind = IS_ID}
#define ID_OR_NONE(type, f)      {AT(type, f), .kind = IS_ID_OR_NONE}
#define NAME(type, f)            {AT(type, f), .kind = IS_LINE, .least = 1, .most = WIRE_NAME}
#define NAME_OR_NONE(type, f)    {AT(type, f), .kind = IS_LINE, .most = WIRE_NAME}
#define LINE(type, f, longest)   {AT(type, f), .kind = IS_LINE, .most = (longest)}
#define SENTENCE(type, f)        {AT(type, f), .kind = IS_TEXT, .most = WIRE_SENTENCE}
#define U32(type, f, low, high)  {AT(type, f), .kind = IS_U32, .least = (low), .most = (high)}
#define U64(type, f, low, high)  {AT(type, f), .kind = IS_U64, .least = (low), .most = (high)}
#define SESSION(type)            U64(type, session, 1, UINT64_MAX)
#define ENUM(type, f, low, enumeration) \
    {AT(type, f), .kind = IS_ENUM, .least = (low), .words = &wire__##enumeration##__descriptor}
#define NEED(type, f, rules)     {AT(type, f), .kind = IS_MESSAGE, .needed = true, .of = &(rules)}
#define MAYBE(type, f, rules)    {AT(type, f), .kind = IS_MESSAGE, .of = &(rules)}
#define MANY(type, f, n, rules)  {LIST(type, f), .kind = IS_MESSAGES, .entries = (n), .of = &(rules)}
#define LINES(type, f, low, n)   {LIST(type, f), .kind = IS_LINES, .entries = (n), .least = (low), .most = WIRE_NAME}
#define TEXTS(type, f, n, longest) {LIST(type, f), .kind = IS_TEXTS, .entries = (n), .most = (longest)}
#define VALUES(type, f)          {LIST(type, f), .kind = IS_VALUES, .entries = WIRE_VALUES}
#define ENUMS(type, f, n, low, enumeration) \
    {LIST(type, f), .kind = IS_ENUMS, .entries = (n), .least = (low), .words = &wire__##enumeration##__descriptor}
#define COUNTS(type, f)          {LIST(type, f), .kind = IS_COUNTS, .entries = WIRE_VERDICTS}

#define RULES(name, check_also, ...)                                                       \
    static const struct wire_rule name##_fields[] = {__VA_ARGS__};                         \
    static const struct wire_rules name = {name##_fields, sizeof name##_fields / sizeof *name##_fields, check_also}
#define NO_RULES(name) static const struct wire_rules name = {NULL, 0, NULL}

NO_RULES(nothing);

/* ---- pieces ---- */

/* Consecutive indices of one frame: at least one task, all below the limit, in one block. */
static int check_frame(struct wire_path *c, uint64_t first, uint32_t count)
{
    if (count < 1 || count > WIRE_BLOCK)
        return wire_broke(c, "has %" PRIu32 " tasks; a frame has 1 to %u", count, WIRE_BLOCK);
    if (first >= WIRE_TASKS || count > WIRE_TASKS - first)
        return wire_broke(c, "begins at %" PRIu64 " with %" PRIu32 " tasks; indices are below %" PRIu64, first, count, WIRE_TASKS);
    if (first / WIRE_BLOCK != (first + count - 1) / WIRE_BLOCK)
        return wire_broke(c, "has tasks %" PRIu64 " to %" PRIu64 "; a frame lies within one block of %u", first, first + count - 1,
                          WIRE_BLOCK);
    return 0;
}

static int check_range(struct wire_path *c, uint64_t first, uint64_t count)
{
    if (count < 1)
        return wire_broke(c, "is empty; it has at least one task");
    if (first >= WIRE_TASKS || count > WIRE_TASKS - first)
        return wire_broke(c, "begins at %" PRIu64 " with %" PRIu64 " tasks; indices are below %" PRIu64, first, count, WIRE_TASKS);
    return 0;
}

/* Spans that follow one another, inside of [first, first + count). */
static int check_spans(struct wire_path *c, const char *field, Wire__Span *const *span, size_t n, uint64_t first, uint64_t count)
{
    uint64_t next = first;
    for (size_t i = 0; i < n; i++) {
        if (span[i]->first < next || span[i]->first - first + span[i]->count > count) {
            wire_enter(c, field, i);
            return wire_broke(c, "is tasks %" PRIu64 " to %" PRIu64 "; spans rise, don't overlap, and lie within %" PRIu64
                              " to %" PRIu64, span[i]->first, span[i]->first + span[i]->count - 1, first, first + count - 1);
        }
        next = span[i]->first + span[i]->count;
    }
    return 0;
}

static int check_column(struct wire_path *c, const char *field, size_t n, uint32_t count)
{
    if (n <= 1 || n == count)
        return 0;
    wire_enter(c, field, WIRE_NO_INDEX);
    return wire_broke(c, "has %zu entries for %" PRIu32 " tasks; a column has none, one or one for each task", n, count);
}

/* Offsets of extras rise from entry to entry and stay below the number of tasks. */
static int check_offset(struct wire_path *c, size_t i, uint32_t offset, uint32_t before, uint32_t count)
{
    if (offset < count && (i == 0 || offset > before))
        return 0;
    wire_enter(c, "extras", i);
    return offset >= count ? wire_broke(c, "is for task %" PRIu32 " of %" PRIu32 "; offsets begin at 0", offset, count)
                           : wire_broke(c, "is for task %" PRIu32 ", after %" PRIu32 "; offsets rise", offset, before);
}

/* The bytes of a frame of several tasks are limited, whatever one task may have. */
static int check_body(struct wire_path *c, uint64_t sum, uint32_t count, uint64_t most_of_one)
{
    uint64_t most = count == 1 ? most_of_one : WIRE_FRAME_BODY;
    if (sum > most)
        return wire_broke(c, "has %" PRIu64 " bytes for %" PRIu32 " tasks; a frame has at most %u, one task alone %" PRIu64,
                          sum, count, WIRE_FRAME_BODY, most_of_one);
    if (c->body_len != WIRE_NO_BODY && sum != c->body_len)
        return wire_broke(c, "has a body of %zu bytes and lengths of %" PRIu64 "; they must be the same", c->body_len, sum);
    return 0;
}

static int also_span(struct wire_path *c, const void *message)
{
    const Wire__Span *span = message;
    return check_range(c, span->first, span->count);
}

static int also_fence(struct wire_path *c, const void *message)
{
    const Wire__Fence *fence = message;
    return check_frame(c, fence->first, fence->count);
}

static int also_parent(struct wire_path *c, const void *message)
{
    const Wire__Fence *fence = message;
    if (fence->count != 1)
        return wire_broke(c, "has %" PRIu32 " tasks; a parent is one attempt", fence->count);
    return also_fence(c, message);
}

RULES(micros, NULL, U64(Micros, us, 0, TEN_YEARS_US));
RULES(micros_some, NULL, U64(Micros, us, 1, TEN_YEARS_US));
RULES(task_number, NULL, U64(Number, n, 0, WIRE_TASKS));
NO_RULES(signed_micros);
static const struct wire_rules span = {NULL, 0, also_span};
RULES(fence, also_fence, ID(Fence, batch));
RULES(parent, also_parent, ID(Fence, batch));
RULES(closing_fence, NULL, ID(Fence, batch), U64(Fence, epoch, 0, 0), U32(Fence, attempt, 0, 0));
RULES(retry_rule, NULL,
    U32(RetryRule, retries, 0, RETRIES),
    {LIST(RetryRule, on_codes), .kind = IS_ENUMS, .entries = EXIT_CODES, .most = 255},
    U64(RetryRule, backoff_us, 0, TEN_YEARS_US),
    U32(RetryRule, backoff_factor_milli, 0, BACKOFF_FACTOR_MILLI),
    U64(RetryRule, backoff_max_us, 0, TEN_YEARS_US));

static int also_halt(struct wire_path *c, const void *message)
{
    const Wire__HaltRule *halt = message;
    if (halt->when != WIRE__HALT_WHEN__HALT_NEVER && halt->failures == 0 && halt->percent == 0)
        return wire_broke(c, "has neither failures nor percent; a halt needs one of them");
    return 0;
}
RULES(halt_rule, also_halt,
    ENUM(HaltRule, when, 0, halt_when),
    U32(HaltRule, percent, 0, 100));

static int also_number_range(struct wire_path *c, const void *message)
{
    const Wire__Range *range = message;
    int64_t last;
    if (range->step == 0)
        return wire_broke(c, "has step 0; it must go up or down");
    if (__builtin_mul_overflow((int64_t)range->count - 1, range->step, &last) || __builtin_add_overflow(last, range->first, &last))
        return wire_broke(c, "leaves the 64-bit numbers; its last one must be one of them");
    return 0;
}
RULES(number_range, also_number_range, U64(Range, count, 1, WIRE_TASKS));

static int also_options(struct wire_path *c, const void *message)
{
    const Wire__Options *o = message;
    size_t sum = 0;
    for (size_t i = 0; i < o->n_command; i++)
        sum += wire_text_len(o->command[i]) + 1;
    if (sum > WIRE_COMMAND)
        return wire_broke(c, "have a command of %zu bytes; it has at most %u", sum, WIRE_COMMAND);
    if ((o->handler[0] == '\0') == (o->n_command == 0))
        return wire_broke(c, "have %s a handler %s a command; a batch has one of both", o->n_command ? "both" : "neither",
                          o->n_command ? "and" : "nor");
    if (o->n_command > 0 && o->command[0][0] == '\0')
        return wire_broke(c, "have a command whose first word is empty; it names the program");
    if (o->traceparent[0] != '\0' && !wire_traceparent_ok(o->traceparent))
        return wire_broke(c, "have a traceparent that is none; it is empty or 00-<32 hex>-<16 hex>-<2 hex>");
    return 0;
}
RULES(options, also_options,
    NAME_OR_NONE(Options, name),
    NAME_OR_NONE(Options, handler),
    TEXTS(Options, command, WIRE_WORDS, WIRE_COMMAND),
    MAYBE(Options, deadline, micros),
    MAYBE(Options, timeout, micros_some),
    U64(Options, grace_us, 0, TEN_YEARS_US),
    U64(Options, min_runtime_us, 0, TEN_YEARS_US),
    MAYBE(Options, retry, retry_rule),
    MAYBE(Options, halt, halt_rule),
    U32(Options, weight, 1, WEIGHT),
    VALUES(Options, require),
    VALUES(Options, values),
    LINE(Options, traceparent, 55),
    LINE(Options, tracestate, WIRE_TRACE),
    U64(Options, max_output, 0, WIRE_OUTPUT),
    MAYBE(Options, range, number_range),
    MAYBE(Options, parent, parent));

static int also_tasks(struct wire_path *c, const void *message)
{
    const Wire__Tasks *t = message;
    if (check_frame(c, t->first, t->count) < 0 || check_column(c, "lengths", t->n_lengths, t->count) < 0)
        return -1;
    for (size_t i = 0; i < t->n_extras; i++)
        if (check_offset(c, i, t->extras[i]->offset, i ? t->extras[i - 1]->offset : 0, t->count) < 0)
            return -1;
    return check_body(c, wire_column_sum(t->lengths, t->n_lengths, t->count), t->count, WIRE_PAYLOAD);
}
RULES(task_extra, NULL, MAYBE(TaskExtra, timeout, micros_some), VALUES(TaskExtra, values));
RULES(tasks, also_tasks, MANY(Tasks, extras, WIRE_BLOCK, task_extra));

RULES(sink_place, NULL,
    LINES(SinkPlace, hosts, 0, HOSTS),
    U32(SinkPlace, results_port, 0, PORT),
    U32(SinkPlace, query_port, 0, PORT),
    LINES(SinkPlace, endpoints, 1, HOSTS),
    LINES(SinkPlace, query_endpoints, 1, HOSTS));

/* ---- requests of clients ---- */

/* A message names its batch in one of two ways. */
static int one_of(const struct wire_path *c, bool this, bool that, const char *both)
{
    if (this != that)
        return 0;
    return wire_broke(c, "has %s of %s; it has one", this ? "both" : "none", both);
}

static int also_submit(struct wire_path *c, const void *message)
{
    const Wire__Submit *submit = message;
    if (submit->submission.len == 0 && submit->key[0] == '\0')
        return wire_broke(c, "has neither submission nor key; one of them makes it safe to send again");
    return 0;
}

static int also_seal(struct wire_path *c, const void *message)
{
    const Wire__Seal *seal = message;
    return one_of(c, seal->batch.len > 0, seal->ref[0] != '\0', "batch and ref");
}

static int also_purge(struct wire_path *c, const void *message)
{
    const Wire__Purge *purge = message;
    return one_of(c, purge->ref[0] != '\0', purge->older_than != NULL, "ref and older_than");
}

static int also_retry(struct wire_path *c, const void *message)
{
    const Wire__Retry *r = message;
    return check_spans(c, "tasks", r->tasks, r->n_tasks, 0, WIRE_TASKS);
}

RULES(client_hello, NULL, NAME_OR_NONE(ClientHello, program));
RULES(submit, also_submit, ID_OR_NONE(Submit, submission), NAME_OR_NONE(Submit, key), NEED(Submit, options, options));
RULES(chunk, NULL, ID(Chunk, batch), NEED(Chunk, tasks, tasks));
RULES(seal, also_seal, ID_OR_NONE(Seal, batch), NAME_OR_NONE(Seal, ref));
RULES(status, NULL, NAME_OR_NONE(Status, ref));
RULES(cancel, NULL, NAME(Cancel, ref), MANY(Cancel, tasks, WIRE_FENCES, span), SENTENCE(Cancel, reason));
RULES(extend, NULL, NAME(Extend, ref), U64(Extend, deadline_us, 0, TEN_YEARS_US));
RULES(drain, NULL, NAME(Drain, worker));
RULES(explain, NULL, NAME(Explain, ref), MAYBE(Explain, index, task_number));
RULES(purge, also_purge, NAME_OR_NONE(Purge, ref), MAYBE(Purge, older_than, micros));
RULES(retry, also_retry,
    NAME(Retry, ref),
    ENUMS(Retry, verdicts, WIRE_VERDICTS, WIRE__VERDICT__OK, verdict),
    ID(Retry, submission),
    U64(Retry, first, 0, WIRE_TASKS),
    MANY(Retry, tasks, WIRE_FENCES, span));

static const struct wire_variant request_variants[] = {
    [WIRE__REQUEST__WHAT_HELLO] = {"hello", &client_hello, false},
    [WIRE__REQUEST__WHAT_SUBMIT] = {"submit", &submit, false},
    [WIRE__REQUEST__WHAT_CHUNK] = {"chunk", &chunk, true},
    [WIRE__REQUEST__WHAT_SEAL] = {"seal", &seal, false},
    [WIRE__REQUEST__WHAT_STATUS] = {"status", &status, false},
    [WIRE__REQUEST__WHAT_LIST] = {"list", &nothing, false},
    [WIRE__REQUEST__WHAT_CANCEL] = {"cancel", &cancel, false},
    [WIRE__REQUEST__WHAT_EXTEND] = {"extend", &extend, false},
    [WIRE__REQUEST__WHAT_WORKERS] = {"workers", &nothing, false},
    [WIRE__REQUEST__WHAT_DRAIN] = {"drain", &drain, false},
    [WIRE__REQUEST__WHAT_WHERE] = {"where", &nothing, false},
    [WIRE__REQUEST__WHAT_EXPLAIN] = {"explain", &explain, false},
    [WIRE__REQUEST__WHAT_PURGE] = {"purge", &purge, false},
    [WIRE__REQUEST__WHAT_RETRY] = {"retry", &retry, false},
    [WIRE__REQUEST__WHAT_SLOWEST] = {"slowest", &nothing, false},
};

/* ---- replies to clients ---- */

static int check_traceparent(const struct wire_path *c, const char *text)
{
    if (text[0] == '\0' || wire_traceparent_ok(text))
        return 0;
    return wire_broke(c, "has a traceparent that is none; it is empty or 00-<32 hex>-<16 hex>-<2 hex>");
}

static int also_submitted(struct wire_path *c, const void *message)
{
    return check_traceparent(c, ((const Wire__Submitted *)message)->traceparent);
}

static int also_batch_status(struct wire_path *c, const void *message)
{
    return check_traceparent(c, ((const Wire__BatchStatus *)message)->traceparent);
}

RULES(client_welcome, NULL,
    NAME_OR_NONE(ClientWelcome, program),
    U32(ClientWelcome, window_chunks, 1, UINT32_MAX),
    U64(ClientWelcome, window_bytes, 1, UINT64_MAX));
RULES(refused, NULL, ENUM(Refused, code, 0, refused_code), SENTENCE(Refused, sentence));
RULES(submitted, also_submitted,
    ID(Submitted, batch),
    NAME(Submitted, short_id),
    U64(Submitted, next_index, 0, WIRE_TASKS),
    ENUM(Submitted, state, 0, state),
    MAYBE(Submitted, sink, sink_place),
    SENTENCE(Submitted, note),
    LINE(Submitted, traceparent, 55));
RULES(admitted, NULL, ID(Admitted, batch), U64(Admitted, next_index, 0, WIRE_TASKS), ENUM(Admitted, state, 0, state));
RULES(batch_status, also_batch_status,
    ID(BatchStatus, batch),
    NAME(BatchStatus, short_id),
    NAME_OR_NONE(BatchStatus, name),
    ENUM(BatchStatus, state, 0, state),
    MAYBE(BatchStatus, deadline_left, signed_micros),
    MAYBE(BatchStatus, eta, nothing),
    SENTENCE(BatchStatus, note),
    LINE(BatchStatus, traceparent, 55));
RULES(system_status, NULL,
    SENTENCE(SystemStatus, note),
    U32(SystemStatus, workers_port, 0, PORT),
    U32(SystemStatus, lanes_from, 0, PORT),
    U32(SystemStatus, lanes_to, 0, PORT));
RULES(status_report, NULL, MANY(StatusReport, batches, WIRE_FENCES, batch_status), MAYBE(StatusReport, system, system_status));
RULES(list_report, NULL, MANY(ListReport, batches, WIRE_FENCES, batch_status));
RULES(cancel_report, NULL, NAME_OR_NONE(CancelReport, short_id));
RULES(extended, NULL, NAME_OR_NONE(Extended, short_id));
RULES(purged, NULL, NAME_OR_NONE(Purged, short_id));
RULES(draining, NULL, NAME_OR_NONE(Draining, worker));
RULES(explanation, NULL, TEXTS(Explanation, lines, WIRE_FENCES, WIRE_SENTENCE), ID_OR_NONE(Explanation, batch));
RULES(worker_status, NULL,
    NAME(WorkerStatus, name),
    NAME_OR_NONE(WorkerStatus, state),
    LINES(WorkerStatus, handlers, 1, WIRE_HANDLERS),
    VALUES(WorkerStatus, labels),
    NAME_OR_NONE(WorkerStatus, address),
    U32(WorkerStatus, lane_port, 0, PORT),
    NAME_OR_NONE(WorkerStatus, program));
RULES(running_attempt, NULL,
    NAME(RunningAttempt, short_id),
    NAME_OR_NONE(RunningAttempt, worker),
    MAYBE(RunningAttempt, left, signed_micros));
RULES(slowest_report, NULL, MANY(SlowestReport, attempts, WIRE_FENCES, running_attempt));
RULES(workers_report, NULL, MANY(WorkersReport, workers, WIRE_FENCES, worker_status));

static const struct wire_variant reply_variants[] = {
    [WIRE__REPLY__WHAT_WELCOME] = {"welcome", &client_welcome, false},
    [WIRE__REPLY__WHAT_SAY_HELLO] = {"say_hello", &nothing, false},
    [WIRE__REPLY__WHAT_REFUSED] = {"refused", &refused, false},
    [WIRE__REPLY__WHAT_SUBMITTED] = {"submitted", &submitted, false},
    [WIRE__REPLY__WHAT_ADMITTED] = {"admitted", &admitted, false},
    [WIRE__REPLY__WHAT_STATUS] = {"status", &status_report, false},
    [WIRE__REPLY__WHAT_LIST] = {"list", &list_report, false},
    [WIRE__REPLY__WHAT_CANCELLED] = {"cancelled", &cancel_report, false},
    [WIRE__REPLY__WHAT_EXTENDED] = {"extended", &extended, false},
    [WIRE__REPLY__WHAT_WORKERS] = {"workers", &workers_report, false},
    [WIRE__REPLY__WHAT_DRAINING] = {"draining", &draining, false},
    [WIRE__REPLY__WHAT_WHERE] = {"where", &sink_place, false},
    [WIRE__REPLY__WHAT_EXPLANATION] = {"explanation", &explanation, false},
    [WIRE__REPLY__WHAT_PURGED] = {"purged", &purged, false},
    [WIRE__REPLY__WHAT_SLOWEST] = {"slowest", &slowest_report, false},
};

/* ---- from workers and sinks ---- */

static int also_worker_hello(struct wire_path *c, const void *message)
{
    const Wire__WorkerHello *hello = message;
    if (hello->n_holdings > 0 && hello->ventilator.len == 0)
        return wire_broke(c, "has %zu holdings of no ventilator; it names the one that gave them", hello->n_holdings);
    return 0;
}

/* What a result of one fence says about its tasks, in a report and in the answer to it. */
static int also_recorded_result(struct wire_path *c, const void *message)
{
    const Wire__RecordedResult *r = message;
    bool closing = r->kind == WIRE__RESULT_KIND__IS_CLOSING;
    wire_enter(c, "fence", WIRE_NO_INDEX);
    if (wire_apply(c, closing ? &closing_fence : &fence, r->fence) < 0)
        return -1;
    if (closing && check_range(c, r->fence->first, r->span) < 0)
        return -1;
    wire_leave(c);
    if (r->n_verdicts == 0 && !closing)
        return wire_broke(c, "has no verdicts; a result says how each task ended");
    /* The tasks of a closing have one verdict together. */
    uint32_t count = closing ? 1 : r->fence->count;
    if (check_column(c, "verdicts", r->n_verdicts, count) < 0 || check_column(c, "reasons", r->n_reasons, count) < 0)
        return -1;
    if (check_column(c, "codes", r->n_codes, count) < 0 || check_column(c, "on_record", r->n_on_record, count) < 0)
        return -1;
    return check_spans(c, "fresh", r->fresh, r->n_fresh, r->fence->first, closing ? r->span : r->fence->count);
}

static int also_batch_records(struct wire_path *c, const void *message)
{
    const Wire__BatchRecords *r = message;
    if (r->bitmap && r->n_spans > 0)
        return wire_broke(c, "has spans and a bitmap; it has one of both");
    if (!r->bitmap && c->body_len > 0)
        return wire_broke(c, "has a body of %zu bytes and is no bitmap; it has none then", c->body_len);
    if (r->more && r->to <= r->from)
        return wire_broke(c, "begins at %" PRIu64 " and goes on at %" PRIu64 "; a part has at least one task", r->from, r->to);
    return check_spans(c, "spans", r->spans, r->n_spans, r->from, (r->more ? r->to : WIRE_TASKS) - r->from);
}

static int also_note(struct wire_path *c, const void *message)
{
    const Wire__AttemptNote *note = message;
    return check_range(c, note->first, note->count);
}

RULES(holding, NULL, NEED(Holding, fence, fence), ENUM(Holding, state, 0, holding_state));
RULES(worker_hello, also_worker_hello,
    NAME_OR_NONE(WorkerHello, program),
    NAME(WorkerHello, name),
    U32(WorkerHello, slots, 1, WIRE_SLOTS),
    VALUES(WorkerHello, labels),
    LINES(WorkerHello, handlers, 1, WIRE_HANDLERS),
    MANY(WorkerHello, holdings, WIRE_HOLDINGS, holding),
    ID_OR_NONE(WorkerHello, ventilator));
RULES(started, NULL, MANY(Started, fences, WIRE_FENCES, fence));
RULES(finished, NULL, MANY(Finished, fences, WIRE_FENCES, fence));
RULES(returned, NULL, MANY(Returned, fences, WIRE_FENCES, fence), ENUM(Returned, cause, 0, return_cause));
RULES(sink_hello, NULL,
    NAME_OR_NONE(SinkHello, program),
    ID(SinkHello, store),
    ID_OR_NONE(SinkHello, journal),
    NAME_OR_NONE(SinkHello, advertise),
    U32(SinkHello, results_port, 0, PORT),
    U32(SinkHello, query_port, 0, PORT),
    NAME_OR_NONE(SinkHello, results_endpoint),
    NAME_OR_NONE(SinkHello, query_endpoint));
RULES(registered, NULL, ID(Registered, batch), MAYBE(Registered, total, task_number));
RULES(present, NULL, ID(Fence, batch));
RULES(recorded_result, also_recorded_result,
    NEED(RecordedResult, fence, present),
    SESSION(RecordedResult),
    ENUM(RecordedResult, kind, 0, result_kind),
    ENUMS(RecordedResult, verdicts, WIRE_BLOCK, WIRE__VERDICT__OK, verdict),
    ENUMS(RecordedResult, reasons, WIRE_BLOCK, 0, reason),
    MANY(RecordedResult, fresh, WIRE_FENCES, span));
RULES(recorded, NULL, MANY(Recorded, results, WIRE_FENCES, recorded_result));
RULES(refused_result, NULL,
    NEED(RefusedResult, fence, fence),
    SESSION(RefusedResult),
    ENUM(RefusedResult, reason, 0, reason),
    SENTENCE(RefusedResult, sentence));
static const struct wire_rules attempt_note = {NULL, 0, also_note};
RULES(batch_records, also_batch_records,
    ID(BatchRecords, batch),
    U64(BatchRecords, from, 0, WIRE_TASKS),
    U64(BatchRecords, to, 0, WIRE_TASKS),
    COUNTS(BatchRecords, counts),
    MANY(BatchRecords, spans, WIRE_FENCES, span),
    MANY(BatchRecords, attempts, NOTES, attempt_note));
RULES(forgotten, NULL, ID(Forgotten, batch));

static int also_durations(struct wire_path *c, const void *message)
{
    const Wire__Durations *d = message;
    if (d->n_buckets <= HISTOGRAM_BUCKETS)
        return 0;
    return wire_broke(c, "has %zu buckets; it has at most %u", d->n_buckets, HISTOGRAM_BUCKETS);
}

static int also_failure(struct wire_path *c, const void *message)
{
    const Wire__FailureNote *f = message;
    if (f->tail.len <= TAIL)
        return 0;
    return wire_broke(c, "has a tail of %zu bytes; it has at most %u", f->tail.len, TAIL);
}

static const struct wire_rules durations = {NULL, 0, also_durations};
RULES(handler_figures, NULL,
    NAME_OR_NONE(HandlerFigures, handler),
    COUNTS(HandlerFigures, verdicts),
    MAYBE(HandlerFigures, run, durations),
    MAYBE(HandlerFigures, wait, durations));
RULES(batch_figures, NULL, ID(BatchFigures, batch), MAYBE(BatchFigures, run, durations), MAYBE(BatchFigures, wait, durations));
RULES(failure_note, also_failure,
    ID(FailureNote, batch),
    U64(FailureNote, index, 0, WIRE_TASKS - 1),
    ENUM(FailureNote, verdict, WIRE__VERDICT__OK, verdict),
    ENUM(FailureNote, reason, 0, reason),
    NAME_OR_NONE(FailureNote, worker),
    LINE(FailureNote, sentence, 160));
RULES(figures, NULL,
    MAYBE(Figures, commit, durations),
    MANY(Figures, handlers, 65, handler_figures),
    MANY(Figures, batches, 32, batch_figures),
    MANY(Figures, failures, 16, failure_note));

RULES(upward, NULL, SESSION(Upward));
static const struct wire_variant upward_variants[] = {
    [WIRE__UPWARD__WHAT_HELLO] = {"hello", &worker_hello, false},
    [WIRE__UPWARD__WHAT_HEARTBEAT] = {"heartbeat", &nothing, false},
    [WIRE__UPWARD__WHAT_OPENED] = {"opened", &nothing, false},
    [WIRE__UPWARD__WHAT_STARTED] = {"started", &started, false},
    [WIRE__UPWARD__WHAT_FINISHED] = {"finished", &finished, false},
    [WIRE__UPWARD__WHAT_RETURNED] = {"returned", &returned, false},
    [WIRE__UPWARD__WHAT_CONFIRMED] = {"confirmed", &nothing, false},
    [WIRE__UPWARD__WHAT_GOODBYE] = {"goodbye", &nothing, false},
    [WIRE__UPWARD__WHAT_SINK_HELLO] = {"sink_hello", &sink_hello, false},
    [WIRE__UPWARD__WHAT_REGISTERED] = {"registered", &registered, false},
    [WIRE__UPWARD__WHAT_RECORDED] = {"recorded", &recorded, false},
    [WIRE__UPWARD__WHAT_REFUSED] = {"refused", &refused_result, false},
    [WIRE__UPWARD__WHAT_RECORDS] = {"records", &batch_records, true},
    [WIRE__UPWARD__WHAT_FIGURES] = {"figures", &figures, false},
    [WIRE__UPWARD__WHAT_FORGOTTEN] = {"forgotten", &forgotten, false},
};

/* ---- to workers and sinks ---- */

static int also_welcome(struct wire_path *c, const void *message)
{
    const Wire__Welcome *welcome = message;
    return one_of(c, welcome->lane_port != 0, welcome->lane_endpoint[0] != '\0', "lane_port and lane_endpoint");
}

RULES(welcome, also_welcome,
    NAME_OR_NONE(Welcome, program),
    ID(Welcome, ventilator),
    U32(Welcome, lane_port, 0, PORT),
    NAME_OR_NONE(Welcome, lane_endpoint),
    U64(Welcome, lane_epoch, 1, UINT64_MAX),
    U64(Welcome, heartbeat_us, 1, TEN_YEARS_US),
    U64(Welcome, lease_us, 1, TEN_YEARS_US),
    U64(Welcome, silence_us, 1, TEN_YEARS_US),
    MAYBE(Welcome, sink, sink_place),
    MANY(Welcome, dropped, WIRE_HOLDINGS, fence));
RULES(heartbeat_answer, NULL, MAYBE(HeartbeatAnswer, sink, sink_place));
RULES(sink_welcome, NULL,
    NAME_OR_NONE(SinkWelcome, program),
    ID(SinkWelcome, journal),
    U64(SinkWelcome, heartbeat_us, 1, TEN_YEARS_US));
RULES(registers, NULL,
    ID(Register, batch),
    NAME(Register, short_id),
    NEED(Register, options, options),
    MAYBE(Register, total, task_number),
    U64(Register, admitted, 0, WIRE_TASKS));
RULES(ask, NULL, ID(Ask, batch), U64(Ask, from, 0, WIRE_TASKS));
RULES(forget, NULL, ID(Forget, batch));
RULES(closing, NULL,
    ID(Closing, batch),
    NEED(Closing, span, span),
    ENUM(Closing, verdict, WIRE__VERDICT__OK, verdict),
    ENUM(Closing, reason, 0, reason),
    SENTENCE(Closing, sentence),
    SESSION(Closing));

static const struct wire_variant downward_variants[] = {
    [WIRE__DOWNWARD__WHAT_WELCOME] = {"welcome", &welcome, false},
    [WIRE__DOWNWARD__WHAT_SAY_HELLO] = {"say_hello", &nothing, false},
    [WIRE__DOWNWARD__WHAT_REFUSED] = {"refused", &refused, false},
    [WIRE__DOWNWARD__WHAT_HEARTBEAT] = {"heartbeat", &heartbeat_answer, false},
    [WIRE__DOWNWARD__WHAT_GOODBYE] = {"goodbye", &nothing, false},
    [WIRE__DOWNWARD__WHAT_SINK_WELCOME] = {"sink_welcome", &sink_welcome, false},
    [WIRE__DOWNWARD__WHAT_REGISTER] = {"register", &registers, false},
    [WIRE__DOWNWARD__WHAT_ASK] = {"ask", &ask, false},
    [WIRE__DOWNWARD__WHAT_FORGET] = {"forget", &forget, false},
    [WIRE__DOWNWARD__WHAT_CLOSING] = {"closing", &closing, false},
};

/* ---- down a lane ---- */

RULES(announce, NULL,
    ID(Announce, batch),
    NAME(Announce, short_id),
    NEED(Announce, options, options),
    MAYBE(Announce, deadline_left, micros));
RULES(assign, NULL,
    ID(Assign, batch),
    NEED(Assign, tasks, tasks),
    U64(Assign, epoch, 1, UINT64_MAX),
    U32(Assign, attempt, 1, UINT32_MAX));
RULES(cancel_tasks, NULL,
    ID(CancelTasks, batch),
    MANY(CancelTasks, tasks, WIRE_FENCES, span),
    ENUM(CancelTasks, reason, 0, reason));
RULES(move_deadline, NULL, ID(MoveDeadline, batch), MAYBE(MoveDeadline, deadline_left, micros));
RULES(release, NULL, MANY(Release, fences, WIRE_FENCES, fence));
RULES(recall, NULL, ID(Recall, batch));
RULES(retire, NULL, ID(Retire, batch));

RULES(lane, NULL, SESSION(Lane), U64(Lane, lane_epoch, 1, UINT64_MAX), U64(Lane, sequence, 1, UINT64_MAX));
static const struct wire_variant lane_variants[] = {
    [WIRE__LANE__WHAT_OPEN] = {"open", &nothing, false},
    [WIRE__LANE__WHAT_ANNOUNCE] = {"announce", &announce, false},
    [WIRE__LANE__WHAT_ASSIGN] = {"assign", &assign, true},
    [WIRE__LANE__WHAT_CANCEL] = {"cancel", &cancel_tasks, false},
    [WIRE__LANE__WHAT_EXTEND] = {"extend", &move_deadline, false},
    [WIRE__LANE__WHAT_RELEASE] = {"release", &release, false},
    [WIRE__LANE__WHAT_RECALL] = {"recall", &recall, false},
    [WIRE__LANE__WHAT_DRAIN] = {"drain", &nothing, false},
    [WIRE__LANE__WHAT_RETIRE] = {"retire", &retire, false},
    [WIRE__LANE__WHAT_BEAT] = {"beat", &nothing, false},
};

/* ---- results ---- */

static int check_most(struct wire_path *c, const char *field, const uint32_t *column, size_t n, uint32_t most)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = column[i] > largest ? column[i] : largest;
    if (largest <= most)
        return 0;
    wire_enter(c, field, WIRE_NO_INDEX);
    return wire_broke(c, "has an entry of %" PRIu32 "; one task has at most %" PRIu32, largest, most);
}

static int check_report_columns(struct wire_path *c, const Wire__Report *r)
{
    const struct { const char *field; size_t n; } columns[] = {
        {"verdicts", r->n_verdicts}, {"reasons", r->n_reasons}, {"codes", r->n_codes}, {"signals", r->n_signals},
        {"output_lengths", r->n_output_lengths}, {"error_lengths", r->n_error_lengths}, {"flags", r->n_flags},
        {"queued_us", r->n_queued_us}, {"run_us", r->n_run_us}, {"slots", r->n_slots},
    };
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (check_column(c, columns[i].field, columns[i].n, r->fence->count) < 0)
            return -1;
    return check_most(c, "output_lengths", r->output_lengths, r->n_output_lengths, WIRE_OUTPUT) < 0
        || check_most(c, "error_lengths", r->error_lengths, r->n_error_lengths, WIRE_ERRORS) < 0
        || check_most(c, "slots", r->slots, r->n_slots, WIRE_SLOTS) < 0 ? -1 : 0;
}

static int also_report(struct wire_path *c, const void *message)
{
    const Wire__Report *r = message;
    uint32_t count = r->fence->count;
    if (r->n_verdicts == 0)
        return wire_broke(c, "has no verdicts; a result says how each task ended");
    if (check_report_columns(c, r) < 0)
        return -1;
    for (size_t i = 0; i < r->n_extras; i++)
        if (check_offset(c, i, r->extras[i]->offset, i ? r->extras[i - 1]->offset : 0, count) < 0)
            return -1;
    uint64_t sum = wire_column_sum(r->output_lengths, r->n_output_lengths, count)
                 + wire_column_sum(r->error_lengths, r->n_error_lengths, count);
    return check_body(c, sum, count, (uint64_t)WIRE_OUTPUT + WIRE_ERRORS);
}

RULES(result_extra, NULL, VALUES(ResultExtra, values), SENTENCE(ResultExtra, sentence));
RULES(report, also_report,
    NEED(Report, fence, fence),
    SESSION(Report),
    NAME_OR_NONE(Report, worker),
    {AT(Report, kind), .kind = IS_ENUM, .most = WIRE__RESULT_KIND__IS_ATTEMPT},    /* closings are messages of their own */
    ENUMS(Report, verdicts, WIRE_BLOCK, WIRE__VERDICT__OK, verdict),
    ENUMS(Report, reasons, WIRE_BLOCK, 0, reason),
    MANY(Report, extras, WIRE_BLOCK, result_extra));

static const struct wire_variant result_variants[] = {
    [WIRE__RESULT__WHAT_REPORT] = {"report", &report, true},
    [WIRE__RESULT__WHAT_CLOSING] = {"closing", &closing, false},
};

/* What a closing ended: spans, or a bitmap over all of its own. */
static int check_closed(struct wire_path *c, const Wire__Row *row, const Wire__Span *whole)
{
    if (row->n_closed > 0 && row->closed_bitmap.len > 0)
        return wire_broke(c, "has closed spans and a bitmap; it has one of both");
    if (row->closed_bitmap.len > 0 && row->closed_bitmap.len != (whole->count + 7) / 8)
        return wire_broke(c, "has a bitmap of %zu bytes for %" PRIu64 " tasks; it has %" PRIu64, row->closed_bitmap.len,
                          whole->count, (whole->count + 7) / 8);
    return check_spans(c, "closed", row->closed, row->n_closed, whole->first, whole->count);
}

static int also_row(struct wire_path *c, const void *message)
{
    const Wire__Row *row = message;
    if (one_of(c, row->report != NULL, row->closing != NULL, "report and closing") < 0)
        return -1;
    size_t bitmap = row->report ? (row->report->fence->count + 7) / 8 : 0;
    if (row->fresh.len != 0 && row->fresh.len != bitmap)
        return wire_broke(c, "has a bitmap of %zu bytes; it has none or %zu", row->fresh.len, bitmap);
    if (row->report && (row->n_closed > 0 || row->closed_bitmap.len > 0))
        return wire_broke(c, "is a report and has closed tasks; a closing has them");
    if (row->closing && c->body_len != WIRE_NO_BODY && c->body_len > 0)
        return wire_broke(c, "is a closing and has a body of %zu bytes; it has none", c->body_len);
    return row->closing ? check_closed(c, row, row->closing->span) : 0;
}
RULES(row, also_row, MAYBE(Row, report, report), MAYBE(Row, closing, closing), MANY(Row, closed, WIRE_CLOSED, span));

/* ---- clients and the sink ---- */

static int also_stream_row(struct wire_path *c, const void *message)
{
    const Wire__StreamRow *stream_row = message;
    return stream_row->row.len > 0 ? 0 : wire_broke(c, "has no row; it carries a packed one");
}

RULES(subscribe, NULL, NAME(Subscribe, ref), U64(Subscribe, from_index, 0, WIRE_TASKS));
static const struct wire_variant query_variants[] = {
    [WIRE__QUERY__WHAT_HELLO] = {"hello", &client_hello, false},
    [WIRE__QUERY__WHAT_SUBSCRIBE] = {"subscribe", &subscribe, false},
    [WIRE__QUERY__WHAT_CREDIT] = {"credit", &nothing, false},
    [WIRE__QUERY__WHAT_UNSUBSCRIBE] = {"unsubscribe", &nothing, false},
};

RULES(stream_begin, NULL, ID(StreamBegin, batch), NAME(StreamBegin, short_id), NEED(StreamBegin, options, options));
static const struct wire_rules stream_row = {NULL, 0, also_stream_row};
RULES(stream_progress, NULL, MAYBE(StreamProgress, total, task_number), COUNTS(StreamProgress, counts));
RULES(stream_end, NULL, MAYBE(StreamEnd, total, task_number), COUNTS(StreamEnd, counts), SENTENCE(StreamEnd, sentence));
static const struct wire_variant answer_variants[] = {
    [WIRE__ANSWER__WHAT_WELCOME] = {"welcome", &client_welcome, false},
    [WIRE__ANSWER__WHAT_SAY_HELLO] = {"say_hello", &nothing, false},
    [WIRE__ANSWER__WHAT_REFUSED] = {"refused", &refused, false},
    [WIRE__ANSWER__WHAT_BEGIN] = {"begin", &stream_begin, false},
    [WIRE__ANSWER__WHAT_ROW] = {"row", &stream_row, true},
    [WIRE__ANSWER__WHAT_END] = {"end", &stream_end, false},
    [WIRE__ANSWER__WHAT_PROGRESS] = {"progress", &stream_progress, false},
};

/* ---- whole messages ---- */

/* The members of a oneof share their place, so any of them gives the offset. */
#define ENVELOPE(word, Type, member, longest, beside)                                                             \
    static const struct wire_envelope word##_envelope = {                                                         \
        offsetof(Wire__##Type, what_case), offsetof(Wire__##Type, member), word##_variants,                       \
        sizeof word##_variants / sizeof *word##_variants};                                                        \
    const struct wire_shape wire_shape_##word = {.name = #word, .type = &wire__##word##__descriptor,              \
                                                 .most = (longest), .envelope = &word##_envelope, .rules = &(beside)}

ENVELOPE(request, Request, hello, WIRE_HEAD_CARRIED, nothing);
ENVELOPE(reply, Reply, welcome, WIRE_HEAD, nothing);
ENVELOPE(upward, Upward, hello, WIRE_HEAD, upward);
ENVELOPE(downward, Downward, welcome, WIRE_HEAD, nothing);
ENVELOPE(lane, Lane, open, WIRE_HEAD, lane);
ENVELOPE(result, Result, report, WIRE_HEAD_CARRIED, nothing);
ENVELOPE(query, Query, hello, WIRE_HEAD, nothing);
ENVELOPE(answer, Answer, welcome, WIRE_HEAD, nothing);

#define PIECE(word, longest) \
    const struct wire_shape wire_shape_##word = {.name = #word, .type = &wire__##word##__descriptor, .most = (longest), .rules = &(word)}

PIECE(tasks, WIRE_HEAD);
PIECE(options, WIRE_HEAD);
PIECE(row, WIRE_HEAD_ROW);
