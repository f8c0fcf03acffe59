#include "ventilator/tower.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tower *tower_new(mono_t now)
{
    struct tower *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->started = self->sampled = now;
    self->seconds = 1;
    self->series = calloc(1, sizeof *self->series);
    self->planes.most = TOWER_PLANES;
    self->planes.rows = calloc(TOWER_PLANES, sizeof *self->planes.rows);
    if (self->series == NULL || self->planes.rows == NULL)
        tower_destroy(&self);
    return self;
}

static void batch_forget(struct tower *self, struct tower_batch *batch)
{
    HASH_DEL(self->batches, batch);
    free(batch->failures);
    free(batch);
}

void tower_destroy(struct tower **self_p)
{
    struct tower *self = *self_p;
    struct tower_batch *batch, *next_batch;
    struct tower_stand *stand, *next_stand;
    *self_p = NULL;
    if (self == NULL)
        return;
    HASH_ITER(hh, self->batches, batch, next_batch)
        batch_forget(self, batch);
    HASH_ITER(hh, self->stands, stand, next_stand) {
        HASH_DEL(self->stands, stand);
        free(stand);
    }
    tower_planes_release(&self->planes);
    free(self->series);
    free(self);
}

/* ---- series ---- */

static float quantile_ms(const struct histogram *h, double share)
{
    double us;
    return histogram_quantile(h, share, &us) ? (float)(us / 1000) : -1;
}

static struct tower_point point_of(double rate, uint64_t running, uint64_t queued, const struct histogram *runs)
{
    return (struct tower_point){
        .rate = (float)rate, .p50 = quantile_ms(runs, 0.5), .p90 = quantile_ms(runs, 0.9), .p99 = quantile_ms(runs, 0.99),
        .running = running < UINT32_MAX ? (uint32_t)running : UINT32_MAX, .queued = queued,
    };
}

static void series_add(struct tower_series *s, double rate, uint64_t running, uint64_t queued, const struct histogram *runs)
{
    s->fine[s->n_fine++ % TOWER_FINE] = point_of(rate, running, queued, runs);
    s->rate_sum += rate;
    s->running_most = running > s->running_most ? running : s->running_most;
    histogram_merge(&s->runs, runs);
    if (s->n_fine % TOWER_COARSE_S != 0)
        return;
    s->coarse[s->n_coarse++ % TOWER_COARSE] = point_of(s->rate_sum / TOWER_COARSE_S, s->running_most, queued, &s->runs);
    s->rate_sum = 0;
    s->running_most = 0;
    s->runs = (struct histogram){0};
}

/* ---- planes: the oldest, as a heap whose top is the youngest of them ---- */

static bool is_younger(const struct tower_plane *a, const struct tower_plane *b) { return a->seen.age < b->seen.age; }

static void swap_rows(struct tower_plane *a, struct tower_plane *b)
{
    struct tower_plane row = *a;
    *a = *b;
    *b = row;
}

static void sink_down(struct tower_planes *p, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < p->n && is_younger(&p->rows[child + 1], &p->rows[child]))
            child++;
        if (child >= p->n || !is_younger(&p->rows[child], &p->rows[at]))
            return;
        swap_rows(&p->rows[child], &p->rows[at]);
        at = child;
    }
}

static void rise(struct tower_planes *p, size_t at)
{
    for (; at > 0 && is_younger(&p->rows[at], &p->rows[(at - 1) / 2]); at = (at - 1) / 2)
        swap_rows(&p->rows[at], &p->rows[(at - 1) / 2]);
}

static void planes_offer(struct tower_planes *p, const struct survey_attempt *seen)
{
    p->total++;
    if (p->n == p->most && (p->most == 0 || seen->age <= p->rows[0].seen.age))
        return;
    struct tower_plane *row = &p->rows[p->n == p->most ? 0 : p->n];
    row->seen = *seen;
    snprintf(row->short_id, sizeof row->short_id, "%s", seen->short_id);
    snprintf(row->worker_name, sizeof row->worker_name, "%s", seen->worker_name);
    snprintf(row->handler, sizeof row->handler, "%.63s", seen->handler);
    if (p->n == p->most) {
        sink_down(p, 0);
        return;
    }
    p->n++;
    rise(p, p->n - 1);
}

static int by_age(const void *a, const void *b)
{
    const struct tower_plane *x = a, *y = b;
    if (x->seen.age != y->seen.age)
        return x->seen.age > y->seen.age ? -1 : 1;
    return x->seen.index < y->seen.index ? -1 : x->seen.index > y->seen.index;
}

