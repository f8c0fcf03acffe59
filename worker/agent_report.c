/* How ended attempts look on the wire: columns that are as short as they can be, the output and the
 * errors of task after task as the body. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SENTENCES (512u * 1024u)    /* bytes of a head that may be the same sentence again and again */

struct columns {
    Wire__Verdict verdicts[WIRE_BLOCK];
    Wire__Reason reasons[WIRE_BLOCK];
    int32_t codes[WIRE_BLOCK];
    uint32_t signals[WIRE_BLOCK], output_lengths[WIRE_BLOCK], error_lengths[WIRE_BLOCK], flags[WIRE_BLOCK], slots[WIRE_BLOCK];
    uint64_t queued_us[WIRE_BLOCK], run_us[WIRE_BLOCK];
};

struct columns *agent_columns_new(void) { return malloc(sizeof(struct columns)); }

void agent_columns_destroy(struct columns **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

/* ---- what would be tried again ---- */

Wire__ResultKind agent_report_kind(const struct batch *batch, uint32_t tries_left, const struct outcome *outcome)
{
    const Wire__RetryRule *rule = batch->options->retry;
    bool again = false;
    if (tries_left == 0 || !rule)
        return WIRE__RESULT_KIND__IS_VERDICT;
    if (outcome->verdict == WIRE__VERDICT__DEADLINE_EXCEEDED)
        again = rule->on_deadline_exceeded && outcome->reason == WIRE__REASON__TIMEOUT;
    else if (outcome->verdict == WIRE__VERDICT__FAILED && rule->n_on_codes == 0)
        again = rule->on_failed;
    else if (outcome->verdict == WIRE__VERDICT__FAILED && outcome->reason == WIRE__REASON__EXIT_CODE)
        for (size_t i = 0; i < rule->n_on_codes; i++)
            again |= rule->on_codes[i] == (uint32_t)outcome->code;
    return again ? WIRE__RESULT_KIND__IS_ATTEMPT : WIRE__RESULT_KIND__IS_VERDICT;
}

/* ---- sentences ---- */

/* The length of the UTF-8 sequence that begins here and ends before `left`; 0: it is none. */
static size_t sequence(const uint8_t *s, size_t left)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : n;
}

char *agent_report_sentence(const char *text)
{
    /* A sentence may quote a command line, whose bytes are anything: one wrong byte would get the whole result refused. */
    char *copy = strndup(text, WIRE_SENTENCE);
    size_t len = copy ? strlen(copy) : 0;
    for (size_t i = 0; i < len;) {
        size_t n = sequence((const uint8_t *)copy + i, len - i);
        if (n == 0)
            copy[i] = '?';
        i += n > 0 ? n : 1;
    }
    return copy;
}

/* ---- the body ---- */

static bool is_behind(const struct slice *before, const struct slice *part)
{
    return part->buf && before->buf == part->buf && before->data + before->len == part->data;
}

/* Without a copy where the parts are one already, as those of one attempt usually are. */
static bool seal_as_is(struct report *report)
{
    struct slice whole = {0};
    for (uint32_t i = 0; i < report->n_outcomes * 2; i++) {
        const struct outcome *outcome = &report->outcomes[i / 2];
        const struct slice *part = i % 2 ? &outcome->errors : &outcome->output;
        if (part->len == 0)
            continue;
        if (whole.len == 0)
            whole = *part;
        else if (is_behind(&whole, part))
            whole.len += part->len;
        else
            return false;
    }
    report->body = slice_keep(whole);
    return true;
}

static void seal_copied(struct report *report)
{
    size_t sum = 0, at = 0;
    for (uint32_t i = 0; i < report->n_outcomes; i++)
        sum += report->outcomes[i].output.len + report->outcomes[i].errors.len;
    struct buf *body = buf_new(sum);
    for (uint32_t i = 0; i < report->n_outcomes; i++) {
        struct outcome *outcome = &report->outcomes[i];
        if (!body) {
            outcome->flags |= (outcome->output_len ? WIRE_OUTPUT_TRUNCATED : 0) | (outcome->errors_len ? WIRE_ERRORS_TRUNCATED : 0);
            outcome->output_len = outcome->errors_len = 0;
            continue;
        }
        if (outcome->output.len > 0)
            memcpy(buf_data(body) + at, outcome->output.data, outcome->output.len);
        at += outcome->output.len;
        if (outcome->errors.len > 0)
            memcpy(buf_data(body) + at, outcome->errors.data, outcome->errors.len);
        at += outcome->errors.len;
    }
    report->body = slice_of(body);
}

