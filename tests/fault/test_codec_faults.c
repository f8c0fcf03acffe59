/* The codec: every allocation that fails while each accepted message is packed, read and copied; each of them cut off
 * at every byte; each of them with every bit flipped. It is refused in words, or it is valid; nothing leaks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/why.h"
#include "tests/support/fail.h"
#include "tests/unit/wire_accepted.h"

/* What reading brings: whole, or refused for want of memory; which is not the fault of the message. */
static void assert_whole_or_no_memory(const struct sample *s, const struct wire_writer *packed, const ProtobufCMessage *m, const struct why *why)
{
    struct wire_writer again = {0};
    if (!m) {
        if (fail_hits() == 0)
            fail_msg("envelope %d, case %d was refused with memory: %s", (int)s->envelope, s->what, why->text);
        if (!strstr(why->text, "no memory"))
            fail_msg("refused for want of memory, it says: %s", why->text);
        return;
    }
    assert_int_equal(wire_write(&again, m), 0);
    assert_int_equal(again.len, packed->len);
    assert_memory_equal(again.bytes, packed->bytes, again.len);
    wire_writer_release(&again);
}

static void read_without_memory(const struct sample *s, long *points)
{
    struct wire_writer packed = {0};
    assert_int_equal(write_sample(&packed, s), 0);
    for (struct fail_sweep sweep = {.kinds = FAIL_MEMORY, .error = ENOMEM, .stride = 1}; fail_next(&sweep); *points = *points + 1) {
        size_t before = fail_blocks();
        struct why why = {""};
        struct wire_arena *arena = wire_arena_new();
        const ProtobufCMessage *m = arena ? read_as(s->envelope, arena, packed.bytes, packed.len, s->body_len, &why) : NULL;
        fail_disarm();
        if (arena)
            assert_whole_or_no_memory(s, &packed, m, &why);
        /* With memory it reads the same message. */
        if (arena && !m)
            assert_non_null(read_as(s->envelope, arena, packed.bytes, packed.len, s->body_len, &why));
        wire_arena_destroy(&arena);
        assert_int_equal(fail_blocks(), before);
    }
    wire_writer_release(&packed);
}

static void reading_without_memory(void **state)
{
    long points = 0;
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++)
        read_without_memory(&samples[i], &points);
    fail_said("allocations while reading a message", points);
    assert_true(points > 100);
}

static void write_without_memory(const struct sample *s, long *points)
{
    for (struct fail_sweep sweep = {.kinds = FAIL_MEMORY, .error = ENOMEM, .stride = 1}; fail_next(&sweep); *points = *points + 1) {
        size_t before = fail_blocks();
        struct wire_writer w = {0};
        int r = write_sample(&w, s);
        long hits = fail_disarm();
        assert_int_equal(r, hits ? -ENOMEM : 0);
        assert_int_equal(write_sample(&w, s), 0);      /* the writer is as good as before */
        wire_writer_release(&w);
        assert_int_equal(fail_blocks(), before);
    }
}

/* One that holds something already keeps it. */
static void a_writer_that_cannot_grow(void **state)
{
    static char long_text[4000];
    struct wire_writer w = {0};
    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    Wire__Value small = VALUE("k", "v"), large = VALUE("k", long_text);
    assert_int_equal(wire_write(&w, &small.base), 0);
    fail_arm(&(struct fail_plan){.kinds = FAIL_MEMORY, .times = 1, .error = ENOMEM});
    assert_int_equal(wire_write(&w, &large.base), -ENOMEM);
    fail_disarm();
    assert_int_equal(w.len, 6);
    assert_memory_equal(w.bytes, "\x0a\x01k\x12\x01v", 6);
    assert_int_equal(wire_write(&w, &large.base), 0);
    wire_writer_release(&w);
}

