/* Batches: making and finding them, what the journal keeps of them, and when they are complete. */
#include "ventilator/ledger_private.h"
#include "ventilator/ledger_release.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct batch *batch_new(struct ledger *l, uint64_t number, const uint8_t *id, const Wire__Options *options)
{
    struct batch *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->options = (Wire__Options *)wire_copy(&options->base);
    if (b->options == NULL) {
        free(b);
        return NULL;
    }
    if ((b->want = want_take(l, options)) == NULL) {
        wire_free(&b->options);
        free(b);
        return NULL;
    }
    b->number = number;
    memcpy(b->id, id, WIRE_ID);
    b->created = l->now;
    b->created_wall.ns = l->config.wall.ns + mono_since(l->now, l->started);
    b->deadline = MONO_NEVER;
    RB_INIT(&b->holes);
    for (size_t i = 0; i < CARES; i++)
        RB_INIT(&b->by_care[i]);
    RB_INIT(&b->flights);
    RB_INIT(&b->supplies);
    TAILQ_INIT(&b->closings);
    RB_INIT(&b->closing_places);
    LIST_INIT(&b->children);
    LIST_INIT(&b->announced);
    return b;
}

/* Forgets the places of its tasks. The counters of what is settled stay, and so do flights: settled or not,
 * what still runs at a worker takes up a slot there until the worker says that it has ended. */
static void batch_clear(struct ledger *l, struct batch *b)
{
    drop_holes(l, b);
    struct waiting *w, *w_next;
    HASH_ITER(hh, b->waitings, w, w_next)
        drop_waiting(l, w);
    struct closing *c, *c_next;
    TAILQ_FOREACH_SAFE(c, &b->closings, link, c_next)
        drop_closing(b, c);
    supply_drop_all(l, b);
    supply_loading(l, b, false);
    due_clear(l, &b->due);
    due_clear(l, &b->resend);
    if (b->ready)
        ready_take(l, b);
    b->ready = false;
    rate_end(l, b);
}

void batch_free(struct ledger *l, struct batch *b)
{
    batch_clear(l, b);
    nested_forget(b);
    copies_forget(l, b);
    struct flight *f, *f_next;
    RB_FOREACH_SAFE(f, flight_tree, &b->flights, f_next)
        flight_drop(l, f);
    HASH_DELETE(hh, l->by_id, b);
    HASH_DELETE(hh_short, l->by_short, b);
    HASH_DELETE(hh_number, l->by_number, b);
    HASH_DELETE(hh_submission, l->by_submission, b);
    if (!b->complete) {
        TAILQ_REMOVE(&l->open, b, open_link);
        l->counts.open_batches--;
    } else {
        TAILQ_REMOVE(&l->purges.complete, b, open_link);
    }
    want_give_back(l, b->want);
    wire_free(&b->options);
    free(b->key);
    free(b->cancel_sentence);
    free(b->cancelled_tasks);
    free(b->damage);
    free(b);
}

/* The short id: letters and digits that can't be mistaken for one another, longer only when taken. */
static void make_short_id(struct ledger *l, struct batch *b)
{
    static const char letters[] = "abcdefghjkmnpqrstuvwxyz", digits[] = "23456789abcdefghjkmnpqrstuvwxyz";
    uint8_t r[sizeof b->short_id];
    struct batch *taken;
    for (size_t len = 4, tries = 0;; tries++) {
        if (tries >= 8 && len < sizeof b->short_id - 1) {
            len++;
            tries = 0;
        }
        l->port.random(l->port.arg, r, sizeof r);
        for (size_t i = 0; i < len; i++)
            b->short_id[i] = i == 0 ? letters[r[i] % (sizeof letters - 1)] : digits[r[i] % (sizeof digits - 1)];
        b->short_id[len] = '\0';
        HASH_FIND(hh_short, l->by_short, b->short_id, len, taken);
        if (taken == NULL && !purged_short_id(l, b->short_id))
            return;
    }
}

int batch_index(struct ledger *l, struct batch *b)
{
    if (b->short_id[0] == '\0')
        make_short_id(l, b);
    HASH_ADD(hh, l->by_id, id, WIRE_ID, b);
    HASH_ADD_KEYPTR(hh_short, l->by_short, b->short_id, strlen(b->short_id), b);
    HASH_ADD(hh_number, l->by_number, number, sizeof b->number, b);
    HASH_ADD(hh_submission, l->by_submission, submission, WIRE_ID, b);
    TAILQ_INSERT_TAIL(&l->open, b, open_link);
    l->counts.open_batches++;
    return 0;
}

struct batch *batch_by_id(struct ledger *l, ProtobufCBinaryData id)
{
    struct batch *b = NULL;
    if (id.len == WIRE_ID)
        HASH_FIND(hh, l->by_id, id.data, WIRE_ID, b);
    return b;
}