static void planes_sort(struct tower_planes *p)
{
    qsort(p->rows, p->n, sizeof *p->rows, by_age);
}

void tower_planes_release(struct tower_planes *planes)
{
    free(planes->rows);
    *planes = (struct tower_planes){0};
}

struct oldest {
    struct tower_planes *planes;
    uint64_t worker;
};

static void look_at_attempt(void *arg, const struct survey_attempt *seen)
{
    struct oldest *o = arg;
    if (o->worker == 0 || o->worker == seen->worker)
        planes_offer(o->planes, seen);
}

int tower_oldest(const struct ledger *ledger, mono_t now, size_t most, uint64_t worker, struct tower_planes *ret)
{
    struct survey_totals totals;
    *ret = (struct tower_planes){.most = most < TOWER_OLDEST ? most : TOWER_OLDEST};
    ret->rows = calloc(ret->most + 1, sizeof *ret->rows);
    if (ret->rows == NULL)
        return -ENOMEM;
    struct oldest oldest = {.planes = ret, .worker = worker};
    ledger_survey(ledger, now, &(struct survey_visitor){.arg = &oldest, .attempt = look_at_attempt}, &totals);
    planes_sort(ret);
    return 0;
}

/* ---- stands ---- */

static struct tower_stand *stand_of(struct tower *self, const struct survey_worker *w)
{
    struct tower_stand *stand;
    HASH_FIND(hh, self->stands, &w->number, sizeof w->number, stand);
    if (stand != NULL || (stand = calloc(1, sizeof *stand)) == NULL)
        return stand;
    stand->number = w->number;
    stand->dirty = true;
    snprintf(stand->name, sizeof stand->name, "%s", w->name);
    HASH_ADD(hh, self->stands, number, sizeof stand->number, stand);
    if (stand->hh.tbl != NULL)
        return stand;
    free(stand);
    return NULL;
}

static void look_at_worker(void *arg, const struct survey_worker *w)
{
    struct tower *self = arg;
    struct tower_stand *stand = stand_of(self, w);
    if (stand == NULL)
        return;
    stand->seen = self->sequence;
    stand->dirty = stand->dirty || stand->state != w->state || stand->slots != w->slots || stand->worst / 50 != w->worst / 50
        || memcmp(stand->phases, w->phases, sizeof stand->phases) != 0;
    stand->state = w->state;
    stand->slots = w->slots;
    stand->worst = w->worst;
    stand->finished = w->finished;
    stand->run_us = w->run_us;
    stand->result_bytes = w->result_bytes;
    stand->unreleased_bytes = w->unreleased_bytes;
    stand->unreleased = w->unreleased;
    memcpy(stand->phases, w->phases, sizeof stand->phases);
}

static void forget_gone(struct tower *self)
{
    struct tower_stand *stand, *next;
    HASH_ITER(hh, self->stands, stand, next) {
        if (stand->seen == self->sequence)
            continue;
        if (self->n_gone < sizeof self->gone / sizeof *self->gone)
            self->gone[self->n_gone++] = stand->number;
        HASH_DEL(self->stands, stand);
        free(stand);
    }
}

/* ---- batches ---- */

struct tower_batch *tower_batch_find(struct tower *self, uint64_t number)
{
    struct tower_batch *batch;
    HASH_FIND(hh, self->batches, &number, sizeof number, batch);
    return batch;
}

static void make_room(struct tower *self)
{
    struct tower_batch *batch, *next, *idlest = NULL;
    if (HASH_COUNT(self->batches) < TOWER_BATCHES)
        return;
    HASH_ITER(hh, self->batches, batch, next)
        if (idlest == NULL || batch->moved < idlest->moved)
            idlest = batch;
    batch_forget(self, idlest);
}

static struct tower_batch *batch_keep(struct tower *self, const struct survey_batch *seen)
{
    make_room(self);
    struct tower_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return NULL;
    batch->number = seen->number;
    batch->settled_before = seen->settled;
    snprintf(batch->short_id, sizeof batch->short_id, "%s", seen->short_id);
    size_t len = strnlen(seen->name, sizeof batch->name - 1);
    while (len > 0 && seen->name[len] != '\0' && ((unsigned char)seen->name[len] & 0xC0) == 0x80)
        len--;          /* not within a character */
    memcpy(batch->name, seen->name, len);
    batch->moved = self->sequence;
    HASH_ADD(hh, self->batches, number, sizeof batch->number, batch);
    if (batch->hh.tbl != NULL)
        return batch;
    free(batch);
    return NULL;
}

