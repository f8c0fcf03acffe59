/* What clients are told: status, lists, workers, and why something is not running. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MOST   256u                    /* batches, workers in one report … */
#define PAGE_BYTES  ((size_t)768 * 1024)    /* … and about so many bytes: a head has room for more */
#define ROW_BYTES   ((size_t)320)           /* of one of them, without its longer texts */

/* ---- rates ---- */

/* Only those of which something was settled lately are looked at. */
void rate_begin(struct ledger *l, struct batch *b)
{
    if (b->is_rated || b->settled == b->rate_settled)
        return;
    TAILQ_INSERT_TAIL(&l->rated, b, rated_link);
    b->is_rated = true;
}

void rate_end(struct ledger *l, struct batch *b)
{
    if (b->is_rated)
        TAILQ_REMOVE(&l->rated, b, rated_link);
    b->is_rated = false;
    b->rate = 0;
}

void rate_sample(struct ledger *l)
{
    struct batch *b;
    struct batch *next;
    TAILQ_FOREACH_SAFE(b, &l->rated, rated_link, next) {
        double now = (double)(b->settled - b->rate_settled);
        b->rate = b->rate_settled == 0 && b->rate <= 0 ? now : b->rate * 0.7 + now * 0.3;
        b->rate_settled = b->settled;
        if (b->rate < 0.001)
            rate_end(l, b);
    }
}

/* ---- words ---- */

static bool all_cut_off(const struct ledger *l, const struct batch *b)
{
    for (const struct worker *w = l->by_session; w != NULL; w = w->hh.next)
        if (worker_can_run(w, b) && !w->cut_off)
            return false;
    return true;
}

/* ---- slots that could run a batch, and have no room for it ---- */

/* What the workers of a crew do. */
struct crew_slots {
    const struct crew *crew;
    uint64_t slots;
    uint32_t workers;                           /* those of the slots */
    uint32_t kept, draining, cut_off, away;     /* workers that take nothing new now, and aren't among those */
};

/* Of all crews: one walk over the workers for a whole report, and none when nothing in it waits for a slot. */
struct slots_seen {
    struct crew_slots *of;                      /* owned; by the addresses of the crews */
    size_t n;
};

static int crew_slots_cmp(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct crew_slots *)a)->crew, y = (uintptr_t)((const struct crew_slots *)b)->crew;
    return x < y ? -1 : x > y;
}

static void see_worker(struct crew_slots *of, const struct worker *w)
{
    if (w->state != WORKER_READY) {
        of->away++;
    } else if (w->draining) {
        of->draining++;
    } else if (w->cut_off) {
        of->cut_off++;
    } else if (w->reserved || w->last > 0) {
        of->kept++;
    } else {
        of->workers++;
        of->slots += w->slots;
    }
}

/* Without memory nothing was seen, and nothing is said. */
static void see_slots(const struct ledger *l, struct slots_seen *seen)
{
    if (seen->of != NULL || (seen->of = calloc(HASH_COUNT(l->crews), sizeof *seen->of)) == NULL)
        return;
    for (const struct crew *crew = l->crews; crew != NULL; crew = crew->hh.next)
        seen->of[seen->n++].crew = crew;
    qsort(seen->of, seen->n, sizeof *seen->of, crew_slots_cmp);
    struct crew_slots *of = NULL;
    for (const struct worker *w = l->by_session; w != NULL; w = w->hh.next) {
        struct crew_slots key = {.crew = w->crew};
        if (w->crew == NULL)
            continue;
        if (of == NULL || of->crew != w->crew)
            of = bsearch(&key, seen->of, seen->n, sizeof key, crew_slots_cmp);
        if (of != NULL)
            see_worker(of, w);
    }
}

