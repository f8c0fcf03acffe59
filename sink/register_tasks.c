/* Which tasks of a batch have a verdict: a bitmap for each block of 4,096, made when its first task
 * comes and given back when the block is full. So memory follows the blocks that are in work. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

#define BLOCK_WORDS (WIRE_BLOCK / 64)

struct block {
    uint32_t n;
    uint64_t words[BLOCK_WORDS];
};

static struct block all;       /* stands for every full block; only its address counts */

/* The bits [from, to) of one word. */
static uint64_t mask_of(uint32_t from, uint32_t to)
{
    uint64_t upto = to == 64 ? UINT64_MAX : (UINT64_C(1) << to) - 1;
    return upto & ~((UINT64_C(1) << from) - 1);
}

static int make_blocks(struct tasks *self, size_t n)
{
    if (n <= self->n_blocks)
        return 0;
    size_t room = self->n_blocks * 2 > n ? self->n_blocks * 2 : n;
    struct block **blocks = realloc(self->blocks, room * sizeof *blocks);
    if (!blocks)
        return -ENOMEM;
    memset(blocks + self->n_blocks, 0, (room - self->n_blocks) * sizeof *blocks);
    self->bytes += (room - self->n_blocks) * sizeof *blocks;
    self->blocks = blocks;
    self->n_blocks = room;
    return 0;
}

static int make_block(struct tasks *self, uint64_t index)
{
    struct block **block = &self->blocks[index / WIRE_BLOCK];
    if (*block)
        return 0;
    *block = calloc(1, sizeof **block);
    if (!*block)
        return -ENOMEM;
    self->bytes += sizeof **block;
    return 0;
}

int tasks_reserve(struct tasks *self, uint64_t first, uint64_t count)
{
    uint64_t end = first + count;
    if (make_blocks(self, (size_t)((end - 1) / WIRE_BLOCK) + 1) < 0)
        return -ENOMEM;
    /* Blocks between the first and the last become full at once and need no bitmap. */
    uint64_t first_end = (first / WIRE_BLOCK + 1) * WIRE_BLOCK;
    if ((first % WIRE_BLOCK != 0 || end < first_end) && make_block(self, first) < 0)
        return -ENOMEM;
    return end % WIRE_BLOCK != 0 ? make_block(self, end - 1) : 0;
}

static void set_block(struct tasks *self, struct block **at, struct block *to)
{
    if (*at && *at != &all) {
        self->bytes -= sizeof **at;
        free(*at);
    }
    *at = to;
}

static void add_in_block(struct tasks *self, struct block **at, uint32_t from, uint32_t to)
{
    struct block *block = *at;
    if (block == &all)
        return;
    if (to - from == WIRE_BLOCK) {
        set_block(self, at, &all);
        return;
    }
    for (uint32_t word = from / 64; word * 64 < to; word++) {
        uint32_t low = word * 64 > from ? 0 : from - word * 64;
        uint32_t high = to - word * 64 < 64 ? to - word * 64 : 64;
        uint64_t mask = mask_of(low, high);
        block->n += (uint32_t)__builtin_popcountll(mask & ~block->words[word]);
        block->words[word] |= mask;
    }
    if (block->n == WIRE_BLOCK)
        set_block(self, at, &all);
}

void tasks_add(struct tasks *self, uint64_t first, uint64_t count)
{
    uint64_t end = first + count;
    while (first < end) {
        uint64_t begin = first / WIRE_BLOCK * WIRE_BLOCK;
        uint64_t stop = end - begin < WIRE_BLOCK ? end - begin : WIRE_BLOCK;
        add_in_block(self, &self->blocks[first / WIRE_BLOCK], (uint32_t)(first - begin), (uint32_t)stop);
        first = begin + stop;
    }
}

static uint32_t in_block(const struct block *block, uint32_t from, uint32_t to)
{
    if (!block)
        return 0;
    if (block == &all)
        return to - from;
    uint32_t n = 0;
    for (uint32_t word = from / 64; word * 64 < to; word++) {
        uint32_t low = word * 64 > from ? 0 : from - word * 64;
        uint32_t high = to - word * 64 < 64 ? to - word * 64 : 64;
        n += (uint32_t)__builtin_popcountll(mask_of(low, high) & block->words[word]);
    }
    return n;
}

uint64_t tasks_in(const struct tasks *self, uint64_t first, uint64_t count)
{
    uint64_t n = 0, end = first + count, known = (uint64_t)self->n_blocks * WIRE_BLOCK;
    end = end < known ? end : known;
    while (first < end) {
        uint64_t begin = first / WIRE_BLOCK * WIRE_BLOCK;
        uint64_t stop = end - begin < WIRE_BLOCK ? end - begin : WIRE_BLOCK;
        n += in_block(self->blocks[first / WIRE_BLOCK], (uint32_t)(first - begin), (uint32_t)stop);
        first = begin + stop;
    }
    return n;
}

/* The first bit at or after `from` that is set (or isn't); WIRE_BLOCK: none. */
static uint32_t next_in_block(const struct block *block, uint32_t from, bool is_in)
{
    if (!block || block == &all)
        return (block == &all) == is_in ? from : WIRE_BLOCK;
    for (uint32_t word = from / 64; word < BLOCK_WORDS; word++) {
        uint64_t bits = is_in ? block->words[word] : ~block->words[word];
        if (word == from / 64)
            bits &= mask_of(from % 64, 64);
        if (bits)
            return word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return WIRE_BLOCK;
}

uint64_t tasks_next(const struct tasks *self, uint64_t from, uint64_t end, bool is_in)
{
    while (from < end && from / WIRE_BLOCK < self->n_blocks) {
        uint64_t begin = from / WIRE_BLOCK * WIRE_BLOCK;
        uint32_t at = next_in_block(self->blocks[from / WIRE_BLOCK], (uint32_t)(from - begin), is_in);
        from = begin + at;
        if (at < WIRE_BLOCK)
            return from < end ? from : end;
    }
    return is_in || from > end ? end : from;
}

bool tasks_run(const struct tasks *self, uint64_t *at, uint64_t end, bool is_in, uint64_t *ret_first, uint64_t *ret_count)
{
    if (*at >= end)
        return false;
    uint64_t first = tasks_next(self, *at, end, is_in);
    if (first >= end)
        return false;
    *at = tasks_next(self, first, end, !is_in);
    *ret_first = first;
    *ret_count = *at - first;
    return true;
}

void bits_add(uint8_t *bitmap, uint64_t first, uint64_t count)
{
    uint64_t end = first + count;
    for (; first < end && first % 8 != 0; first++)
        bitmap[first / 8] |= (uint8_t)(1u << (first % 8));
    if (end - first >= 8) {
        memset(bitmap + first / 8, 0xff, (size_t)((end - first) / 8));
        first += (end - first) / 8 * 8;
    }
    for (; first < end; first++)
        bitmap[first / 8] |= (uint8_t)(1u << (first % 8));
}

void tasks_copy_bits(const struct tasks *self, uint8_t *bitmap, uint64_t from, uint64_t end)
{
    memset(bitmap, 0, (size_t)((end - from + 7) / 8));
    uint64_t at = from, first, count;
    while (tasks_run(self, &at, end, true, &first, &count))
        bits_add(bitmap, first - from, count);
}

void tasks_release(struct tasks *self)
{
    for (size_t i = 0; i < self->n_blocks; i++)
        set_block(self, &self->blocks[i], NULL);
    free(self->blocks);
    *self = (struct tasks){0};
}
