/* The codec: each message there and back, bytes that must never change, hostile heads, the arena,
 * words, and the bytes that docs/protocol.md shows. What is refused and why: test_wire_rules.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/why.h"
#include "tests/unit/wire_accepted.h"

/* ---- there and back ---- */

static int set_up(void **state)
{
    *state = wire_arena_new();
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    wire_arena_destroy((struct wire_arena **)state);
    return 0;
}

/* What was read is written again: the same bytes, so nothing was lost or made up. */
static void test_round_trip_of_every_case(void **state)
{
    struct wire_writer there = {0}, back = {0};
    for (size_t i = 0; i < SAMPLES; i++) {
        struct why why = {""};
        assert_int_equal(write_sample(&there, &samples[i]), 0);
        const ProtobufCMessage *m = read_as(samples[i].envelope, *state, there.bytes, there.len, samples[i].body_len, &why);
        if (!m)
            fail_msg("sample %zu (envelope %d, case %d) was refused: %s", i, samples[i].envelope, samples[i].what, why.text);
        assert_string_equal(why.text, "");
        assert_int_equal(wire_write(&back, m), 0);
        assert_int_equal(back.len, there.len);
        assert_memory_equal(back.bytes, there.bytes, there.len);
    }
    wire_writer_release(&there);
    wire_writer_release(&back);
}