static void copy_without_memory(const struct sample *s, long *points)
{
    struct wire_writer packed = {0}, again = {0};
    struct wire_arena *arena = wire_arena_new();
    struct why why;
    assert_int_equal(write_sample(&packed, s), 0);
    const ProtobufCMessage *m = read_as(s->envelope, arena, packed.bytes, packed.len, s->body_len, &why);
    assert_non_null(m);
    for (struct fail_sweep sweep = {.kinds = FAIL_MEMORY, .error = ENOMEM}; fail_next(&sweep); *points = *points + 1) {
        size_t before = fail_blocks();
        ProtobufCMessage *copy = wire_copy(m);
        struct buf *buf = copy ? wire_write_buf(copy) : NULL;
        long hits = fail_disarm();
        assert_true((hits == 0) == (buf != NULL));
        if (copy) {
            assert_int_equal(wire_write(&again, copy), 0);
            assert_int_equal(again.len, packed.len);
            assert_memory_equal(again.bytes, packed.bytes, again.len);
            wire_writer_release(&again);
        }
        buf_unref(&buf);
        wire_free(&copy);
        assert_int_equal(fail_blocks(), before);
    }
    wire_arena_destroy(&arena);
    wire_writer_release(&packed);
}

static void writing_and_copying_without_memory(void **state)
{
    long written = 0, copied = 0;
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        write_without_memory(&samples[i], &written);
        copy_without_memory(&samples[i], &copied);
    }
    fail_said("allocations while packing a message", written);
    fail_said("allocations while copying a message", copied);
    assert_true(written > 50 && copied > 200);
}

/* ---- damage ---- */

/* Refused in words, or valid: then it can be packed, and what was packed is read again. */
static bool read_damaged(const struct sample *s, struct wire_arena *arena, const uint8_t *bytes, size_t len)
{
    struct wire_writer w = {0};
    struct why why = {""};
    const ProtobufCMessage *m = read_as(s->envelope, arena, bytes, len, s->body_len, &why);
    if (!m) {
        assert_true(strlen(why.text) > 10);
        return false;
    }
    assert_int_equal(wire_write(&w, m), 0);
    if (!read_as(s->envelope, arena, w.bytes, w.len, s->body_len, &why))
        fail_msg("envelope %d, case %d: was read, but what it packs to is refused: %s", (int)s->envelope, s->what, why.text);
    wire_writer_release(&w);
    return true;
}

/* The bytes lie at the end of a block of their own, so that a sanitizer sees who reads beyond. */
static uint8_t *at_the_end(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    if (len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

static void cut_off_at_each_byte(void **state)
{
    long points = 0, valid = 0;
    struct wire_arena *arena = wire_arena_new();
    struct wire_writer w = {0};
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(write_sample(&w, &samples[i]), 0);
        for (size_t len = 0; len < w.len; len++, points++) {
            uint8_t *cut = at_the_end(w.bytes, len);
            valid += read_damaged(&samples[i], arena, cut, len);
            free(cut);
        }
    }
    wire_writer_release(&w);
    wire_arena_destroy(&arena);
    fail_said("messages that are cut off", points);
    assert_true(points > 1000 && valid < points / 2);
}

static void each_bit_flipped(void **state)
{
    long points = 0, valid = 0;
    struct wire_arena *arena = wire_arena_new();
    struct wire_writer w = {0};
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(write_sample(&w, &samples[i]), 0);
        uint8_t *flipped = at_the_end(w.bytes, w.len);
        for (size_t bit = 0; bit < 8 * w.len; bit++, points++) {
            flipped[bit / 8] ^= (uint8_t)(1 << bit % 8);
            valid += read_damaged(&samples[i], arena, flipped, w.len);
            flipped[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        free(flipped);
    }
    wire_writer_release(&w);
    wire_arena_destroy(&arena);
    fail_said("messages with one bit flipped", points);
    assert_true(points > 8000 && valid < points);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_without_memory),
        cmocka_unit_test(writing_and_copying_without_memory),
        cmocka_unit_test(a_writer_that_cannot_grow),
        cmocka_unit_test(cut_off_at_each_byte),
        cmocka_unit_test(each_bit_flipped),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
