/* Files of lines: what is written, what is dropped, rotation, disks without room; and the lines of traces and audit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/linefile.h"
#include "sink/trace.h"
#include "ventilator/audit.h"

struct place { char dir[32], file[64], moved[64]; };

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    snprintf(p->dir, sizeof p->dir, "/tmp/tarmac-lines.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->file, sizeof p->file, "%s/lines", p->dir);
    snprintf(p->moved, sizeof p->moved, "%s/lines.1", p->dir);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    unlink(p->file);
    unlink(p->moved);
    rmdir(p->dir);
    free(p);
    return 0;
}

static size_t read_file(const char *path, char *out, size_t size)
{
    FILE *in = fopen(path, "re");
    assert_non_null(in);
    size_t n = fread(out, 1, size - 1, in);
    fclose(in);
    out[n] = '\0';
    return n;
}

/* Waits, within a generous bound, until so many lines are written or dropped. */
static struct linefile_counts settle(struct linefile *file, uint64_t lines)
{
    struct linefile_counts counts;
    mono_t until = mono_add(mono_now(), 60 * NS_PER_S);
    do {
        linefile_count(file, &counts);
        if (counts.written + counts.dropped >= lines)
            return counts;
        poll(NULL, 0, 1);
    } while (mono_before(mono_now(), until));
    fail_msg("%d of %d lines were written or dropped", (int)(counts.written + counts.dropped), (int)lines);
    return counts;
}

static void lines_are_appended(void **state)
{
    struct place *p = *state;
    struct why why = {""};
    char text[100];
    for (int i = 0; i < 2; i++) {
        struct linefile *file = linefile_open(p->file, 1000, &why);
        assert_non_null(file);
        assert_true(linefile_put(file, "one\ntwo\n", 8));
        linefile_close(&file, 10 * NS_PER_S);
        assert_null(file);
    }
    read_file(p->file, text, sizeof text);
    assert_string_equal(text, "one\ntwo\none\ntwo\n");
    struct stat st;
    assert_int_equal(stat(p->file, &st), 0);
    assert_int_equal(st.st_mode & 07, 0);
}

static void what_finds_no_room_is_counted(void **state)
{
    struct place *p = *state;
    struct why why = {""};
    char much[2000];
    memset(much, 'x', sizeof much);
    much[999] = much[1999] = '\n';
    struct linefile *file = linefile_open(p->file, 1500, &why);
    assert_non_null(file);
    assert_false(linefile_has_room(file, 1501));
    assert_true(linefile_has_room(file, 1500));
    assert_false(linefile_put(file, much, sizeof much));
    linefile_drop(file, 5);
    struct linefile_counts counts;
    linefile_count(file, &counts);
    assert_int_equal(counts.dropped, 7);
    assert_true(linefile_put(file, much, 1000));
    counts = settle(file, 8);
    assert_int_equal(counts.written, 1);
    assert_int_equal(counts.error, 0);
    linefile_close(&file, 10 * NS_PER_S);
}

static void a_file_is_rotated(void **state)
{
    struct place *p = *state;
    struct why why = {""};
    char text[100];
    struct linefile *file = linefile_open(p->file, 1000, &why);
    assert_true(linefile_put(file, "old\n", 4));
    settle(file, 1);
    assert_int_equal(rename(p->file, p->moved), 0);
    linefile_reopen(file);
    assert_true(linefile_put(file, "new\n", 4));
    linefile_close(&file, 10 * NS_PER_S);
    read_file(p->moved, text, sizeof text);
    assert_string_equal(text, "old\n");
    read_file(p->file, text, sizeof text);
    assert_string_equal(text, "new\n");
}

static void a_disk_without_room(void **state)
{
    struct place *p = *state;
    struct why why = {""};
    struct linefile *file = linefile_open("/dev/full", 1000, &why);
    assert_non_null(file);
    assert_true(linefile_put(file, "one\ntwo\n", 8));
    struct linefile_counts counts = settle(file, 2);
    assert_int_equal(counts.dropped, 2);
    assert_int_equal(counts.error, 28 /* ENOSPC */);
    linefile_close(&file, 10 * NS_PER_S);
    snprintf(p->moved, sizeof p->moved, "%s/none/lines", p->dir);
    assert_null(linefile_open(p->moved, 1000, &why));
    assert_non_null(strstr(why.text, "No such file"));
}

/* ---- traces ---- */