static void test_every_case_has_a_sample(void **state)
{
    (void)state;
    for (int e = 0; e < ENVELOPES; e++) {
        const ProtobufCMessageDescriptor *type = envelope_types[e];
        for (unsigned f = 0; f < type->n_fields; f++) {
            if (!(type->fields[f].flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
                continue;
            bool found = false;
            for (size_t i = 0; i < SAMPLES; i++)
                found = found || (samples[i].envelope == (enum envelope)e && samples[i].what == (int)type->fields[f].id);
            if (!found)
                fail_msg("%s.%s has no sample", type->short_name, type->fields[f].name);
        }
    }
}

static void test_what_was_read_can_be_used(void **state)
{
    struct wire_writer w = {0};
    struct why why;
    assert_int_equal(write_sample(&w, &samples[3]), 0);
    const Wire__Request *r;
    assert_int_equal(wire_read_request(*state, w.bytes, w.len, 301, &r, &why), 0);
    assert_int_equal(r->id, 7);
    assert_int_equal(r->what_case, WIRE__REQUEST__WHAT_CHUNK);
    assert_int_equal(r->chunk->digest_after, 2);
    const Wire__Tasks *t = r->chunk->tasks;
    assert_int_equal(t->first, 8192);
    assert_int_equal(wire_u32(t->lengths, t->n_lengths, 2), 300);
    assert_string_equal(t->extras[1]->values[0]->value, "a.png");
    wire_writer_release(&w);
}

static void test_pieces(void **state)
{
    struct wire_writer w = {0};
    struct why why;
    const Wire__Tasks *tasks;
    const Wire__Options *options;
    const Wire__Row *row;
    const ProtobufCMessage *any;

    assert_int_equal(wire_write(&w, &three_tasks.base), 0);
    assert_int_equal(wire_read_tasks(*state, w.bytes, w.len, 301, &tasks, &why), 0);
    assert_int_equal(wire_read_tasks(*state, w.bytes, w.len, 300, &tasks, &why), -1);
    assert_string_equal(why.text, "tasks: has a body of 300 bytes and lengths of 301; they must be the same");

    assert_int_equal(wire_write(&w, &full_options.base), 0);
    assert_int_equal(wire_read_options(*state, w.bytes, w.len, &options, &why), 0);
    assert_int_equal(options->range->step, INT64_MAX);

    Wire__Row whole = M(Row, row, .report = (Wire__Report *)(uintptr_t)&report, .fresh = BYTES("\x05"));
    assert_int_equal(wire_write(&w, &whole.base), 0);
    assert_int_equal(wire_read_row(*state, w.bytes, w.len, 17, &row, &why), 0);
    assert_int_equal(wire_read_row(*state, w.bytes, w.len, WIRE_NO_BODY, &row, &why), 0);
    assert_int_equal(row->report->n_slots, 3);
    assert_int_equal(wire_read_row(*state, w.bytes, w.len, 0, &row, &why), -1);

    assert_int_equal(wire_write(&w, &VALUE("any key", "at all").base), 0);
    assert_int_equal(wire_read_any(*state, &wire__value__descriptor, w.bytes, w.len, &any, &why), 0);
    assert_string_equal(((const Wire__Value *)any)->key, "any key");
    wire_writer_release(&w);
}

/* A newer peer's fields are passed over: they are not there when the message is written again. */
static void test_unknown_fields_are_forgotten(void **state)
{
    static const uint8_t newer[] = "\x08\x07\xba\x3e\x02hi" "\x32\x0a\x0a\x04" "b7k2" "\xba\x3e\x01x";
    struct wire_writer w = {0};
    struct why why = {""};
    const Wire__Request *r;
    if (wire_read_request(*state, newer, sizeof newer - 1, 0, &r, &why) < 0)
        fail_msg("%s", why.text);
    assert_string_equal(r->status->ref, "b7k2");
    assert_false(has_unknown(&r->base));
    assert_int_equal(wire_write(&w, &r->base), 0);
    assert_int_equal(w.len, 2 + 2 + 6);
    wire_writer_release(&w);
}

static void test_copies_are_owned(void **state)
{
    struct wire_writer w = {0};
    struct why why;
    const Wire__Options *options;
    assert_int_equal(wire_write(&w, &full_options.base), 0);
    assert_int_equal(wire_read_options(*state, w.bytes, w.len, &options, &why), 0);
    Wire__Options *copy = (Wire__Options *)wire_copy(&options->base);
    assert_non_null(copy);
    assert_int_equal(wire_read_options(*state, NULL, 0, &options, &why), -1);    /* takes the first away */
    assert_string_equal(copy->values[0]->value, "ada");
    wire_free(&copy);
    assert_null(copy);
    wire_free(&copy);

    struct buf *buf = wire_write_buf(&full_options.base);
    assert_non_null(buf);
    assert_int_equal(buf_len(buf), w.len);
    assert_memory_equal(buf_bytes(buf), w.bytes, w.len);
    buf_unref(&buf);
    wire_writer_release(&w);
}

/* ---- bytes that must never change ---- */

static void hex_of(const struct wire_writer *w, char *ret, size_t room)
{
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < w->len && at + 3 < room; i++)
        at += (size_t)snprintf(ret + at, room - at, "%02x", w->bytes[i]);
}

static const struct sample *sample_of(enum envelope envelope, int what)
{
    for (size_t i = 0; i < SAMPLES; i++)
        if (samples[i].envelope == envelope && samples[i].what == what)
            return &samples[i];
    fail_msg("no sample of envelope %d, case %d", (int)envelope, what);
    return NULL;
}

/* When one of these fails, the format has changed: old journals, stores and peers can't be read. */
static void test_golden_bytes(void **state)
{
    (void)state;
    static const struct { enum envelope envelope; int what; const char *hex; } golden[] = {
        {REQUEST, WIRE__REQUEST__WHAT_SUBMIT,
         "08071a9f020a10303132333435363738396162636465661a8a020a0d7468756d626e61696c7320c3bc1a07636f6e766572741a027b7d1a"
         "0974776f0a6c696e657320012a0508808ece1c320208013880897a40054a15080310012a034bff0130c0843d38d00f40808ece1c520408"
         "02180a580960016809720b0a03677075120461313030780182010b0a047573657212036164618201080a065f782e792d7a8a013730302d"
         "34626639326633353737623334646136613363653932396430653065343733362d303066303637616130626139303262372d3031920108"
         "76656e646f723d319801808040a2011808ffffffffffffffffff01100218feffffffffffffffff01aa011a0a1030313233343536373839"
         "6162636465661011180120032802b00101"},
        {REQUEST, WIRE__REQUEST__WHAT_CHUNK,
         "0807224a0a1030313233343536373839616263646566122408804010031a040100ac02220412020809221108021a0d0a0466696c651205"
         "612e706e67190100000000000000210200000000000000"},
        {UPWARD, WIRE__UPWARD__WHAT_HEARTBEAT,
         "09050000000000000010022209080810900318043801"},
        {UPWARD, WIRE__UPWARD__WHAT_RECORDED,
         "09050000000000000010026a6d0a3f0a1b0a103031323334353637383961626364656610fa1f180620032802114d000000000000002201"
         "01320508fa1f1002320508fe1f10025a060002040608090a2a0a140a1030313233343536373839616263646566100a114d000000000000"
         "001802400448035080ade204"},
        {DOWNWARD, WIRE__DOWNWARD__WHAT_WELCOME,
         "0803125f080122103031323334353637383961626364656628e02b380240c0843d48e0c65b5080ade204588080802062160a000a0c7369"
         "6e6b2e6578616d706c6510b52b18b62b6a1a0a10303132333435363738396162636465661001180220032802"},
        {LANE, WIRE__LANE__WHAT_ASSIGN,
         "09050000000000000010021809323c0a1030313233343536373839616263646566122408804010031a040100ac02220412020809221108"
         "021a0d0a0466696c651205612e706e6718032001"},
        {LANE, WIRE__LANE__WHAT_CANCEL,
         "090500000000000000100218093a1c08011210303132333435363738396162636465661a0410a08d062006"},
        {RESULT, WIRE__RESULT__WHAT_REPORT,
         "0a680a1a0a10303132333435363738396162636465661028180320032802114d000000000000001a0277312a0301020132030001003a03"
         "0001004201004a010552030002005a01086201646a0c0102ffffffffffffffffff0172030102037a0a08011a06657869742031"},
        {RESULT, WIRE__RESULT__WHAT_CLOSING,
         "122b0a103031323334353637383961626364656610041a061080d0acf30e20042805394d000000000000004001"},
        {QUERY, WIRE__QUERY__WHAT_SUBSCRIBE,
         "08071a0c0a0462376b32280138808040"},
        {ANSWER, WIRE__ANSWER__WHAT_ROW,
         "0807320a080112067061636b6564"},
        {ANSWER, WIRE__ANSWER__WHAT_END,
         "08073a110803120208031a07000a01020000002001"},
    };
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        struct wire_writer w = {0};
        char hex[1024];
        assert_int_equal(write_sample(&w, sample_of(golden[i].envelope, golden[i].what)), 0);
        hex_of(&w, hex, sizeof hex);
        assert_string_equal(hex, golden[i].hex);
        wire_writer_release(&w);
    }
}