static struct crew_slots slots_for(const struct slots_seen *seen, const struct batch *b)
{
    struct crew_slots all = {.crew = NULL};
    for (const struct crew_slots *of = seen->of; of < seen->of + seen->n; of++) {
        if (!crew_fits(of->crew, b->want))
            continue;
        all.slots += of->slots;
        all.workers += of->workers;
        all.kept += of->kept;
        all.draining += of->draining;
        all.cut_off += of->cut_off;
        all.away += of->away;
    }
    return all;
}

static bool some_has_room(const struct ledger *l, const struct batch *b)
{
    const struct crew *crew;
    TAILQ_FOREACH(crew, &l->roomy, roomy_link)
        if (crew_fits(crew, b->want))
            return true;
    return false;
}

static bool share_workers(const struct ledger *l, const struct want *a, const struct want *b)
{
    const struct crew *crew = l->crews;
    while (crew != NULL && !(crew_fits(crew, a) && crew_fits(crew, b)))
        crew = crew->hh.next;
    return crew != NULL;
}

/* The first that is queued for the same slots with a higher priority; NULL: none is. */
static const struct batch *first_before(struct ledger *l, const struct batch *b)
{
    struct want *want;
    RB_FOREACH(want, want_tree, &l->ready) {
        if (want->first->options->priority <= b->options->priority)
            return NULL;
        if (share_workers(l, want, b->want))
            return want->first;
    }
    return NULL;
}

/* Appends what is cut off where the room ends. */
static void add(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add(char *out, size_t size, const char *format, ...)
{
    size_t at = strlen(out);
    va_list ap;
    va_start(ap, format);
    vsnprintf(out + at, size - at, format, ap);
    va_end(ap);
}

static void busy_note(struct ledger *l, const struct batch *b, const struct crew_slots *all, char *out, size_t size)
{
    const struct { uint32_t n; const char *words; } others[] = {
        {all->kept, "kept for one task alone"}, {all->draining, "draining"}, {all->cut_off, "cut off from the sink"}, {all->away, "away"},
    };
    const char *before = all->workers > 0 ? "; other workers: " : ": ";
    const struct batch *first = first_before(l, b);
    if (all->workers == 0)
        add(out, size, "no worker that could run its tasks takes new ones");
    else if (all->slots == 1)
        add(out, size, "the only slot that could run its tasks is busy");
    else
        add(out, size, "all %" PRIu64 " slots that could run its tasks are busy, at %u worker%s", all->slots, all->workers, all->workers == 1 ? "" : "s");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (others[i].n == 0)
            continue;
        add(out, size, "%s%u %s", before, others[i].n, others[i].words);
        before = ", ";
    }
    if (first != NULL)
        add(out, size, "; batch %s, queued for them too, has a higher priority (%d)", first->short_id, first->options->priority);
}

/* Why what is queued of it isn't dispatched, though workers are here that could run it; empty: it is, in a moment. */
static void waiting_note(struct ledger *l, const struct batch *b, struct slots_seen *seen, char *out, size_t size)
{
    out[0] = '\0';
    if (!batch_may_fly(l, b) || batch_queued(b) <= b->in_care[CARE_LAST])
        return;
    if (batch_is_full(b)) {
        snprintf(out, size, "--max-running %" PRIu64 " is reached: what is queued waits until one of those ends", b->options->max_running);
        return;
    }
    if (some_has_room(l, b))
        return;
    see_slots(l, seen);
    if (seen->n > 0) {
        struct crew_slots all = slots_for(seen, b);
        busy_note(l, b, &all, out, size);
    }
}

/* ---- the note ---- */