struct batch *batch_by_number(struct ledger *l, uint64_t number)
{
    struct batch *b;
    HASH_FIND(hh_number, l->by_number, &number, sizeof number, b);
    return b;
}

struct batch *batch_find(struct ledger *l, const char *ref, struct why *why)
{
    struct batch *found = NULL, *b;
    size_t len = strlen(ref);
    HASH_FIND(hh_short, l->by_short, ref, len, found);
    if (found != NULL)
        return found;
    size_t matches = 0;
    for (b = len >= 2 ? l->by_id : NULL; b != NULL; b = b->hh.next) {
        char hex[33];
        wire_id_hex(b->id, hex);
        if (strncmp(b->short_id, ref, len) == 0 || strncmp(hex, ref, len) == 0) {
            matches++;
            found = b;
        }
    }
    if (matches == 1)
        return found;
    if (matches > 1)
        why_set(why, "batch '%s' could be any of %zu; type more of the id ('ventilator list' shows them)", ref, matches);
    else if (!purged_find(l, ref, why))
        why_set(why, "there is no batch '%s' here; 'ventilator list' shows those that are", ref);
    return NULL;
}

/* The spans are in order, and apart. */
uint64_t batch_cancelled_run(const struct batch *b, uint64_t first, uint64_t count, bool *ret_cancelled)
{
    size_t low = 0, high = b->n_cancelled_tasks;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (b->cancelled_tasks[middle].first + b->cancelled_tasks[middle].count <= first)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_cancelled = low < b->n_cancelled_tasks && b->cancelled_tasks[low].first <= first;
    if (low == b->n_cancelled_tasks)
        return count;
    const Wire__Span *span = &b->cancelled_tasks[low];
    uint64_t run = (*ret_cancelled ? span->first + span->count : span->first) - first;
    return run < count ? run : count;
}

bool batch_task_cancelled(const struct batch *b, uint64_t index)
{
    bool cancelled;
    batch_cancelled_run(b, index, 1, &cancelled);
    return cancelled;
}