static Wire__Fence fence;
static Wire__Report report;
static Wire__Verdict verdicts[] = {WIRE__VERDICT__OK, WIRE__VERDICT__FAILED};
static Wire__Reason reasons[] = {WIRE__REASON__REASON_NONE, WIRE__REASON__EXIT_CODE};
static int32_t codes[] = {0, 3};
static uint32_t one = 1, has_code = 8;
static uint64_t run_us[] = {1500, 2500};
static uint8_t batch_id[WIRE_ID] = {1, 2, 3};

static void make_report(Wire__Options *options, const char *name)
{
    wire__options__init(options);
    options->handler = (char *)(uintptr_t)name;
    options->traceparent = (char *)(uintptr_t)"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    wire__fence__init(&fence);
    wire__report__init(&report);
    fence.batch = wire_id_bytes(batch_id);
    fence.first = 7;
    fence.count = 2;
    fence.epoch = 3;
    fence.attempt = 1;
    report.fence = &fence;
    report.worker = (char *)(uintptr_t)"w \"1\"";
    report.verdicts = verdicts;
    report.reasons = reasons;
    report.codes = codes;
    report.run_us = run_us;
    report.n_verdicts = report.n_reasons = report.n_codes = report.n_run_us = 2;
    report.slots = &one;
    report.flags = &has_code;
    report.n_slots = report.n_flags = 1;
}

static const json_t *span_of(const json_t *line)
{
    const json_t *resource = json_array_get(json_object_get(line, "resourceSpans"), 0);
    const json_t *scope = json_array_get(json_object_get(resource, "scopeSpans"), 0);
    return json_array_get(json_object_get(scope, "spans"), 0);
}