static void batch_note_with(struct ledger *l, const struct batch *b, struct slots_seen *seen, char *out, size_t size)
{
    char lack[WIRE_SENTENCE];
    out[0] = '\0';
    if (is_halted(b))
        snprintf(out, size, "%s", b->cancel_sentence != NULL ? b->cancel_sentence : "halted");
    if (b->complete || is_halted(b))
        return;
    bool able = some_worker_can(l, b);
    if (!able)
        lack_note(l, b, lack, sizeof lack);
    if (b->damage != NULL)
        snprintf(out, size, "its tasks can't be read from the journal: %s", b->damage);
    else if (l->full)
        snprintf(out, size, "the disk of the ventilator is full: nothing new is taken in until there is room");
    else if (b->disowned)
        snprintf(out, size, "the sink has purged this batch and records nothing of it: start the sink with the folder that has its records");
    else if (!l->sink_present)
        snprintf(out, size, "no sink is connected: results can't be recorded, and new batches don't start");
    else if (l->sink_full)
        snprintf(out, size, "the disk of the sink is full: results wait until there is room");
    else if (!able)
        snprintf(out, size, "%s: the tasks wait", lack);
    else if (all_cut_off(l, b))
        snprintf(out, size, "no result of the workers that could run it reaches the sink: the tasks wait (see 'ventilator workers')");
    else if (b->recovery == RECOVER_ASK)
        snprintf(out, size, "recovering: the sink has not yet told what is recorded");
    else if (b->recovery == RECOVER_WORKERS)
        snprintf(out, size, "recovering: waiting for the workers that were here before the restart");
    else if (!nested_note(l, b, out, size) && !quarantine_note(l, b, out, size) && b->in_flight == 0)
        waiting_note(l, b, seen, out, size);
}

/* The one thing that people should know when a batch does not run; empty when all is well. */
void batch_note(struct ledger *l, const struct batch *b, char *out, size_t size)
{
    struct slots_seen seen = {.n = 0};
    batch_note_with(l, b, &seen, out, size);
    free(seen.of);
}

/* ---- status ---- */

struct status_row {
    Wire__BatchStatus status;
    Wire__SignedMicros left;
    Wire__Micros eta;
    char note[WIRE_SENTENCE];
};

uint64_t batch_age_us(const struct ledger *l, const struct batch *b)
{
    return ns_to_us(l->config.wall.ns + mono_since(l->now, l->started) - b->created_wall.ns);
}

static void fill_status(struct ledger *l, struct batch *b, struct slots_seen *seen, struct status_row *row)
{
    Wire__BatchStatus *s = &row->status;
    wire__batch_status__init(s);
    s->batch = wire_id_bytes(b->id);
    s->short_id = b->short_id;
    s->name = b->options->name;
    s->state = batch_state(b);
    s->total = b->admitted;
    s->running = b->in_flight;
    s->queued = b->complete ? 0 : batch_queued(b) + HASH_COUNT(b->waitings) + b->in_closings;
    s->ok = b->counts[WIRE__VERDICT__OK];
    s->failed = b->counts[WIRE__VERDICT__FAILED];
    s->deadline_exceeded = b->counts[WIRE__VERDICT__DEADLINE_EXCEEDED];
    s->cancelled = b->counts[WIRE__VERDICT__CANCELLED];
    s->lost = b->counts[WIRE__VERDICT__LOST];
    s->rejected = b->counts[WIRE__VERDICT__REJECTED];
    s->retried = b->retried;
    s->duplicates = b->duplicates;
    if (!mono_is_never(b->deadline) && !b->complete) {
        wire__signed_micros__init(&row->left);
        row->left.us = mono_since(b->deadline, l->now) / NS_PER_US;
        s->deadline_left = &row->left;
    }
    s->rate_milli = b->complete ? 0 : (uint64_t)(b->rate * 1000);
    if (!b->complete && b->sealed && b->rate > 0.001) {
        wire__micros__init(&row->eta);
        row->eta.us = (uint64_t)((double)(b->admitted - b->settled) / b->rate * 1e6);
        s->eta = &row->eta;
    }
    batch_note_with(l, b, seen, row->note, sizeof row->note);
    s->note = row->note;
    s->traceparent = b->options->traceparent;
    s->whole_cancelled = b->cancelled && !is_halted(b);
    s->age_us = batch_age_us(l, b);
}