static int by_first(const void *a, const void *b)
{
    const Wire__Span *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

size_t spans_merge(Wire__Span *spans, size_t n)
{
    size_t kept = 0;
    if (n > 0)
        qsort(spans, n, sizeof *spans, by_first);
    for (size_t i = 1; i < n; i++) {
        uint64_t end = spans[kept].first + spans[kept].count, other = spans[i].first + spans[i].count;
        if (spans[i].first > end)
            spans[++kept] = spans[i];
        else if (other > end)
            spans[kept].count = other - spans[kept].first;
    }
    return kept + (n > 0);
}

bool batch_cancel_tasks(struct batch *b, const Wire__Span *spans, size_t n)
{
    size_t both = b->n_cancelled_tasks + n;
    Wire__Span *all = calloc(both + 1, sizeof *all);
    BUG_IF_NO_MEMORY(all);
    for (size_t i = 0; i < both; i++)
        all[i] = i < b->n_cancelled_tasks ? b->cancelled_tasks[i] : spans[i - b->n_cancelled_tasks];
    both = spans_merge(all, both);
    if (both > WIRE_FENCES) {
        free(all);
        return false;
    }
    free(b->cancelled_tasks);
    b->cancelled_tasks = all;
    b->n_cancelled_tasks = both;
    return true;
}

/* ---- the journal ---- */

static uint64_t put_record(struct ledger *l, const char *folder, uint64_t number, const ProtobufCMessage *m)
{
    char key[40];
    snprintf(key, sizeof key, "%s/%016" PRIx64, folder, number);
    if (wire_write(&l->writer, m) < 0)
        out_of_memory();
    return l->port.put(l->port.arg, key, l->writer.bytes, l->writer.len);
}

uint64_t state_journal(struct ledger *l)
{
    Wire__JournalState s = WIRE__JOURNAL_STATE__INIT;
    s.epoch = l->epoch;
    s.next_batch = l->next_batch;
    if (l->sink_store_known)
        s.sink = wire_id_bytes(l->sink_store);
    if (wire_write(&l->writer, &s.base) < 0)
        out_of_memory();
    return l->port.put(l->port.arg, "meta/state", l->writer.bytes, l->writer.len);
}

uint64_t batch_journal(struct ledger *l, struct batch *b)
{
    Wire__JournalBatch r = WIRE__JOURNAL_BATCH__INIT;
    Wire__Micros left = WIRE__MICROS__INIT;
    r.number = b->number;
    r.batch = wire_id_bytes(b->id);
    r.short_id = b->short_id;
    r.submission = wire_id_bytes(b->submission);
    r.key = b->key != NULL ? b->key : (char *)"";
    r.options = b->options;
    r.boot = l->config.boot;
    r.boottime_ns = l->now.ns;
    r.wall_ns = l->config.wall.ns + mono_since(l->now, l->started);
    if (!mono_is_never(b->deadline)) {
        left.us = ns_to_us(mono_since(b->deadline, l->now));
        r.deadline = &left;
    }
    r.admitted_wall_ns = b->created_wall.ns;
    state_journal(l);                       /* next_batch must not be given twice */
    return put_record(l, "batch", b->number, &r.base);
}

uint64_t batch_tally(struct ledger *l, struct batch *b)
{
    Wire__JournalTally t = WIRE__JOURNAL_TALLY__INIT;
    t.number = b->number;
    t.admitted = b->staged;
    t.digest = b->digest;
    t.sealed = b->seal_staged;
    t.cancelled = b->cancelled;
    t.cancel_reason = b->cancel_reason;
    t.cancel_sentence = b->cancel_sentence != NULL ? b->cancel_sentence : (char *)"";
    t.complete = b->complete;
    t.retried = b->retried;
    t.duplicates = b->duplicates;
    t.registered = b->registered;
    t.parent_over = b->parent_over;
    if (b->complete) {
        t.n_counts = WIRE_VERDICTS;
        t.counts = b->counts;
        t.completed_wall_ns = b->completed.ns;
    }
    Wire__Span **spans = NULL;
    if (b->n_cancelled_tasks > 0) {
        spans = calloc(b->n_cancelled_tasks, sizeof *spans);
        BUG_IF_NO_MEMORY(spans);            /* a tally without them would undo their cancel */
        for (size_t i = 0; i < b->n_cancelled_tasks; i++)
            spans[i] = &b->cancelled_tasks[i];
        t.n_cancelled_tasks = b->n_cancelled_tasks;
        t.cancelled_tasks = spans;
    }
    uint64_t sequence = put_record(l, "tally", b->number, &t.base);
    free(spans);
    return sequence;
}

void batch_unjournal(struct ledger *l, const struct batch *b)
{
    static const char *const folders[] = {"batch", "tally"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char key[40];
        snprintf(key, sizeof key, "%s/%016" PRIx64, folders[i], b->number);
        l->port.remove(l->port.arg, key);
    }
}

/* How much of a journaled deadline is left now (ns): exact within one boot; across boots the
 * wall clock counts, and never less than nothing passed. */
static int64_t deadline_left(struct ledger *l, struct batch *b, const Wire__JournalBatch *r)
{
    int64_t passed;
    if (l->config.boot[0] != '\0' && strcmp(r->boot, l->config.boot) == 0) {
        passed = l->now.ns - r->boottime_ns;
    } else {
        passed = l->config.wall.ns - r->wall_ns;
        b->by_wall_clock = true;
        note(l, LOG_WARN, "deadline_by_wall_clock", "batch=%s passed_ms=%" PRId64, r->short_id, passed / NS_PER_MS);
    }
    return us_to_ns(r->deadline->us) - (passed > 0 ? passed : 0);
}

int restore_batch(struct ledger *l, const Wire__JournalBatch *r, struct why *why)
{
    if (r->batch.len != WIRE_ID || r->submission.len != WIRE_ID || r->options == NULL || strlen(r->short_id) >= 16)
        return why_set(why, "the journal's record of batch number %" PRIu64 " is not one; restore the folder from a copy", r->number);
    struct batch *b = batch_new(l, r->number, r->batch.data, r->options);
    if (b == NULL)
        return why_set(why, "no memory for the journal's batches");
    memcpy(b->submission, r->submission.data, WIRE_ID);
    snprintf(b->short_id, sizeof b->short_id, "%s", r->short_id);
    if (r->key[0] != '\0' && (b->key = strdup(r->key)) == NULL) {
        want_give_back(l, b->want);
        wire_free(&b->options);
        free(b);
        return why_set(why, "no memory for the journal's batches");
    }
    b->created_wall.ns = r->admitted_wall_ns;
    if (l->config.wall.ns > r->admitted_wall_ns)        /* else tasks would have been queued since this start only */
        b->created = mono_add(l->now, r->admitted_wall_ns - l->config.wall.ns);
    b->recovery = RECOVER_ASK;
    b->restored = b->durable = true;
    batch_index(l, b);
    nested_link(l, b);
    if (r->number >= l->next_batch)
        l->next_batch = r->number + 1;
    if (r->deadline != NULL)
        batch_set_deadline(l, b, mono_add(l->now, deadline_left(l, b, r)));
    return 0;
}

int restore_tally(struct ledger *l, const Wire__JournalTally *t, struct why *why)
{
    struct batch *b = batch_by_number(l, t->number);
    if (b == NULL || t->n_counts > WIRE_VERDICTS)
        return why_set(why, "the journal has a tally of batch number %" PRIu64 " that does not fit; restore the folder from a copy", t->number);
    b->staged = b->admitted = t->admitted;
    b->digest = t->digest;
    b->seal_staged = b->sealed = t->sealed;
    b->cancelled = t->cancelled;
    b->cancel_reason = t->cancel_reason;
    if (t->cancel_sentence[0] != '\0' && (b->cancel_sentence = strdup(t->cancel_sentence)) == NULL)
        return why_set(why, "no memory for the journal's cancels");
    b->parent_over = t->parent_over;
    if (t->parent_over || t->complete)
        nested_forget(b);
    b->retried = t->retried;
    b->duplicates = t->duplicates;
    if (t->n_cancelled_tasks > 0) {
        b->cancelled_tasks = calloc(t->n_cancelled_tasks, sizeof *b->cancelled_tasks);
        if (b->cancelled_tasks == NULL)
            return why_set(why, "no memory for the journal's cancels");
        for (size_t i = 0; i < t->n_cancelled_tasks; i++)
            b->cancelled_tasks[i] = *t->cancelled_tasks[i];
        b->n_cancelled_tasks = t->n_cancelled_tasks;
    }
    if (!t->complete)
        return 0;
    for (size_t i = 0; i < t->n_counts; i++) {
        b->counts[i] = t->counts[i];
        b->settled += t->counts[i];
    }
    b->cursor = b->admitted;
    b->complete = b->registered = true;
    b->recovery = RECOVERED;
    due_clear(l, &b->due);
    TAILQ_REMOVE(&l->open, b, open_link);
    l->counts.open_batches--;
    b->completed.ns = t->completed_wall_ns != 0 ? t->completed_wall_ns : b->created_wall.ns;
    purge_completed(l, b);
    return 0;
}

/* ---- deadline and end ---- */

void batch_set_deadline(struct ledger *l, struct batch *b, mono_t at)
{
    b->deadline = at;
    b->too_late = b->deadline_passed = b->grace_passed = false;
    due_set(l, &b->due, mono_add(at, -us_to_ns(b->options->min_runtime_us)), deadline_due, b);
}

static void tell_retire(struct ledger *l, struct batch *b)
{
    Wire__Retire retire = WIRE__RETIRE__INIT;
    retire.batch = wire_id_bytes(b->id);
    struct announced *a;
    while ((a = LIST_FIRST(&b->announced)) != NULL) {
        struct worker *w = a->worker;
        LIST_REMOVE(a, at_batch);
        HASH_DEL(w->announced, a);
        free(a);
        Wire__Lane m = WIRE__LANE__INIT;
        m.what_case = WIRE__LANE__WHAT_RETIRE;
        m.retire = &retire;
        worker_lane(l, w, &m, (struct slice){0}, false);
    }
}

static void batch_complete(struct ledger *l, struct batch *b)
{
    release_flush(l, true);                 /* nothing may come after retire */
    batch_clear(l, b);
    b->complete = true;
    nested_judge(l, b);
    nested_forget(b);
    TAILQ_REMOVE(&l->open, b, open_link);
    l->counts.open_batches--;
    b->completed.ns = l->config.wall.ns + mono_since(l->now, l->started);
    purge_completed(l, b);
    batch_tally(l, b);
    tell_retire(l, b);
    note(l, LOG_INFO, "batch_complete", "batch=%s tasks=%" PRIu64 " ok=%" PRIu64 " failed=%" PRIu64 " deadline_exceeded=%" PRIu64
         " cancelled=%" PRIu64 " lost=%" PRIu64 " rejected=%" PRIu64, b->short_id, b->settled, b->counts[WIRE__VERDICT__OK],
         b->counts[WIRE__VERDICT__FAILED], b->counts[WIRE__VERDICT__DEADLINE_EXCEEDED], b->counts[WIRE__VERDICT__CANCELLED],
         b->counts[WIRE__VERDICT__LOST], b->counts[WIRE__VERDICT__REJECTED]);
}

void touch_begin(struct ledger *l, struct touched *list)
{
    list->first = NULL;
    list->number = ++l->touches;
}

void touch(struct touched *list, struct batch *b)
{
    if (b->touched == list->number)
        return;
    b->touched = list->number;
    b->next_touched = list->first;
    list->first = b;
}

void batch_moved(struct ledger *l, struct batch *b)
{
    if (b->complete)
        return;
    rate_begin(l, b);
    halt_judge(l, b);
    nested_judge(l, b);
    if (b->sealed && b->settled == b->admitted && b->staged == b->admitted && b->recovery == RECOVERED
        && b->registered && b->total_told) {
        batch_complete(l, b);
        return;
    }
    sink_register(l, b);
    batch_ready(l, b);
}