void agent_report_seal(struct report *report)
{
    if (!seal_as_is(report))
        seal_copied(report);
    for (uint32_t i = 0; i < report->n_outcomes; i++) {
        slice_drop(&report->outcomes[i].output);
        slice_drop(&report->outcomes[i].errors);
    }
}

/* ---- the head ---- */

/* A column whose entries are the same is one entry, or none when they are zero. */
#define COLUMN(r, c, n, field)                              \
    do {                                                    \
        size_t same_ = 1;                                   \
        while (same_ < (n) && (c)->field[same_] == (c)->field[0]) \
            same_++;                                        \
        (r)->field = (c)->field;                            \
        (r)->n_##field = same_ < (n) ? (n) : (c)->field[0] != 0; \
    } while (0)

static void fill_columns(struct columns *c, const struct report *report, Wire__Report *message)
{
    uint32_t n = report->n_outcomes;
    for (uint32_t i = 0; i < n; i++) {
        const struct outcome *outcome = &report->outcomes[i];
        c->verdicts[i] = outcome->verdict;
        c->reasons[i] = outcome->reason;
        c->codes[i] = outcome->code;
        c->signals[i] = outcome->signal;
        c->output_lengths[i] = outcome->output_len;
        c->error_lengths[i] = outcome->errors_len;
        c->flags[i] = outcome->flags;
        c->queued_us[i] = outcome->queued_us;
        c->run_us[i] = outcome->run_us;
        c->slots[i] = outcome->slot;
    }
    COLUMN(message, c, n, verdicts);
    COLUMN(message, c, n, reasons);
    COLUMN(message, c, n, codes);
    COLUMN(message, c, n, signals);
    COLUMN(message, c, n, output_lengths);
    COLUMN(message, c, n, error_lengths);
    COLUMN(message, c, n, flags);
    COLUMN(message, c, n, queued_us);
    COLUMN(message, c, n, run_us);
    COLUMN(message, c, n, slots);
}

static bool has_words(const struct outcome *outcome) { return outcome->sentence || (outcome->extra && outcome->extra->n_values > 0); }

struct extras {
    Wire__ResultExtra *messages;
    Wire__ResultExtra **pointers;
};

/* One outcome for many tasks says its sentence of each, while there is room. */
static uint32_t times_said(const struct report *report)
{
    if (report->n_outcomes == report->count || !report->own.sentence)
        return 1;
    return report->count * (strlen(report->own.sentence) + 16) <= SENTENCES ? report->count : 1;
}

static int fill_extras(struct extras *extras, const struct report *report, Wire__Report *message)
{
    uint32_t times = times_said(report), n = 0;
    for (uint32_t i = 0; i < report->n_outcomes; i++)
        n += has_words(&report->outcomes[i]) ? times : 0;
    if (n == 0)
        return 0;
    extras->messages = calloc(n, sizeof *extras->messages);
    extras->pointers = calloc(n, sizeof(Wire__ResultExtra *));
    if (!extras->messages || !extras->pointers)
        return -ENOMEM;
    message->extras = extras->pointers;
    for (uint32_t i = 0; i < report->n_outcomes * times; i++) {
        const struct outcome *outcome = &report->outcomes[i / times];
        if (!has_words(outcome))
            continue;
        Wire__ResultExtra *extra = &extras->messages[message->n_extras];
        wire__result_extra__init(extra);
        extra->offset = i;
        if (outcome->sentence)
            extra->sentence = outcome->sentence;
        if (outcome->extra) {
            extra->n_values = outcome->extra->n_values;
            extra->values = outcome->extra->values;
        }
        extras->pointers[message->n_extras++] = extra;
    }
    return 0;
}

int agent_report_send(struct agent *self, const struct report *report)
{
    Wire__Fence fence = WIRE__FENCE__INIT;
    fence.batch = wire_id_bytes(report->batch->id);
    fence.first = report->first;
    fence.count = report->count;
    fence.epoch = report->epoch;
    fence.attempt = report->attempt;
    Wire__Report message = WIRE__REPORT__INIT;
    message.fence = &fence;
    message.session = self->config.session;
    message.worker = (char *)(uintptr_t)self->config.name;
    message.kind = report->kind;
    fill_columns(self->columns, report, &message);
    struct extras extras = {0};
    int error = fill_extras(&extras, report, &message);
    if (error == 0) {
        Wire__Result result = WIRE__RESULT__INIT;
        result.what_case = WIRE__RESULT__WHAT_REPORT;
        result.report = &message;
        error = self->ports.result(self->ports.arg, &result, report->body);
    }
    free(extras.messages);
    free(extras.pointers);
    return error;
}