static void fill_system(const struct ledger *l, Wire__SystemStatus *s)
{
    wire__system_status__init(s);
    s->epoch = l->epoch;
    s->workers = HASH_COUNT(l->by_session);
    s->slots = l->n_slots;
    s->sink_present = l->sink_present;
    s->journal_full = l->full;
    s->sink_full = l->sink_full;
    s->draining = l->draining;
    s->workers_port = l->config.workers_port;
    s->lanes_from = l->config.lanes_from;
    s->lanes_to = l->config.lanes_to;
    const struct batch *b;
    TAILQ_FOREACH(b, &l->open, open_link)
        s->recovering += b->recovery != RECOVERED;
}

/* ---- pages ---- */

/* What a report of many begins behind, and how much fits into it. */
struct page {
    uint64_t after;                 /* a number: they rise */
    size_t most, bytes;
};

/* Who doesn't ask for pages gets one: of batches the last, of workers the first. */
static struct page page_of(uint64_t after, uint32_t most)
{
    return (struct page){.after = most > 0 ? after : 0, .most = most > 0 && most < PAGE_MOST ? most : PAGE_MOST, .bytes = PAGE_BYTES};
}

/* Room for one more of that length? There always is for the first. */
static bool page_takes(struct page *page, size_t n, size_t bytes)
{
    if (n == page->most || (n > 0 && bytes > page->bytes))
        return false;
    page->bytes -= bytes < page->bytes ? bytes : page->bytes;
    return true;
}

static struct batch *batch_behind(struct ledger *l, uint64_t number)
{
    struct batch *b = number > 0 ? batch_by_number(l, number) : NULL;
    if (b != NULL)
        return b->hh.next;
    for (b = l->by_id; b != NULL && b->number <= number;)
        b = b->hh.next;
    return b;
}

static struct batch *first_of_last(struct ledger *l, size_t most)
{
    struct batch *b = l->by_id;
    for (size_t skip = HASH_COUNT(l->by_id); skip > most; skip--)
        b = b->hh.next;
    return b;
}

struct batch_page {
    struct status_row rows[PAGE_MOST];
    Wire__BatchStatus *pointers[PAGE_MOST];
    size_t n;
    bool more;
    uint64_t next;
};

static void add_row(struct ledger *l, struct batch *b, struct slots_seen *seen, struct batch_page *to)
{
    fill_status(l, b, seen, &to->rows[to->n]);
    to->pointers[to->n] = &to->rows[to->n].status;
    to->n++;
    to->next = b->number;
}

static size_t length_of(const struct batch *b)
{
    return ROW_BYTES + strlen(b->options->name) + (b->complete && !is_halted(b) ? 0 : WIRE_SENTENCE);
}

/* NULL: no memory, and it was said. */
static struct batch_page *collect(struct ledger *l, ledger_peer client, uint64_t request, uint64_t after, uint32_t most)
{
    struct batch_page *to = malloc(sizeof *to);
    if (to == NULL) {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for this report now; ask for one batch");
        return NULL;
    }
    struct page page = page_of(after, most);
    struct slots_seen seen = {.n = 0};
    struct batch *b = most > 0 ? batch_behind(l, page.after) : first_of_last(l, page.most);
    to->n = 0;
    to->next = after;
    for (; b != NULL && page_takes(&page, to->n, length_of(b)); b = b->hh.next)
        add_row(l, b, &seen, to);
    free(seen.of);
    to->more = b != NULL && most > 0;
    return to;
}

/* One batch. NULL: refused. */
static struct batch_page *collect_one(struct ledger *l, ledger_peer client, uint64_t request, const char *ref)
{
    struct why why = {""};
    struct batch *b = batch_find(l, ref, &why);
    struct batch_page *to = b != NULL ? malloc(sizeof *to) : NULL;
    if (b == NULL) {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, why.text);
    } else if (to == NULL) {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for this report now; ask again later");
    } else {
        struct slots_seen seen = {.n = 0};
        to->n = 0;
        to->more = false;
        add_row(l, b, &seen, to);
        free(seen.of);
        to->next = 0;
    }
    return to;
}

