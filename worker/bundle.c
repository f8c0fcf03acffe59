/* Memory shared with who begins the tasks: see the header. */
#include "worker/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLOSED 0x80000000u
#define KEEP_FIRST 0x40000000u                 /* closed but for the first one */
#define COUNT 0x0000ffffu

#define ALIGNED 16u                            /* as malloc would */
#define INPUT ((256u + 96u) * 1024u)           /* the payloads of a frame, and what aligning them takes */
#define OUTPUT (384u * 1024u)
#define WORDS (64u * 1024u)
#define PAGES 65536                            /* the largest that systems have: what is given back is whole ones */
#define KEPT (2u * 1024u * 1024u)              /* of each large place: memory that is not given back */

enum result_flag { SIGNALLED = 1, SWEPT = 2 };

struct result {
    int32_t code;
    uint32_t flags, run_ns, output_len, errors_len, words_at;
};

struct bundle {
    _Atomic uint32_t claimed;                  /* how many have begun, and the flags above */
    uint32_t count;
    _Atomic int64_t begun_at, first_at;        /* CLOCK_BOOTTIME: the last one that began, the first */
    int64_t not_after, begin_for;
    uint64_t max_output;
    uint32_t input_at[BUNDLE_MOST], input_len[BUNDLE_MOST];
    struct result results[BUNDLE_MOST];
    uint32_t output_end, words_end;            /* of the process alone */
    char words[WORDS];
    _Alignas(64) uint8_t input[INPUT];
    _Alignas(64) uint8_t output[OUTPUT];
};

/* Behind it, each on pages of its own, are the large places. They are no members: no mapping is aligned for a struct that had them. */
#define LARGE_INPUT_AT ((sizeof(struct bundle) + PAGES - 1) / PAGES * PAGES)
#define LARGE_INPUT (BUNDLE_LARGE_MOST + KEPT)
#define LARGE_OUTPUT_AT (LARGE_INPUT_AT + LARGE_INPUT)
#define SIZE (LARGE_OUTPUT_AT + BUNDLE_LARGE_MOST)

static uint8_t *large_input(const struct bundle *self) { return (uint8_t *)(uintptr_t)self + LARGE_INPUT_AT; }
static uint8_t *large_output(const struct bundle *self) { return (uint8_t *)(uintptr_t)self + LARGE_OUTPUT_AT; }

/* ---- making it ---- */

static struct bundle *map(int fd)
{
    void *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

int bundle_make(struct bundle **ret, int *ret_fd)
{
    int fd = memfd_create("tarmac-bundle", MFD_CLOEXEC | MFD_ALLOW_SEALING), error = 0;
    if (fd < 0)
        return -errno;
    struct bundle *self = NULL;
    /* A plugin that cut the file short would end the worker by SIGBUS. */
    if (ftruncate(fd, (off_t)SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 || (self = map(fd)) == NULL)
        error = -errno;
    if (error < 0) {
        close(fd);
        return error;
    }
    *ret = self;
    *ret_fd = fd;
    return 0;
}

struct bundle *bundle_map(int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 || st.st_size != (off_t)SIZE)
        return NULL;
    return map(fd);
}

void bundle_unmap(struct bundle **self_p)
{
    if (*self_p)
        munmap(*self_p, SIZE);
    *self_p = NULL;
}

/* ---- the worker's side ---- */

static bool put_one(struct bundle *self, uint32_t i, uint32_t *at, struct slice payload)
{
    size_t room = (payload.len + 1 + ALIGNED - 1) / ALIGNED * ALIGNED;
    if (room > INPUT - *at)
        return false;
    self->input_at[i] = *at;
    self->input_len[i] = (uint32_t)payload.len;
    if (payload.len > 0)
        memcpy(self->input + *at, payload.data, payload.len);
    self->input[*at + payload.len] = '\0';
    *at += (uint32_t)room;
    return true;
}

int bundle_put(struct bundle *self, const struct bundle_order *order)
{
    uint32_t at = 0;
    size_t from = 0;
    char number[WIRE_RANGE_ITEM];
    if (order->count > BUNDLE_MOST)
        return -E2BIG;
    for (uint32_t i = 0; i < order->count; i++) {
        size_t len = wire_u32(order->lengths, order->n_lengths, i);
        if (len > order->body.len - from)
            return -E2BIG;
        struct slice payload = order->range ? wire_range_item(order->range, order->index + i, number) : slice_cut(order->body, from, len);
        if (!put_one(self, i, &at, payload))
            return -E2BIG;
        from += len;
    }
    self->count = order->count;
    self->not_after = order->not_after.ns;
    self->begin_for = order->begin_for;
    self->max_output = order->max_output;
    self->output_end = 0;
    self->words_end = 1;                       /* a NUL stands in front, so that 0 can say "none" */
    self->words[0] = '\0';
    atomic_store(&self->begun_at, INT64_MIN);
    atomic_store(&self->claimed, 0);
    return 0;
}

uint32_t bundle_close(struct bundle *self, bool keep_first)
{
    uint32_t was = atomic_load(&self->claimed), now;
    do
        now = keep_first && !(was & CLOSED) ? was | CLOSED | KEEP_FIRST : keep_first ? was : (was | CLOSED) & ~KEEP_FIRST;
    while (!atomic_compare_exchange_weak(&self->claimed, &was, now));
    uint32_t begun = now & COUNT;
    begun = begun < self->count ? begun : self->count;
    return begun == 0 && now & KEEP_FIRST ? 1 : begun;
}

mono_t bundle_begun_at(const struct bundle *self) { return (mono_t){atomic_load(&self->begun_at)}; }

bool bundle_take(const struct bundle *self, uint32_t n, struct bundle_part *ret, struct buf **ret_outputs, struct buf **ret_words)
{
    size_t sum = 0;
    bool words = false;
    if (n > BUNDLE_MOST)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const volatile struct result *from = &self->results[i];    /* read once */
        ret[i] = (struct bundle_part){
            .code = from->code, .signalled = from->flags & SIGNALLED, .swept = from->flags & SWEPT,
            .run_ns = from->run_ns, .output_len = from->output_len, .errors_len = from->errors_len, .words_at = from->words_at,
        };
        if (ret[i].code < 0 || ret[i].code > 255 || ret[i].words_at >= WORDS || ret[i].output_len > OUTPUT - sum
            || ret[i].errors_len > OUTPUT - sum - ret[i].output_len)
            return false;
        sum += (size_t)ret[i].output_len + ret[i].errors_len;
        words |= ret[i].words_at > 0;
    }
    *ret_outputs = sum > 0 ? buf_copy(self->output, sum) : NULL;
    *ret_words = words ? buf_copy(self->words, WORDS) : NULL;
    if (*ret_words)
        buf_data(*ret_words)[WORDS - 1] = '\0';
    return true;
}