/* ---- hostile heads ---- */

static void test_cut_off_anywhere(void **state)
{
    struct wire_writer w = {0};
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(write_sample(&w, &samples[i]), 0);
        for (size_t len = 0; len < w.len; len++) {
            /* In memory of exactly this length, so that the sanitizer sees a byte too many. */
            uint8_t *cut = malloc(len ? len : 1);
            assert_non_null(cut);
            memcpy(cut, w.bytes, len);
            struct why why = {""};
            if (!read_as(samples[i].envelope, *state, cut, len, samples[i].body_len, &why))
                assert_string_not_equal(why.text, "");
            free(cut);
        }
    }
    wire_writer_release(&w);
}

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Some bytes changed, some cut out, some doubled: no crash, and what passes can be written again. */
static void test_mutations(void **state)
{
    struct wire_writer w = {0}, again = {0};
    uint64_t seed = 20240229;
    uint8_t bytes[2048];
    for (unsigned round = 0; round < 40000; round++) {
        const struct sample *s = &samples[random_next(&seed) % SAMPLES];
        assert_int_equal(write_sample(&w, s), 0);
        assert_true(w.len * 2 <= sizeof bytes);
        size_t len = w.len;
        memcpy(bytes, w.bytes, len);
        for (uint64_t n = random_next(&seed) % 4; n > 0 && len > 0; n--)
            bytes[random_next(&seed) % len] = (uint8_t)random_next(&seed);
        if (random_next(&seed) % 4 == 0 && len > 2) {
            size_t from = random_next(&seed) % len, part = random_next(&seed) % (len - from);
            memmove(bytes + from + part, bytes + from, len - from);
            len += part;
        }
        struct why why = {""};
        const ProtobufCMessage *m = read_as(s->envelope, *state, bytes, len, s->body_len, &why);
        if (m) {
            assert_false(has_unknown(m));
            assert_int_equal(wire_write(&again, m), 0);
            assert_non_null(read_as(s->envelope, *state, again.bytes, again.len, s->body_len, &why));
        } else {
            assert_string_not_equal(why.text, "");
        }
    }
    wire_writer_release(&w);
    wire_writer_release(&again);
}