void reply_status(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Status *s)
{
    struct batch_page *page = s->ref[0] != '\0' ? collect_one(l, client, request, s->ref) : collect(l, client, request, s->after, s->most);
    if (page == NULL)
        return;
    Wire__SystemStatus system;
    fill_system(l, &system);
    Wire__StatusReport status = WIRE__STATUS_REPORT__INIT;
    status.n_batches = page->n;
    status.batches = page->pointers;
    status.system = &system;
    status.more = page->more;
    status.next = page->next;
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_STATUS;
    m.status = &status;
    reply_send(l, client, &m);
    free(page);
}

void reply_list(struct ledger *l, ledger_peer client, uint64_t request, const Wire__List *list)
{
    struct batch_page *page = collect(l, client, request, list->after, list->most);
    if (page == NULL)
        return;
    Wire__ListReport all = WIRE__LIST_REPORT__INIT;
    all.n_batches = page->n;
    all.batches = page->pointers;
    all.more = page->more;
    all.next = page->next;
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_LIST;
    m.list = &all;
    reply_send(l, client, &m);
    free(page);
}

/* ---- workers ---- */

const char *worker_state_name(const struct ledger *l, const struct worker *w)
{
    if (w->state == WORKER_AWAY)
        return "away";
    if (w->state == WORKER_OPENING)
        return "opening";
    if (mono_since(l->now, w->heard) > 3 * l->config.heartbeat)
        return "silent";
    if (w->cut_off)
        return "cut_off";
    return w->draining ? "draining" : "ready";
}

static void fill_worker(const struct ledger *l, const struct worker *w, Wire__WorkerStatus *s)
{
    wire__worker_status__init(s);
    s->name = w->name;
    s->session = w->session;
    s->state = (char *)(uintptr_t)worker_state_name(l, w);
    s->slots = w->slots;
    s->busy = w->held < w->slots ? w->held : w->slots;
    s->held = w->held;
    s->window = w->window;
    s->unreleased_bytes = w->unreleased_bytes;
    s->service_us = ns_to_us(w->pace.service);
    s->round_trip_us = ns_to_us(w->round_trip);
    s->n_handlers = w->hello->n_handlers;
    s->handlers = w->hello->handlers;
    s->n_labels = w->hello->n_labels;
    s->labels = w->hello->labels;
    s->commands = w->hello->commands;
    s->silent_us = ns_to_us(mono_since(l->now, w->heard));
    s->finished = w->finished;
    s->address = (char *)(uintptr_t)w->address;
    s->lane_port = w->lane_port;
    s->program = w->hello->program;
}

static size_t length_of_worker(const struct worker *w)
{
    size_t n = ROW_BYTES + strlen(w->name) + strlen(w->hello->program);
    for (size_t i = 0; i < w->hello->n_handlers; i++)
        n += strlen(w->hello->handlers[i]) + 4;
    for (size_t i = 0; i < w->hello->n_labels; i++)
        n += strlen(w->hello->labels[i]->key) + strlen(w->hello->labels[i]->value) + 12;
    return n;
}

void reply_workers(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Workers *all)
{
    struct page page = page_of(all->after, all->most);
    Wire__WorkerStatus *rows = calloc(page.most, sizeof *rows), **out = calloc(page.most, sizeof *out);
    if (rows != NULL && out != NULL) {
        Wire__WorkersReport report = WIRE__WORKERS_REPORT__INIT;
        const struct worker *w = l->by_session;
        while (w != NULL && w->number <= page.after)
            w = w->hh.next;
        size_t n = 0;
        for (; w != NULL && page_takes(&page, n, length_of_worker(w)); w = w->hh.next, n++) {
            fill_worker(l, w, &rows[n]);
            out[n] = &rows[n];
            report.next = w->number;
        }
        report.n_workers = n;
        report.workers = out;
        report.more = w != NULL && all->most > 0;
        Wire__Reply m = WIRE__REPLY__INIT;
        m.id = request;
        m.what_case = WIRE__REPLY__WHAT_WORKERS;
        m.workers = &report;
        reply_send(l, client, &m);
    } else {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for this report now; ask again later");
    }
    free(rows);
    free(out);
}