/* A full table isn't turned over each second by thousands of batches that wait. */
static bool is_worth_keeping(const struct tower *self, const struct survey_batch *seen)
{
    return HASH_COUNT(self->batches) < TOWER_BATCHES || seen->in_flight > 0;
}

static void look_at_batch(void *arg, const struct survey_batch *seen)
{
    struct tower *self = arg;
    struct tower_batch *batch = tower_batch_find(self, seen->number);
    if (batch == NULL && (!is_worth_keeping(self, seen) || (batch = batch_keep(self, seen)) == NULL))
        return;
    if (batch->last.settled != seen->settled || batch->last.in_flight != seen->in_flight || batch->last.total != seen->total
        || batch->last.state != seen->state)
        batch->moved = self->sequence;
    batch->last = *seen;
    batch->seen = self->sequence;
    struct histogram runs = histogram_since(&batch->run, &batch->run_before);
    batch->run_before = batch->run;
    double rate = seen->settled > batch->settled_before ? (double)(seen->settled - batch->settled_before) / self->seconds : 0;
    batch->settled_before = seen->settled;
    series_add(&batch->series, rate, seen->in_flight, seen->queued, &runs);
}

static void keep_anyway(void *arg, const struct survey_batch *seen)
{
    struct tower_batch *batch = batch_keep(arg, seen);
    if (batch == NULL)
        return;
    batch->last = *seen;
    batch->settled_before = 0;
}

struct tower_batch *tower_batch_want(struct tower *self, const struct ledger *ledger, uint64_t number, mono_t now)
{
    const struct survey_visitor visitor = {.arg = self, .batch = keep_anyway};
    struct tower_batch *batch = tower_batch_find(self, number);
    if (batch == NULL && ledger_survey_batch(ledger, now, number, &visitor))
        batch = tower_batch_find(self, number);
    return batch;
}

/* Those that are not open any more: complete, or purged. */
static void look_at_ended(struct tower *self, const struct ledger *ledger, mono_t now)
{
    const struct survey_visitor visitor = {.arg = self, .batch = look_at_batch};
    struct tower_batch *batch, *next;
    HASH_ITER(hh, self->batches, batch, next) {
        if (batch->seen == self->sequence || (batch->last.state == WIRE__STATE__COMPLETE && batch->moved + TOWER_FINE < self->sequence))
            continue;
        if (!ledger_survey_batch(ledger, now, batch->number, &visitor))
            batch_forget(self, batch);
    }
}

/* ---- the sample ---- */

static void look_at_plane(void *arg, const struct survey_attempt *seen)
{
    struct tower *self = arg;
    planes_offer(&self->planes, seen);
}

static void keep_recent(struct histogram *ring, uint64_t sequence, const struct histogram *now, struct histogram *before)
{
    ring[sequence % 10] = histogram_since(now, before);
    *before = *now;
}

struct histogram tower_recent(const struct histogram *ring)
{
    struct histogram sum = {0};
    for (size_t i = 0; i < 10; i++)
        histogram_merge(&sum, &ring[i]);
    return sum;
}

void tower_sample(struct tower *self, const struct ledger *ledger, mono_t now)
{
    const struct survey_visitor visitor = {.arg = self, .batch = look_at_batch, .worker = look_at_worker, .attempt = look_at_plane};
    double seconds = (double)mono_since(now, self->sampled) / 1e9;
    self->seconds = seconds > 0.1 ? seconds : 1;
    self->sequence++;
    self->before = self->now;
    self->planes.n = self->planes.total = 0;
    ledger_survey(ledger, now, &visitor, &self->now);
    planes_sort(&self->planes);
    forget_gone(self);
    look_at_ended(self, ledger, now);
    self->sampled = now;
    keep_recent(self->recent_run, self->sequence, &self->run, &self->run_before);
    keep_recent(self->recent_wait, self->sequence, &self->wait, &self->wait_before);
    keep_recent(self->recent_commit, self->sequence, &self->commit, &self->commit_before);
    double rate = (double)(self->now.recorded - self->before.recorded) / self->seconds;
    uint64_t running = self->now.phases[SURVEY_RUNNING] + self->now.phases[SURVEY_STOPPING];
    series_add(self->series, rate, running, self->now.queued, &self->recent_run[self->sequence % 10]);
}