/* A length of three bytes, and so many equal fields after it; what is left over is taken by an unknown field. */
static void fill(uint8_t *at, size_t room, const char *field, size_t len)
{
    size_t inner = room - 3, left = 2 + (inner - 2) % len;
    for (unsigned i = 0; i < 3; i++)
        *at++ = (uint8_t)((inner >> (7 * i) & 0x7f) | (i < 2 ? 0x80 : 0));
    for (; inner > left; inner -= len, at += len)
        memcpy(at, field, len);
    memset(at, 0, left);
    at[0] = 0x7a;
    at[1] = (uint8_t)(left - 2);
}

/* A head that would cost sixty times its size, and one that makes protobuf-c merge without end. */
static void test_a_head_takes_no_more_than_its_share(void **state)
{
    struct why why;
    const Wire__Upward *up;
    const Wire__Request *request;
    uint8_t *head = malloc(WIRE_HEAD + 1);
    assert_non_null(head);

    /* Upward { session 1, started { fence {}, fence {} … } } */
    memcpy(head, "\x09\1\0\0\0\0\0\0\0\x32", 10);
    fill(head + 10, WIRE_HEAD - 10, "\x0a\0", 2);
    assert_int_equal(wire_read_upward(*state, head, WIRE_HEAD, 0, &up, &why), -1);
    if (!strstr(why.text, "holds too many entries"))
        fail_msg("%s", why.text);

    /* Request { chunk { tasks { lengths [1] }, tasks { lengths [1] } … } } */
    head[0] = 0x22;
    fill(head + 1, WIRE_HEAD_CARRIED - 1, "\x12\x03\x1a\1\1", 5);
    assert_int_equal(wire_read_request(*state, head, WIRE_HEAD_CARRIED, 0, &request, &why), -1);
    if (!strstr(why.text, "holds too many entries"))
        fail_msg("%s", why.text);

    assert_int_equal(wire_read_upward(*state, head, WIRE_HEAD + 1, 0, &up, &why), -1);
    assert_string_equal(why.text, "upward: the head has 1048577 bytes; it has at most 1048576");
    free(head);
}

static void test_large_columns_fit(void **state)
{
    static uint32_t lengths[WIRE_BLOCK], u32[WIRE_BLOCK];
    static uint64_t u64[WIRE_BLOCK];
    static Wire__Verdict verdicts[WIRE_BLOCK];
    for (size_t i = 0; i < WIRE_BLOCK; i++) {
        lengths[i] = i % 64;
        verdicts[i] = WIRE__VERDICT__OK;
    }
    Wire__Report r = M(Report, report, .fence = &FENCE(4096, 4096), .session = 7, .n_verdicts = WIRE_BLOCK, .verdicts = verdicts,
                       .n_output_lengths = WIRE_BLOCK, .output_lengths = lengths, .n_error_lengths = WIRE_BLOCK, .error_lengths = u32,
                       .n_flags = WIRE_BLOCK, .flags = u32, .n_queued_us = WIRE_BLOCK, .queued_us = u64, .n_run_us = WIRE_BLOCK,
                       .run_us = u64, .n_slots = WIRE_BLOCK, .slots = u32, .n_signals = WIRE_BLOCK, .signals = u32);
    struct wire_writer w = {0};
    struct why why = {""};
    size_t body = wire_column_sum(lengths, WIRE_BLOCK, WIRE_BLOCK);
    assert_int_equal(body, 4096 / 64 * (63 * 64 / 2));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write_sample(&w, &(struct sample){RESULT, WIRE__RESULT__WHAT_REPORT, &r, body, NULL}), 0);
        if (!read_as(RESULT, *state, w.bytes, w.len, body, &why))
            fail_msg("%s", why.text);
    }
    wire_writer_release(&w);
}