/* ---- explain ---- */

struct story {
    char line[24][240];
    char *lines[24];
    size_t n;
    bool has_note;      /* it says already why the batch doesn't run */
};

static void tell(struct story *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct story *s, const char *format, ...)
{
    if (s->n == sizeof s->lines / sizeof *s->lines)
        return;
    va_list ap;
    va_start(ap, format);
    size_t end = sizeof s->line[0] - 1;
    if (vsnprintf(s->line[s->n], sizeof s->line[0], format, ap) > (int)end) {
        /* Cut off: not within a character, which the codec would refuse. */
        while (end > 0 && ((unsigned char)s->line[s->n][end - 1] & 0xC0) == 0x80)
            end--;
        s->line[s->n][end > 0 ? end - 1 : 0] = '\0';
    }
    va_end(ap);
    s->lines[s->n] = s->line[s->n];
    s->n++;
}

static uint64_t tries_used(const struct past *past) { return (uint64_t)past->tries + past->forgiven; }

static uint64_t tries_most(const struct batch *b) { return (b->options->retry != NULL ? (uint64_t)b->options->retry->retries : 0) + 1; }

static void explain_hole(const struct ledger *l, const struct batch *b, uint64_t index, const struct hole *h, struct story *s)
{
    char text[WIRE_SENTENCE];
    if (h->past.losses == 0) {
        tell(s, "task %" PRIu64 ": queued again, after %u attempts (%" PRIu64 " of %" PRIu64 " tries)", index, h->past.attempts,
             tries_used(&h->past), tries_most(b));
        return;
    }
    lost_sentence(l, b, &h->past, text, sizeof text);
    tell(s, "task %" PRIu64 ": queued again, after %u attempts; %s", index, h->past.attempts, text);
    if (h->care == CARE_LAST)
        tell(s, "task %" PRIu64 ": one more would end it: it waits for a worker that holds nothing else", index);
}

/* Of queued tasks, when the batch itself gets on. */
static void explain_wait(struct ledger *l, const struct batch *b, struct story *s)
{
    char text[WIRE_SENTENCE];
    struct slots_seen seen = {.n = 0};
    if (s->has_note)
        return;
    waiting_note(l, b, &seen, text, sizeof text);
    free(seen.of);
    if (text[0] != '\0')
        tell(s, "%.230s", text);
}

static void explain_queued(struct ledger *l, const struct batch *b, uint64_t index, const struct hole *h, struct story *s)
{
    if (h != NULL)
        explain_hole(l, b, index, h, s);
    else
        tell(s, "task %" PRIu64 ": queued, %" PRIu64 " of its batch are before it", index, index - b->cursor + b->in_holes);
    explain_wait(l, b, s);
}

/* true: it has ended, and the sink has its record. */
static bool explain_task(struct ledger *l, struct batch *b, uint64_t index, struct story *s)
{
    struct flight *f = flight_at(b, index);
    struct waiting *w;
    struct hole *h = hole_at(b, index);
    HASH_FIND(hh, b->waitings, &index, sizeof index, w);
    if (f != NULL && !bit_get(f->done, (uint32_t)(index - f->first)))
        tell(s, "task %" PRIu64 ": attempt %u (try %" PRIu64 " of %" PRIu64 ") is at worker %s since %.3f s, %s", index, f->past.attempts,
             tries_used(&f->past) + 1, tries_most(b), f->worker->name, (double)mono_since(l->now, f->assigned) / 1e9,
             bit_get(f->ended, (uint32_t)(index - f->first)) ? "ended, its result is on the way to the sink"
             : bit_get(f->started, (uint32_t)(index - f->first)) ? "running" : "starting or waiting for its slot");
    else if (w != NULL)
        tell(s, "task %" PRIu64 ": attempt %u did not end well; it waits %.3f s before try %" PRIu64 " of %" PRIu64, index, w->past.attempts,
             (double)mono_since(w->due.at, l->now) / 1e9, tries_used(&w->past) + 1, tries_most(b));
    else if (h != NULL || (index >= b->cursor && !b->complete))
        explain_queued(l, b, index, h, s);
    else if (b->in_closings > 0)
        tell(s, "task %" PRIu64 ": has ended, or ends: the sink has not answered yet", index);
    else
        return true;
    return false;
}

