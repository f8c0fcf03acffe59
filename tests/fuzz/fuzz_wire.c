/* Fuzzes the readers of the wire. The first byte of an input chooses the envelope, the second and
 * third the length of the body (times 64), the rest is the head. What a reader accepts must be
 * written and read again to the same bytes; a row inside of an answer is read too.
 *
 *   make fuzz FUZZ_SECONDS=60        (clang -fsanitize=fuzzer,address,undefined; the corpus is in build/fuzz/corpus)
 *
 * Built without FUZZER it has a main() that runs over the files it is given, with any compiler. */
#include <stdio.h>
#include <stdlib.h>

#include "common/why.h"
#include "tests/unit/wire_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool held, const char *what)
{
    if (held)
        return;
    fprintf(stderr, "fuzz_wire: %s\n", what);
    abort();
}

/* Written, read and written again: canonical after the first time. */
static void again(enum envelope envelope, struct wire_arena *arena, const ProtobufCMessage *message, size_t body_len)
{
    struct wire_writer first = {0}, second = {0};
    struct why why = {""};
    must(wire_write(&first, message) == 0, "what was read can't be written");
    const ProtobufCMessage *copy = read_as(envelope, arena, first.bytes, first.len, body_len, &why);
    must(copy || first.len > WIRE_HEAD_CARRIED, "what was written is refused");
    if (copy) {
        must(wire_write(&second, copy) == 0, "what was read again can't be written");
        must(first.len == second.len && memcmp(first.bytes, second.bytes, first.len) == 0, "the second writing differs from the first");
    }
    wire_writer_release(&first);
    wire_writer_release(&second);
}

static void read_row_inside(const ProtobufCMessage *message, size_t body_len)
{
    const Wire__Answer *answer = (const Wire__Answer *)message;
    if (answer->what_case != WIRE__ANSWER__WHAT_ROW)
        return;
    struct wire_arena *arena = wire_arena_new();
    struct why why;
    const Wire__Row *row;
    must(arena != NULL, "no memory");
    wire_read_row(arena, answer->row->row.data, answer->row->row.len, body_len, &row, &why);
    wire_arena_destroy(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct wire_arena *arena;    /* one for all inputs, as in the programs */
    if (!arena)
        arena = wire_arena_new();
    must(arena != NULL, "no memory");
    if (len < 3)
        return 0;
    enum envelope envelope = (enum envelope)(data[0] % ENVELOPES);
    size_t body_len = ((size_t)data[1] << 8 | data[2]) * 64;
    struct why why = {""};
    const ProtobufCMessage *message = read_as(envelope, arena, data + 3, len - 3, body_len, &why);
    if (!message) {
        must(why.text[0] != '\0', "refused without a sentence");
        return 0;
    }
    must(!has_unknown(message), "an unknown field was kept");
    if (envelope == ANSWER)
        read_row_inside(message, body_len);
    again(envelope, arena, message, body_len);
    return 0;
}

#ifndef FUZZER
int main(int argc, char **argv)
{
    static uint8_t bytes[WIRE_HEAD + 4];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "re");
        if (!file) {
            fprintf(stderr, "fuzz_wire: %s can't be opened; name files of a corpus\n", argv[i]);
            return 2;
        }
        size_t len = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        LLVMFuzzerTestOneInput(bytes, len);
    }
    printf("fuzz_wire: %d inputs, nothing found\n", argc - 1);
    return 0;
}
#endif