static void test_peek_id(void **state)
{
    (void)state;
    assert_int_equal(wire_peek_id((const uint8_t *)"\x08\x07\xff", 3), 7);
    assert_int_equal(wire_peek_id((const uint8_t *)"\x08\xac\x02", 3), 300);
    assert_true(wire_peek_id((const uint8_t *)"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11) == UINT64_MAX);
    assert_int_equal(wire_peek_id((const uint8_t *)"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12), 0);
    assert_int_equal(wire_peek_id((const uint8_t *)"\x08\x80", 2), 0);
    assert_int_equal(wire_peek_id((const uint8_t *)"\x12\x07", 2), 0);
    assert_int_equal(wire_peek_id(NULL, 0), 0);
}

/* ---- words ---- */

static void test_names(void **state)
{
    (void)state;
    static const char *const verdicts[] = {"none", "ok", "failed", "deadline_exceeded", "cancelled", "lost", "rejected"};
    for (unsigned v = 0; v < WIRE_VERDICTS; v++) {
        Wire__Verdict parsed = WIRE__VERDICT__VERDICT_NONE;
        assert_string_equal(wire_verdict_name((Wire__Verdict)v), verdicts[v]);
        assert_int_equal(wire_verdict_parse(verdicts[v], &parsed), v == 0 ? -1 : 0);
        assert_int_equal(parsed, v);
    }
    Wire__Verdict untouched = WIRE__VERDICT__LOST;
    assert_int_equal(wire_verdict_parse("OK", &untouched), -1);
    assert_int_equal(wire_verdict_parse("", &untouched), -1);
    assert_int_equal(untouched, WIRE__VERDICT__LOST);
    assert_string_equal(wire_verdict_name((Wire__Verdict)7), "unknown");
    assert_string_equal(wire_verdict_name((Wire__Verdict)-1), "unknown");

    assert_null(wire_reason_name(WIRE__REASON__REASON_NONE));
    assert_string_equal(wire_reason_name(WIRE__REASON__EXIT_CODE), "exit");
    for (unsigned r = 1; r < wire__reason__descriptor.n_values; r++)
        assert_non_null(wire_reason_name((Wire__Reason)r));
    assert_string_not_equal(wire_reason_name((Wire__Reason)(wire__reason__descriptor.n_values - 1)), "unknown");
    assert_string_equal(wire_reason_name((Wire__Reason)wire__reason__descriptor.n_values), "unknown");
    assert_string_equal(wire_state_name(WIRE__STATE__OPEN), "open");
    assert_string_equal(wire_state_name(WIRE__STATE__COMPLETE), "complete");
    assert_string_equal(wire_state_name((Wire__State)4), "unknown");
}

static void test_trace_context(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "00", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01", TRACEPARENT "-",
    };
    char out[56], id[33];
    assert_true(wire_traceparent_ok(TRACEPARENT));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(wire_traceparent_ok(bad[i]));
        wire_trace_id(bad[i], id);
        assert_string_equal(id, "");
    }
    wire_trace_id(TRACEPARENT, id);
    assert_string_equal(id, "4bf92f3577b34da6a3ce929d0e0e4736");
    const uint8_t trace[16] = {0x4b, 0xf9, 15, [15] = 1}, span[8] = {0xab, [7] = 0xff};
    wire_traceparent_make(trace, span, out);
    assert_string_equal(out, "00-4bf90f00000000000000000000000001-ab000000000000ff-01");
    assert_true(wire_traceparent_ok(out));
    wire_id_hex(trace, id);
    assert_string_equal(id, "4bf90f00000000000000000000000001");
}

static void test_value_keys(void **state)
{
    (void)state;
    char longest[WIRE_KEY + 2];
    memset(longest, 'k', sizeof longest - 1);
    longest[WIRE_KEY + 1] = '\0';
    assert_false(wire_value_key_ok(longest));
    longest[WIRE_KEY] = '\0';
    assert_true(wire_value_key_ok(longest));
    assert_true(wire_value_key_ok("_"));
    assert_true(wire_value_key_ok("A1.b-c"));
    assert_false(wire_value_key_ok(""));
    assert_false(wire_value_key_ok("1a"));
    assert_false(wire_value_key_ok(".a"));
    assert_false(wire_value_key_ok("a b"));
    assert_false(wire_value_key_ok("a="));
    assert_false(wire_value_key_ok("\xc3\xbc"));
}

static void test_range_items(void **state)
{
    static const struct { int64_t first, step; uint64_t index; const char *text; } items[] = {
        {1, 1, 0, "1"}, {1, 1, 3999999999, "4000000000"}, {100, -7, 15, "-5"}, {-2, 2, 1, "0"},
        {INT64_MIN, INT64_MAX, 2, "9223372036854775806"}, {INT64_MAX, -INT64_MAX, 2, "-9223372036854775807"}, {INT64_MIN, 1, 0, "-9223372036854775808"},
    };
    char out[WIRE_RANGE_ITEM];
    (void)state;
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        Wire__Range range = WIRE__RANGE__INIT;
        range.first = items[i].first;
        range.step = items[i].step;
        struct slice item = wire_range_item(&range, items[i].index, out);
        assert_ptr_equal(item.data, out);
        assert_string_equal(out, items[i].text);
        assert_int_equal(item.len, strlen(out));
    }
}

/* The definition itself, with the check value of CRC-32C ("123456789": e3069283). */
static void test_digest(void **state)
{
    (void)state;
    uint64_t one = (UINT64_C(9) << 32 | 0xe3069283) * UINT64_C(0x9E3779B97F4A7C15);
    assert_true(wire_digest(0, "123456789", 9) == one);
    uint64_t two = ((one << 5 | one >> 59) ^ 0) * UINT64_C(0x9E3779B97F4A7C15);
    assert_true(wire_digest(one, "", 0) == two);
    assert_true(wire_digest(wire_digest(0, "a", 1), "b", 1) != wire_digest(wire_digest(0, "b", 1), "a", 1));
    assert_true(wire_digest(0, "", 0) == 0);    /* an empty item is seen once something came before it */
}

static void test_columns(void **state)
{
    (void)state;
    const uint32_t column[] = {UINT32_MAX, UINT32_MAX, 3};
    const uint64_t wide[] = {7, 8};
    const int32_t codes[] = {-1, 5};
    assert_true(wire_column_sum(column, 3, 3) == 2 * (uint64_t)UINT32_MAX + 3);
    assert_true(wire_column_sum(column, 1, 4096) == 4096 * (uint64_t)UINT32_MAX);
    assert_int_equal(wire_column_sum(NULL, 0, 4096), 0);
    assert_int_equal(wire_u32(column, 3, 2), 3);
    assert_true(wire_u32(column, 1, 2) == UINT32_MAX);
    assert_int_equal(wire_u64(wide, 2, 1), 8);
    assert_int_equal(wire_u64(NULL, 0, 1), 0);
    assert_int_equal(wire_i32(codes, 2, 0), -1);
}

/* ---- the protocol page ---- */

/* A batch of three tasks, from its submission to the sink's answer, as docs/protocol.md shows it. */
#define ITEMS "a.pngb.pngc.jpeg"
#define ITEM_LENGTHS MANY(lengths, uint32_t, 5, 5, 6)
static Wire__Chunk shown_chunk = {
    .base = PROTOBUF_C_MESSAGE_INIT(&wire__chunk__descriptor),
    .batch = ID16, .tasks = &M(Tasks, tasks, .count = 3, ITEM_LENGTHS), .last = 1,
};
static const struct { const char *name; struct sample sample; } shown[] = {
    {"hello", REQ(HELLO, M(ClientHello, client_hello, .major = WIRE_MAJOR, .program = TEXT("example")), 0, NULL)},
    {"submit", REQ(SUBMIT, M(Submit, submit, .submission = BYTES("FEDCBA9876543210"),
        .options = &OPTIONS(.deadline = &M(Micros, micros, .us = 60000000), .max_output = 1 << 20)), 0, NULL)},
    {"submitted", REP(SUBMITTED, M(Submitted, submitted, .batch = ID16, .short_id = TEXT("b7k2"), .traceparent = TEXT(TRACEPARENT)))},
    {"chunk", {REQUEST, WIRE__REQUEST__WHAT_CHUNK, &shown_chunk, sizeof ITEMS - 1, NULL}},
    {"admitted", REP(ADMITTED, M(Admitted, admitted, .batch = ID16, .next_index = 3, .state = WIRE__STATE__SEALED))},
    {"assign", LAN(ASSIGN, M(Assign, assign, .batch = ID16, .tasks = &M(Tasks, tasks, .count = 3, ITEM_LENGTHS), .epoch = 3,
        .attempt = 2, .waited_us = 900), sizeof ITEMS - 1, NULL)},
    {"report", RES(REPORT, M(Report, report, .fence = &FENCE(0, 3), .session = 5, .worker = TEXT("w1"),
        MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK, WIRE__VERDICT__OK, WIRE__VERDICT__FAILED),
        MANY(reasons, Wire__Reason, WIRE__REASON__REASON_NONE, WIRE__REASON__REASON_NONE, WIRE__REASON__EXIT_CODE), MANY(codes, int32_t, 0, 0, 1),
        MANY(output_lengths, uint32_t, 3, 3, 0), MANY(error_lengths, uint32_t, 0, 0, 4), MANY(flags, uint32_t, 8),
        MANY(queued_us, uint64_t, 1000), MANY(run_us, uint64_t, 250, 300, 200), MANY(slots, uint32_t, 1, 2, 1)), 10, NULL)},
    {"recorded", UP(RECORDED, M(Recorded, recorded, MANY(results, Wire__RecordedResult *,
        &M(RecordedResult, recorded_result, .fence = &FENCE(0, 3), .session = 5, .all_fresh = 1,
           MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK, WIRE__VERDICT__OK, WIRE__VERDICT__FAILED),
           MANY(reasons, Wire__Reason, WIRE__REASON__REASON_NONE, WIRE__REASON__REASON_NONE, WIRE__REASON__EXIT_CODE),
           MANY(codes, int32_t, 0, 0, 1)))), 0, NULL)},
};