static void explain_parent(struct ledger *l, const struct batch *b, struct story *s)
{
    const Wire__Fence *fence = b->options->parent;
    if (fence == NULL)
        return;
    const struct batch *p = batch_by_id(l, fence->batch);
    tell(s, "submitted by attempt %u of task %" PRIu64 " of batch %s%s", fence->attempt, fence->first, p != NULL ? p->short_id : "(not here any more)",
         b->options->detach ? ", and detached from it" : b->parent != NULL ? ": it is cancelled when that attempt is stopped or given up"
         : b->parent_over ? ", which has ended by itself" : "");
}

static void explain_children(const struct batch *b, const Wire__Number *index, struct story *s)
{
    const struct batch *child;
    LIST_FOREACH(child, &b->children, sibling)
        if (index == NULL || index->n == child->options->parent->first)
            tell(s, "task %" PRIu64 ": its attempt %u has submitted batch %s, which is not complete", child->options->parent->first,
                 child->options->parent->attempt, child->short_id);
}

void reply_explain(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Explain *e)
{
    struct why why = {""};
    struct batch *b = batch_find(l, e->ref, &why);
    if (b == NULL) {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, why.text);
        return;
    }
    if (e->index != NULL && e->index->n >= b->admitted) {
        why_set(&why, "batch %s has %" PRIu64 " task%s so far; there is no task %" PRIu64 " to explain, they count from 0", b->short_id, b->admitted,
                b->admitted == 1 ? "" : "s", e->index->n);
        reply_refused(l, client, request, WIRE__REFUSED_CODE__BAD_REQUEST, why.text);
        return;
    }
    struct story s = {.n = 0};
    char text[WIRE_SENTENCE];
    tell(&s, "batch %s is %s: %" PRIu64 " task%s, %" PRIu64 " queued, %" PRIu64 " at workers, %" PRIu64 " ended", b->short_id,
         wire_state_name(batch_state(b)), b->admitted, b->admitted == 1 ? "" : "s", b->complete ? 0 : batch_queued(b) + HASH_COUNT(b->waitings) + b->in_closings,
         b->in_flight, b->settled);
    if (!mono_is_never(b->deadline) && !b->complete)
        tell(&s, "deadline in %.3f s", (double)mono_since(b->deadline, l->now) / 1e9);
    batch_note(l, b, text, sizeof text);
    s.has_note = text[0] != '\0';
    if (s.has_note)
        tell(&s, "%.230s", text);
    else if (e->index == NULL && batch_is_full(b))
        explain_wait(l, b, &s);
    if (b->cancelled && !is_halted(b))
        tell(&s, "cancelled: %.200s", b->cancel_sentence != NULL ? b->cancel_sentence : "no reason was given");
    explain_parent(l, b, &s);
    bool recorded = e->index != NULL && explain_task(l, b, e->index->n, &s);
    if (recorded && !l->sink_present)
        tell(&s, "task %" PRIu64 ": has ended; the sink, which has its record, is away", e->index->n);
    explain_children(b, e->index, &s);
    Wire__Explanation x = WIRE__EXPLANATION__INIT;
    x.n_lines = s.n;
    x.lines = s.lines;
    x.batch = wire_id_bytes(b->id);
    x.recorded = recorded && l->sink_present;
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_EXPLANATION;
    m.explanation = &x;
    reply_send(l, client, &m);
}
