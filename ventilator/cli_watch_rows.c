/* The rows of the control tower: which are shown, in which order. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ventilator/cli_watch.h"

void watch_copy(char *out, size_t size, const char *text)
{
    size_t n = strnlen(text, size - 1);
    /* Cut off: not within a character. */
    while (text[n] != '\0' && n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7F ? '?' : text[i];
    out[n] = '\0';
}

void watch_key_of(enum watch_panel panel, const void *row, char *out, size_t size)
{
    const struct watch_attempt *a = row;
    const struct watch_batch *b = row;
    const struct watch_worker *w = row;
    if (panel == WATCH_SLOWEST)
        snprintf(out, size, "%s/%" PRIu64 "#%" PRIu32, a->id, a->index, a->attempt);
    else
        snprintf(out, size, "%s", panel == WATCH_BATCHES ? b->id : w->name);
}

/* ---- order ---- */

#define ORDER(a, b) ((a) < (b) ? -1 : (a) > (b))
#define ROWS(type) const type *const a = *(const type *const *)x, *const b = *(const type *const *)y

static int open_first(const void *x, const void *y)
{
    ROWS(struct watch_batch);
    bool a_done = a->state == WIRE__STATE__COMPLETE, b_done = b->state == WIRE__STATE__COMPLETE;
    return a_done != b_done ? ORDER(a_done, b_done) : ORDER(b->place, a->place);
}
static int by_deadline(const void *x, const void *y)
{
    ROWS(struct watch_batch);
    int64_t a_left = a->has_deadline ? a->deadline_us : INT64_MAX, b_left = b->has_deadline ? b->deadline_us : INT64_MAX;
    return a_left != b_left ? ORDER(a_left, b_left) : open_first(x, y);
}
static uint64_t not_ok(const struct watch_batch *b)
{
    uint64_t n = 0;
    for (size_t v = WIRE__VERDICT__FAILED; v < WIRE_VERDICTS; v++)
        n += b->counts[v];
    return n;
}
static int by_not_ok(const void *x, const void *y)
{
    ROWS(struct watch_batch);
    return not_ok(a) != not_ok(b) ? ORDER(not_ok(b), not_ok(a)) : open_first(x, y);
}
static int by_rate(const void *x, const void *y)
{
    ROWS(struct watch_batch);
    return a->rate < b->rate || a->rate > b->rate ? ORDER(b->rate, a->rate) : open_first(x, y);
}

static int by_name(const void *x, const void *y) { ROWS(struct watch_worker); return strcmp(a->name, b->name); }
static int by_silence(const void *x, const void *y)
{
    ROWS(struct watch_worker);
    return a->silent_us != b->silent_us ? ORDER(b->silent_us, a->silent_us) : by_name(x, y);
}
static int by_busy(const void *x, const void *y)
{
    ROWS(struct watch_worker);
    return a->held != b->held ? ORDER(b->held, a->held) : by_name(x, y);
}

static int by_age(const void *x, const void *y)
{
    ROWS(struct watch_attempt);
    if (a->age_us != b->age_us)
        return ORDER(b->age_us, a->age_us);
    int r = strcmp(a->id, b->id);
    return r != 0 ? r : ORDER(a->index, b->index);
}
static int by_left(const void *x, const void *y)
{
    ROWS(struct watch_attempt);
    int64_t a_left = a->has_left ? a->left_us : INT64_MAX, b_left = b->has_left ? b->left_us : INT64_MAX;
    return a_left != b_left ? ORDER(a_left, b_left) : by_age(x, y);
}

struct order {
    const char *name;
    int (*compare)(const void *x, const void *y);
};
#define ORDERS_MOST 4
static const struct order orders[WATCH_PANELS][ORDERS_MOST] = {
    [WATCH_BATCHES] = {{"newest", open_first}, {"deadline", by_deadline}, {"not ok", by_not_ok}, {"rate", by_rate}},
    [WATCH_WORKERS] = {{"name", by_name}, {"silence", by_silence}, {"held", by_busy}},
    [WATCH_SLOWEST] = {{"age", by_age}, {"time left", by_left}},
};

static const struct order *order_of(const struct watch *self, enum watch_panel panel)
{
    unsigned n = 0;
    while (n < ORDERS_MOST && orders[panel][n].name)
        n++;
    return &orders[panel][self->sort[panel] % n];
}

const char *watch_sort_name(const struct watch *self, enum watch_panel panel) { return order_of(self, panel)->name; }

/* ---- filter ---- */

static bool matches(const struct watch *self, enum watch_panel panel, const void *row)
{
    const struct watch_attempt *a = row;
    const struct watch_batch *b = row;
    const struct watch_worker *w = row;
    const char *const f = self->filter;
    if (f[0] == '\0')
        return true;
    switch (panel) {
    case WATCH_BATCHES: return strcasestr(b->id, f) || strcasestr(b->name, f) || strcasestr(wire_state_name(b->state), f);
    case WATCH_WORKERS: return strcasestr(w->name, f) || strcasestr(w->state, f) || strcasestr(w->handlers, f);
    case WATCH_SLOWEST: return strcasestr(a->id, f) || strcasestr(a->worker, f);
    case WATCH_PANELS: break;
    }
    return false;
}

static const void *row_at(const struct watch *self, enum watch_panel panel, size_t i)
{
    return panel == WATCH_BATCHES ? (const void *)&self->batches[i] : panel == WATCH_WORKERS ? (const void *)&self->workers[i]
                                  : (const void *)&self->attempts[i];
}

size_t watch_rows(const struct watch *self, enum watch_panel panel, const void ***ret)
{
    size_t all = panel == WATCH_BATCHES ? self->n_batches : panel == WATCH_WORKERS ? self->n_workers : self->n_attempts, n = 0;
    const void **rows = calloc(all + 1, sizeof *rows);
    for (size_t i = 0; rows && i < all; i++)
        if (matches(self, panel, row_at(self, panel, i)))
            rows[n++] = row_at(self, panel, i);
    if (n > 1)
        qsort(rows, n, sizeof *rows, order_of(self, panel)->compare);
    *ret = rows;
    return n;
}