static char *read_page(void)
{
    FILE *file = fopen("docs/protocol.md", "re");
    if (!file)
        fail_msg("docs/protocol.md can't be opened; run the tests from the top folder");
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
    assert_int_equal(fclose(file), 0);
    return text;
}

/* The bytes between "<!-- bytes: NAME -->" and "<!-- end -->": on each indented line the hex pairs
 * before the first double blank, which begins the explanation. */
static void page_bytes(const char *page, const char *name, char *ret, size_t room)
{
    char marker[64];
    snprintf(marker, sizeof marker, "<!-- bytes: %s -->", name);
    const char *at = strstr(page, marker), *end = at ? strstr(at, "<!-- end -->") : NULL;
    if (!end)
        fail_msg("docs/protocol.md has no block %s … <!-- end -->", marker);
    size_t n = 0;
    for (const char *line = strchr(at, '\n'); line && line < end; line = strchr(line, '\n')) {
        line++;
        if (strncmp(line, "    ", 4) != 0)
            continue;
        for (line += 4; strchr("0123456789abcdef", line[0]) && line[0] && n + 3 < room; line += line[2] == ' ' ? 3 : 2) {
            memcpy(ret + n, line, 2);
            n += 2;
        }
    }
    ret[n] = '\0';
}

static void test_bytes_in_the_protocol_page(void **state)
{
    char *page = read_page(), in_page[2048], written[2048];
    uint64_t digest = wire_digest(wire_digest(wire_digest(0, "a.png", 5), "b.png", 5), "c.jpeg", 6);
    shown_chunk.digest_after = digest;
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        struct wire_writer w = {0};
        struct why why = {""};
        const struct sample *s = &shown[i].sample;
        assert_int_equal(write_sample(&w, s), 0);
        if (!read_as(s->envelope, *state, w.bytes, w.len, s->body_len, &why))
            fail_msg("%s: %s", shown[i].name, why.text);
        hex_of(&w, written, sizeof written);
        page_bytes(page, shown[i].name, in_page, sizeof in_page);
        if (strcmp(in_page, written) != 0)
            fail_msg("docs/protocol.md shows other bytes for %s; the codec writes\n%s\nnot\n%s", shown[i].name, written, in_page);
        wire_writer_release(&w);
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip_of_every_case, set_up, tear_down),
        cmocka_unit_test(test_every_case_has_a_sample),
        cmocka_unit_test_setup_teardown(test_what_was_read_can_be_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_fields_are_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copies_are_owned, set_up, tear_down),
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test_setup_teardown(test_cut_off_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mutations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_head_takes_no_more_than_its_share, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_columns_fit, set_up, tear_down),
        cmocka_unit_test(test_peek_id),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_trace_context),
        cmocka_unit_test(test_value_keys),
        cmocka_unit_test(test_range_items), cmocka_unit_test(test_digest),
        cmocka_unit_test(test_columns),
        cmocka_unit_test_setup_teardown(test_bytes_in_the_protocol_page, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
