/* What is run: the tasks' times, the batches and the workers of a case; and the ideal schedule of it. */
#include "tests/support/dispatch.h"

#include <math.h>
#include <stdlib.h>

#include "common/bug.h"
#include "common/clock.h"

const char *const dispatch_times_names[TIMES_KINDS] = {"constant", "uniform", "exponential", "pareto", "bimodal"};
const char *const dispatch_mix_names[MIX_KINDS] = {"even", "speeds", "slots", "stragglers", "join", "leave", "lost", "labels"};
const char *const dispatch_batches_names[BATCHES_KINDS] = {"one", "weights", "priorities", "limited", "many"};

/* ---- the heap ---- */

static bool is_before(const struct dispatch_event *a, const struct dispatch_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void dispatch_push(struct dispatch_heap *heap, struct dispatch_event e)
{
    if (heap->n == heap->room) {
        heap->room = heap->room > 0 ? 2 * heap->room : 1024;
        heap->at = reallocarray(heap->at, heap->room, sizeof *heap->at);
        BUG_IF(heap->at == NULL);
    }
    e.order = heap->orders++;
    size_t i = heap->n++;
    for (; i > 0 && is_before(&e, &heap->at[(i - 1) / 2]); i = (i - 1) / 2)
        heap->at[i] = heap->at[(i - 1) / 2];
    heap->at[i] = e;
}

bool dispatch_pop(struct dispatch_heap *heap, struct dispatch_event *ret)
{
    if (heap->n == 0)
        return false;
    *ret = heap->at[0];
    struct dispatch_event last = heap->at[--heap->n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < heap->n) {
        child += child + 1 < heap->n && is_before(&heap->at[child + 1], &heap->at[child]);
        if (!is_before(&heap->at[child], &last))
            break;
        heap->at[i] = heap->at[child];
        i = child;
    }
    heap->at[i] = last;
    return true;
}

/* ---- times ---- */

static double fraction(uint64_t seed, uint64_t n)
{
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + n * UINT64_C(0xD1B54A32D192ED03) + 1;
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return ((double)((x ^ (x >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

int64_t dispatch_time(const struct dispatch_case *c, uint64_t task)
{
    double u = fraction(c->seed, task), of_mean = 1;
    switch (c->times) {
    case TIMES_UNIFORM:     of_mean = 0.5 + u; break;
    case TIMES_EXPONENTIAL: of_mean = -log(u); break;
    case TIMES_PARETO:      of_mean = pow(u, -1 / 1.5) / 3; break;
    case TIMES_BIMODAL:     of_mean = u < 0.01 ? 100 / 1.99 : 1 / 1.99; break;
    case TIMES_CONSTANT:
    case TIMES_KINDS:       break;
    }
    double ns = of_mean * (double)c->mean;
    return ns < 1000 ? 1000 : (int64_t)ns;
}

/* ---- batches and workers ---- */

static void plan_batches(struct dispatch_plan *p)
{
    static const size_t sizes[BATCHES_KINDS] = {1, 3, 3, 2, DISPATCH_MANY};
    const struct dispatch_case *c = p->c;
    p->n_batches = sizes[c->batches];
    if (c->mix == MIX_LABELS && p->n_batches == 1)
        p->n_batches = 2;
    p->batches = calloc(p->n_batches, sizeof *p->batches);
    BUG_IF(p->batches == NULL);
    uint64_t at = 0;
    for (size_t i = 0; i < p->n_batches; i++) {
        struct dispatch_batch *b = &p->batches[i];
        b->first = at;
        b->tasks = c->tasks * (i + 1) / p->n_batches - at;
        at += b->tasks;
        b->weight = c->batches == BATCHES_WEIGHTS && i == 2 ? 3 : 1;
        b->priority = c->batches == BATCHES_PRIORITIES ? (int32_t)i : 0;
        b->labelled = c->mix == MIX_LABELS && i % 2 == 1;
    }
}

static void plan_workers(struct dispatch_plan *p)
{
    const struct dispatch_case *c = p->c;
    p->workers = calloc(c->workers, sizeof *p->workers);
    BUG_IF(p->workers == NULL);
    for (uint32_t i = 0; i < c->workers; i++) {
        struct dispatch_worker *w = &p->workers[i];
        bool odd = i % 2 == 1, tenth = i % 10 == 0;
        w->slots = c->mix == MIX_SLOTS ? (odd ? 1 : 8) : c->slots;
        w->slower = c->mix == MIX_SPEEDS && odd ? 20 : c->mix == MIX_STRAGGLERS && tenth ? 10 : 1;
        w->labelled = c->mix == MIX_LABELS && tenth;
        w->joins = c->mix == MIX_JOIN && odd;
        w->leaves = c->mix == MIX_LEAVE && odd;
        w->lost = c->mix == MIX_LOST && tenth;
        p->n_slots += w->slots;
    }
}

void dispatch_plan(const struct dispatch_case *c, struct dispatch_plan *ret)
{
    *ret = (struct dispatch_plan){.c = c};
    plan_workers(ret);
    plan_batches(ret);
    if (c->batches == BATCHES_LIMITED)
        ret->batches[0].max_running = ret->n_slots / 4 > 0 ? ret->n_slots / 4 : 1;
    double work = 0, capacity = 0;
    for (uint64_t i = 0; i < c->tasks; i++)
        work += (double)dispatch_time(c, i);
    for (uint32_t i = 0; i < c->workers; i++)
        capacity += (double)ret->workers[i].slots / ret->workers[i].slower;
    ret->half = (int64_t)(work / capacity / 2);
}

void dispatch_plan_release(struct dispatch_plan *plan)
{
    free(plan->batches);
    free(plan->workers);
}

/* ---- the ideal ---- */

/* Batches that one kind of worker can run, by what is next. */
struct line {
    size_t *at;                         /* numbers of batches, a heap */
    size_t n;
};

struct ideal {
    const struct dispatch_plan *plan;
    struct dispatch_heap heap;
    struct line lines[2];               /* without a label, and with */
    double *pass;
    uint64_t *next, *running;
    int64_t *again;                     /* times of tasks that were lost with their worker */
    size_t n_again;
    uint32_t *parked;                   /* workers of slots that have nothing to run now */
    size_t n_parked;
    int64_t end;
};

enum { IDEAL_SLOT, IDEAL_LOSS };
#define NO_BATCH SIZE_MAX

static bool goes_before(const struct ideal *s, size_t a, size_t b)
{
    const struct dispatch_batch *x = &s->plan->batches[a], *y = &s->plan->batches[b];
    if (x->priority != y->priority)
        return x->priority > y->priority;
    return s->pass[a] != s->pass[b] ? s->pass[a] < s->pass[b] : a < b;
}

static void line_put(const struct ideal *s, struct line *line, size_t batch)
{
    size_t i = line->n++;
    for (; i > 0 && goes_before(s, batch, line->at[(i - 1) / 2]); i = (i - 1) / 2)
        line->at[i] = line->at[(i - 1) / 2];
    line->at[i] = batch;
}

static size_t line_take(const struct ideal *s, struct line *line)
{
    size_t first = line->at[0], last = line->at[--line->n], i = 0, child;
    while ((child = 2 * i + 1) < line->n) {
        child += child + 1 < line->n && goes_before(s, line->at[child + 1], line->at[child]);
        if (!goes_before(s, line->at[child], last))
            break;
        line->at[i] = line->at[child];
        i = child;
    }
    line->at[i] = last;
    return first;
}

static void enter(struct ideal *s, size_t batch)
{
    const struct dispatch_batch *b = &s->plan->batches[batch];
    if (s->next[batch] < b->tasks && (b->max_running == 0 || s->running[batch] < b->max_running))
        line_put(s, &s->lines[b->labelled], batch);
}

static struct line *best_line(struct ideal *s, bool labelled)
{
    struct line *best = s->lines[0].n > 0 ? &s->lines[0] : NULL;
    if (labelled && s->lines[1].n > 0 && (best == NULL || goes_before(s, s->lines[1].at[0], best->at[0])))
        best = &s->lines[1];
    return best;
}

/* A task begins: its slot is free again at its end, unless its worker is lost before. */
static void ideal_begin(struct ideal *s, int64_t now, uint32_t who, size_t batch, int64_t time)
{
    const struct dispatch_worker *w = &s->plan->workers[who];
    int64_t end = now + time * w->slower;
    if (w->lost && end > s->plan->half) {
        dispatch_push(&s->heap, (struct dispatch_event){.at = s->plan->half, .kind = IDEAL_LOSS, .who = who, .what = (uint64_t)time});
        return;
    }
    s->end = end > s->end ? end : s->end;
    dispatch_push(&s->heap, (struct dispatch_event){.at = end, .kind = IDEAL_SLOT, .who = who, .what = batch});
}

static void slot_free(struct ideal *s, int64_t now, uint32_t who)
{
    const struct dispatch_worker *w = &s->plan->workers[who];
    if ((w->leaves || w->lost) && now >= s->plan->half)
        return;
    struct line *line = best_line(s, w->labelled);
    if (s->n_again > 0) {
        ideal_begin(s, now, who, NO_BATCH, s->again[--s->n_again]);
    } else if (line == NULL) {
        s->parked[s->n_parked++] = who;
    } else {
        size_t batch = line_take(s, line);
        const struct dispatch_batch *b = &s->plan->batches[batch];
        int64_t time = dispatch_time(s->plan->c, b->first + s->next[batch]++);
        s->running[batch]++;
        s->pass[batch] += 1.0 / b->weight;
        enter(s, batch);
        ideal_begin(s, now, who, batch, time);
    }
}

static void unpark(struct ideal *s, int64_t now)
{
    for (size_t n = s->n_parked; n > 0; n--) {
        uint32_t who = s->parked[n - 1];
        s->parked[n - 1] = s->parked[--s->n_parked];
        slot_free(s, now, who);
        if (s->lines[0].n + s->lines[1].n + s->n_again == 0)
            return;
    }
}

static void ideal_end(struct ideal *s, const struct dispatch_event *e)
{
    size_t batch = e->what;
    if (e->kind == IDEAL_LOSS) {
        s->again[s->n_again++] = (int64_t)e->what;
        unpark(s, e->at);
        return;
    }
    bool was_full = batch != NO_BATCH && s->plan->batches[batch].max_running > 0 && s->running[batch] == s->plan->batches[batch].max_running;
    if (batch != NO_BATCH)
        s->running[batch]--;
    if (was_full)
        enter(s, batch);
    slot_free(s, e->at, e->who);
    if (was_full)
        unpark(s, e->at);
}

int64_t dispatch_ideal(const struct dispatch_plan *plan)
{
    struct ideal s = {.plan = plan};
    struct dispatch_event e;
    size_t n = plan->n_batches;
    s.pass = calloc(n, sizeof *s.pass);
    s.next = calloc(2 * n, sizeof *s.next);
    s.running = s.next + n;
    s.lines[0].at = calloc(2 * n, sizeof *s.lines[0].at);
    s.lines[1].at = s.lines[0].at + n;
    s.again = calloc(plan->n_slots, sizeof *s.again);
    s.parked = calloc(plan->n_slots, sizeof *s.parked);
    BUG_IF(s.pass == NULL || s.next == NULL || s.lines[0].at == NULL || s.again == NULL || s.parked == NULL);
    for (size_t i = 0; i < n; i++)
        enter(&s, i);
    for (uint32_t i = 0; i < plan->c->workers; i++)
        for (uint32_t slot = 0; slot < plan->workers[i].slots; slot++)
            dispatch_push(&s.heap, (struct dispatch_event){.at = plan->workers[i].joins ? plan->half : 0, .who = i, .what = NO_BATCH});
    while (dispatch_pop(&s.heap, &e))
        ideal_end(&s, &e);
    free(s.pass);
    free(s.next);
    free(s.lines[0].at);
    free(s.again);
    free(s.parked);
    free(s.heap.at);
    return s.end;
}