static const char *text_at(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

static void spans_are_otlp(void **state)
{
    (void)state;
    char line[TRACE_LINE], name[WIRE_NAME + 1];
    Wire__Options options;
    memset(name, '\\', sizeof name);
    name[WIRE_NAME] = '\0';
    make_report(&options, name);
    for (uint32_t i = 0; i < 2; i++) {
        size_t len = trace_line(line, "b7k2", &options, &report, i, (wall_t){INT64_C(1700000000) * NS_PER_S});
        assert_true(len < TRACE_LINE && line[len - 1] == '\n');
        json_t *read = json_loadb(line, len, 0, NULL);
        const json_t *span = span_of(read);
        assert_non_null(span);
        assert_string_equal(text_at(span, "traceId"), "0af7651916cd43dd8448eb211c80319c");
        assert_string_equal(text_at(span, "parentSpanId"), "b7ad6b7169203331");
        assert_int_equal(strlen(text_at(span, "spanId")), 16);
        assert_string_equal(text_at(span, "name"), name);
        assert_string_equal(text_at(span, "endTimeUnixNano"), "1700000000000000000");
        assert_string_equal(text_at(span, "startTimeUnixNano"), i == 0 ? "1699999999998500000" : "1699999999997500000");
        const json_t *status = json_object_get(span, "status");
        assert_int_equal(json_integer_value(json_object_get(status, "code")), i == 0 ? 1 : 2);
        if (i == 1)
            assert_string_equal(text_at(status, "message"), "exit");
        json_decref(read);
    }
}

static void span_ids_are_told_apart(void **state)
{
    (void)state;
    uint8_t seen[256][8];
    for (unsigned i = 0; i < 256; i++) {
        wire_span_id(batch_id, i % 64, i / 128, i / 64 % 2, seen[i]);
        for (unsigned j = 0; j < i; j++)
            assert_memory_not_equal(seen[i], seen[j], 8);
    }
    uint8_t again[8];
    wire_span_id(batch_id, 5, 0, 0, again);
    assert_memory_equal(again, seen[5], 8);
}

/* A span is written when its flush is committed, and not before. */
static void spans_wait_for_their_flush(void **state)
{
    struct place *p = *state;
    struct why why = {""};
    struct trace *trace = trace_open(p->file, &why);
    Wire__Options options;
    const uint8_t second = 2;
    struct linefile_counts counts;
    char *text = calloc(1, 100000);
    make_report(&options, "resize");
    trace_staged(trace, "b7k2", &options, &report, NULL, 1, wall_now());
    trace_staged(trace, "b7k2", &options, &report, &second, 2, wall_now());
    trace_committed(trace, 1);
    mono_t until = mono_add(mono_now(), 60 * NS_PER_S);
    do {
        trace_count(trace, &counts);
        poll(NULL, 0, 1);
    } while (counts.written < 2 && mono_before(mono_now(), until));
    read_file(p->file, text, 100000);
    assert_non_null(strstr(text, "tarmac.index\",\"value\":{\"intValue\":\"7\""));
    assert_int_equal(counts.written, 2);
    trace_committed(trace, 2);
    trace_staged(trace, "b7k2", &options, &report, NULL, 3, wall_now());
    trace_close(&trace);
    read_file(p->file, text, 100000);
    unsigned lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    assert_int_equal(lines, 3);
    free(text);
}

/* ---- audit ---- */

static void audit_lines(void **state)
{
    struct place *p = *state;
    struct why why = {""};
    char text[8000];
    struct audit *audit = audit_open(p->file, &why);
    wall_t now = {INT64_C(1700000000) * NS_PER_S + 5 * NS_PER_MS};
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Cancel cancel = WIRE__CANCEL__INIT;
    Wire__Reply reply = WIRE__REPLY__INIT;
    Wire__Refused refused = WIRE__REFUSED__INIT;
    audit_note(audit, now, "batch_new", "batch=b7k2 name=\"a b\" handler=\"\"");
    audit_note(audit, now, "batch_cancel", "batch=b7k2 tasks=2 queued=1 at_workers=1");
    audit_note(audit, now, "batch_cancel", "batch=b7k2 tasks=0 queued=1 at_workers=1");
    audit_note(audit, now, "worker_lost", "worker=w1 held=3 reason=\"silent\"");
    audit_note(audit, now, "sink_gone", "reason=\"goodbye\"");
    audit_note(audit, now, "no_such_event", "x=1");
    audit_note(audit, now, "batch_new", "");
    request.id = 5;
    request.what_case = WIRE__REQUEST__WHAT_CANCEL;
    request.cancel = &cancel;
    cancel.ref = (char *)(uintptr_t)"b7";
    cancel.reason = (char *)(uintptr_t)"it \"was\"\n\\";
    audit_asked(audit, now, 1, "key:ada", &request);
    reply.id = 5;
    reply.what_case = WIRE__REPLY__WHAT_REFUSED;
    reply.refused = &refused;
    refused.sentence = (char *)(uintptr_t)"no such batch";
    audit_answered(audit, now, 2, &reply);      /* somebody else's */
    audit_answered(audit, now, 1, &reply);
    audit_answered(audit, now, 1, &reply);      /* once only */
    audit_close(&audit);
    read_file(p->file, text, sizeof text);
    assert_string_equal(text,
        "2023-11-14T22:13:20.005Z batch b7k2 open name=\"a b\" handler=\"\"\n"
        "2023-11-14T22:13:20.005Z batch b7k2 tasks_cancelled tasks=2 queued=1 at_workers=1\n"
        "2023-11-14T22:13:20.005Z batch b7k2 cancelling tasks=0 queued=1 at_workers=1\n"
        "2023-11-14T22:13:20.005Z worker w1 lost held=3 reason=silent\n"
        "2023-11-14T22:13:20.005Z sink gone reason=goodbye\n"
        "2023-11-14T22:13:20.005Z action cancel by=key:ada subject=b7 outcome=refused spans=0 reason=\"it \\\"was\\\"\\x0a\\\\\" why=\"no such batch\"\n");
}

/* Whoever asks without hearing an answer costs no memory without end. */
static void unanswered_actions_are_bounded(void **state)
{
    struct place *p = *state;
    struct why why = {""};
    struct audit *audit = audit_open(p->file, &why);
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Drain drain = WIRE__DRAIN__INIT;
    char reference[900];
    memset(reference, '"', sizeof reference);
    reference[sizeof reference - 1] = '\0';
    drain.worker = reference;
    request.what_case = WIRE__REQUEST__WHAT_DRAIN;
    request.drain = &drain;
    for (uint64_t i = 0; i < AUDIT_ASKED + 3; i++) {
        request.id = i + 1;
        audit_asked(audit, wall_now(), 1, "client:local", &request);
    }
    audit_close(&audit);
    char *text = calloc(1, 20000);
    read_file(p->file, text, 20000);
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, "outcome=unknown\n")) != NULL; at++)
        lines++;
    assert_int_equal(lines, 3);
    free(text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(lines_are_appended), TEST(what_finds_no_room_is_counted), TEST(a_file_is_rotated), TEST(a_disk_without_room), TEST(spans_are_otlp),
        TEST(span_ids_are_told_apart), TEST(spans_wait_for_their_flush), TEST(audit_lines), TEST(unanswered_actions_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