bool bundle_put_large(struct bundle *self, struct slice payload)
{
    if (payload.len > BUNDLE_LARGE_MOST)
        return false;
    memcpy(large_input(self), payload.data, payload.len);
    large_input(self)[payload.len] = '\0';
    return true;
}

struct buf *bundle_take_large(const struct bundle *self, size_t len) { return len <= BUNDLE_LARGE_MOST ? buf_copy(large_output(self), len) : NULL; }

void bundle_let_large_go(struct bundle *self)
{
    (void)madvise(large_input(self) + KEPT, LARGE_INPUT - KEPT, MADV_REMOVE);
    (void)madvise(large_output(self) + KEPT, BUNDLE_LARGE_MOST - KEPT, MADV_REMOVE);
}

/* ---- the side of who begins them ---- */

void bundle_not_inherited(struct bundle *self) { (void)madvise(self, SIZE, MADV_DONTFORK); }

int64_t bundle_claim(struct bundle *self, mono_t now)
{
    uint32_t was = atomic_load(&self->claimed);
    for (;;) {
        uint32_t n = was & COUNT;
        /* One that was kept counts as begun already: it begins as if it had come alone, or its end would be taken for one. */
        bool kept = was & KEEP_FIRST && n == 0;
        if (n >= self->count || (!kept && (was & CLOSED || now.ns >= self->not_after)))
            break;
        if (n == 0)
            atomic_store(&self->first_at, now.ns);
        else if (now.ns - atomic_load(&self->first_at) >= self->begin_for)
            break;
        if (atomic_compare_exchange_weak(&self->claimed, &was, was + 1)) {
            atomic_store(&self->begun_at, now.ns);
            return n;
        }
    }
    /* What is said to be the last has to stay so. */
    bundle_close(self, false);
    return -1;
}

const void *bundle_payload(const struct bundle *self, uint32_t number, size_t *ret_len)
{
    *ret_len = self->input_len[number];
    return self->input + self->input_at[number];
}

const void *bundle_large(const struct bundle *self, size_t len) { return len <= BUNDLE_LARGE_MOST ? large_input(self) : NULL; }

bool bundle_leave_large(struct bundle *self, const void *output, size_t len)
{
    if (len > BUNDLE_LARGE_MOST)
        return false;
    memcpy(large_output(self), output, len);
    return true;
}

static void say(struct bundle *self, const void *data, size_t len)
{
    if (len > 0)
        memcpy(self->output + self->output_end, data, len);
    self->output_end += (uint32_t)len;
}

bool bundle_leave(struct bundle *self, uint32_t number, const struct bundle_left *left)
{
    size_t words = left->sentence[0] != '\0' ? strlen(left->sentence) + 1 : 0, room = OUTPUT - self->output_end;
    if (left->output_len > room || left->errors_len > room - left->output_len || left->output_len > self->max_output
        || words > WORDS - self->words_end)
        return false;
    self->results[number] = (struct result){
        .code = left->code, .flags = (left->signalled ? SIGNALLED : 0U) | (left->swept ? SWEPT : 0U),
        .run_ns = left->run_ns < UINT32_MAX ? (uint32_t)left->run_ns : UINT32_MAX,
        .output_len = (uint32_t)left->output_len, .errors_len = (uint32_t)left->errors_len, .words_at = words > 0 ? self->words_end : 0,
    };
    say(self, left->output, left->output_len);
    say(self, left->errors, left->errors_len);
    if (words > 0)
        memcpy(self->words + self->words_end, left->sentence, words);
    self->words_end += (uint32_t)words;
    return true;
}
