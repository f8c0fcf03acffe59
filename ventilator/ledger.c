/* The clock of the ledger: what is due, what waits for its flush, and the tick. */
#include "ventilator/ledger_private.h"
#include "ventilator/ledger_release.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int due_cmp(const struct due *a, const struct due *b)
{
    if (a->at.ns != b->at.ns)
        return a->at.ns < b->at.ns ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}
RB_GENERATE(due_tree, due, link, due_cmp)

void out_of_memory(void)
{
    fputs("ventilator: out of memory; the journal has everything: give it more and start it again\n", stderr);
    abort();
}

void due_clear(struct ledger *l, struct due *d)
{
    if (d->set)
        RB_REMOVE(due_tree, &l->dues, d);
    d->set = false;
}

void due_set(struct ledger *l, struct due *d, mono_t at, void (*fire)(struct ledger *, void *), void *owner)
{
    due_clear(l, d);
    if (mono_is_never(at))
        return;
    d->at = at;
    d->order = l->next_due++;
    d->fire = fire;
    d->owner = owner;
    d->set = true;
    RB_INSERT(due_tree, &l->dues, d);
}

struct pending *pend(struct ledger *l, enum pending_kind kind, uint64_t sequence)
{
    struct pending *p = calloc(1, sizeof *p);
    BUG_IF_NO_MEMORY(p);
    p->kind = kind;
    p->sequence = sequence;
    TAILQ_INSERT_TAIL(&l->pendings, p, link);
    return p;
}

void note(struct ledger *l, int level, const char *event, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    l->port.note(l->port.arg, level, event, text);
}

const char *note_text(const char *text, bool word, char out[WIRE_NAME + 1])
{
    size_t i = 0;
    for (; text[i] != '\0' && i < WIRE_NAME; i++) {
        bool bad = text[i] == '"' || text[i] == '\\' || (word && (text[i] == ' ' || text[i] == '='));
        out[i] = bad ? '_' : text[i];
    }
    out[i] = '\0';
    return out;
}

/* Shorter than the loss grace, so that a lost worker starts nothing after its tasks were given to others. */
int64_t lease_ns(const struct ledger *l)
{
    return l->config.loss_grace / 4 * 3;
}

/* 1 MB/s. */
int64_t line_ns(uint64_t bytes)
{
    return us_to_ns(bytes < UINT32_MAX ? bytes : UINT32_MAX);
}

int64_t us_to_ns(uint64_t us)
{
    return us > (uint64_t)INT64_MAX / 4000 ? INT64_MAX / 4 : (int64_t)us * NS_PER_US;
}

uint64_t ns_to_us(int64_t ns)
{
    return ns <= 0 ? 0 : (uint64_t)ns / (uint64_t)NS_PER_US;
}

struct ledger *ledger_new(const struct ledger_config *config, const struct ledger_ports *ports, mono_t now)
{
    struct ledger *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->config = *config;
    l->port = *ports;
    l->now = l->started = now;
    l->next_batch = l->next_lane = l->next_number = l->next_closing = l->next_worker = 1;
    l->pass = 1;                        /* 0: nothing was served */
    TAILQ_INIT(&l->open);
    TAILQ_INIT(&l->pendings);
    TAILQ_INIT(&l->unanswered);
    TAILQ_INIT(&l->cancels);
    TAILQ_INIT(&l->copies);
    RB_INIT(&l->dues);
    RB_INIT(&l->ready);
    TAILQ_INIT(&l->rated);
    TAILQ_INIT(&l->spared);
    TAILQ_INIT(&l->unsorted);
    TAILQ_INIT(&l->opening);
    for (int i = 0; i < RELEASE_PLACES; i++)
        TAILQ_INIT(&l->releasing[i]);
    TAILQ_INIT(&l->recalling);
    TAILQ_INIT(&l->coming);
    TAILQ_INIT(&l->roomy);
    TAILQ_INIT(&l->quarantine);
    TAILQ_INIT(&l->reserved);
    purge_init(l);
    l->program = strdup(config->program);
    l->arena = wire_arena_new();
    if (l->program == NULL || l->arena == NULL)
        ledger_destroy(&l);
    return l;
}

void ledger_destroy(struct ledger **self_p)
{
    struct ledger *l = *self_p;
    if (l == NULL)
        return;
    copies_destroy(l);
    struct pending *p, *p_next;
    TAILQ_CONCAT(&l->pendings, &l->unanswered, link);
    TAILQ_FOREACH_SAFE(p, &l->pendings, link, p_next)
        free(p);
    struct worker *w, *w_next;
    HASH_ITER(hh, l->by_session, w, w_next)
        worker_free(l, w);
    struct batch *b, *b_next;
    HASH_ITER(hh, l->by_id, b, b_next)
        batch_free(l, b);
    struct cancel *c, *c_next;
    TAILQ_FOREACH_SAFE(c, &l->cancels, link, c_next)
        cancel_free(l, c);
    struct client *client, *client_next;
    HASH_ITER(hh, l->clients, client, client_next) {
        HASH_DEL(l->clients, client);
        free(client);
    }
    struct known_worker *k, *k_next;
    HASH_ITER(hh, l->awaited, k, k_next) {
        HASH_DEL(l->awaited, k);
        free(k);
    }
    deaths_free(l);
    purge_destroy(l);
    wire_free(&l->sink_hello);
    wire_writer_release(&l->writer);
    wire_arena_destroy(&l->arena);
    free(l->want_at);
    free(l->program);
    free(l);
    *self_p = NULL;
}

void ledger_committed(struct ledger *l, mono_t now, uint64_t sequence)
{
    l->now = now;
    struct pending *p;
    while ((p = TAILQ_FIRST(&l->pendings)) != NULL && p->sequence <= sequence) {
        TAILQ_REMOVE(&l->pendings, p, link);
        if (p->kind == PENDING_EPOCH) {
            l->epoch_committed = true;
            struct batch *b, *next;
            TAILQ_FOREACH_SAFE(b, &l->open, open_link, next)
                batch_moved(l, b);
        } else if (p->kind == PENDING_PURGE) {
            purge_answer(l, p);
        } else {
            request_committed(l, p);
        }
        if (p->kind == PENDING_CHUNK || p->kind == PENDING_SEAL)
            TAILQ_INSERT_TAIL(&l->unanswered, p, link);
        else
            free(p);
    }
    purge_committed(l, sequence);
}

void ledger_full(struct ledger *l, mono_t now, bool is_full)
{
    l->now = now;
    l->full = is_full;
}

void ledger_upward(struct ledger *l, mono_t now, ledger_peer peer, const char *address,
                   const Wire__Upward *m, struct slice body)
{
    l->now = now;
    if (m->what_case == WIRE__UPWARD__WHAT_SINK_HELLO || (l->sink_present && peer == l->sink_peer))
        sink_upward(l, peer, address, m, body);
    else
        worker_upward(l, peer, address, m);
}

static void drain_leave(struct ledger *l)
{
    if (!l->draining || l->left || !TAILQ_EMPTY(&l->pendings) || !TAILQ_EMPTY(&l->unanswered))
        return;
    l->left = true;
    l->port.leave(l->port.arg);
}

void ledger_drain(struct ledger *l, mono_t now)
{
    l->now = now;
    if (l->draining)
        return;
    l->draining = true;
    note(l, LOG_INFO, "draining", "open_batches=%" PRIu64 " workers=%u", l->counts.open_batches, HASH_COUNT(l->by_session));
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.epoch = l->epoch;
    m.what_case = WIRE__DOWNWARD__WHAT_GOODBYE;
    m.goodbye = &goodbye;
    struct worker *w, *next;
    HASH_ITER(hh, l->by_session, w, next)
        l->port.down(l->port.arg, w->peer, &m);
    if (l->sink_present)
        l->port.down(l->port.arg, l->sink_peer, &m);
    drain_leave(l);
}

mono_t ledger_tick(struct ledger *l, mono_t now, bool caught_up)
{
    l->now = now;
    /* A process that stood still has its peers' signs of life unread: reading comes before judging. */
    if (caught_up) {
        struct due *d;
        while ((d = RB_MIN(due_tree, &l->dues)) != NULL && mono_reached(now, d->at)) {
            due_clear(l, d);
            d->fire(l, d->owner);
        }
    }
    if (!l->draining)
        dispatch(l);
    /* One flush stands before both: the task's way is the longer one, so it goes first. */
    requests_answer(l);
    release_flush(l, l->draining);
    drain_leave(l);
    struct due *d = RB_MIN(due_tree, &l->dues);
    if (!caught_up)
        return mono_add(now, NS_PER_MS);
    return d == NULL ? MONO_NEVER : d->at;
}

static void clients_due(struct ledger *l, void *unused)
{
    (void)unused;
    struct client *c, *next;
    HASH_ITER(hh, l->clients, c, next) {
        if (mono_since(l->now, c->heard) > CLIENT_IDLE_NS) {
            HASH_DEL(l->clients, c);
            free(c);
        }
    }
    due_set(l, &l->clients_due, mono_add(l->now, CLIENT_IDLE_NS / 10), clients_due, NULL);
}

static void rate_due(struct ledger *l, void *unused)
{
    (void)unused;
    rate_sample(l);
    due_set(l, &l->rate_due, mono_add(l->now, NS_PER_S), rate_due, NULL);
}

/* The workers that the journal knows had their time: those that are not back are forgotten. */
static void workers_due(struct ledger *l, void *unused)
{
    (void)unused;
    if (l->waiting_for_workers)
        note(l, LOG_WARN, "workers_not_back", "count=%u", HASH_COUNT(l->awaited));
    struct known_worker *k, *next;
    HASH_ITER(hh, l->awaited, k, next) {
        char key[300];
        snprintf(key, sizeof key, "worker/%s", k->name);
        l->port.remove(l->port.arg, key);
        HASH_DEL(l->awaited, k);
        free(k);
    }
    workers_back(l);
}

int ledger_restore(struct ledger *l, const char *key, const uint8_t *value, size_t len, struct why *why)
{
    const ProtobufCMessage *m;
    if (strcmp(key, "meta/state") == 0) {
        if (wire_read_any(l->arena, &wire__journal_state__descriptor, value, len, &m, why) < 0)
            return -1;
        const Wire__JournalState *s = (const Wire__JournalState *)m;
        l->epoch = s->epoch;
        l->next_batch = s->next_batch > 0 ? s->next_batch : 1;
        l->sink_store_known = s->sink.len == WIRE_ID;
        if (l->sink_store_known)
            memcpy(l->sink_store, s->sink.data, WIRE_ID);
        return 0;
    }
    if (strncmp(key, "batch/", 6) == 0) {
        if (wire_read_any(l->arena, &wire__journal_batch__descriptor, value, len, &m, why) < 0)
            return -1;
        return restore_batch(l, (const Wire__JournalBatch *)m, why);
    }
    if (strncmp(key, "purged/", 7) == 0) {
        if (wire_read_any(l->arena, &wire__journal_purged__descriptor, value, len, &m, why) < 0)
            return -1;
        return restore_purged(l, (const Wire__JournalPurged *)m, why);
    }
    if (strncmp(key, "tally/", 6) == 0) {
        if (wire_read_any(l->arena, &wire__journal_tally__descriptor, value, len, &m, why) < 0)
            return -1;
        return restore_tally(l, (const Wire__JournalTally *)m, why);
    }
    if (strncmp(key, "worker/", 7) == 0) {
        size_t n = strlen(key + 7);
        struct known_worker *k = calloc(1, sizeof *k + n + 1);
        if (k == NULL)
            return why_set(why, "no memory for the journal's list of workers");
        memcpy(k->name, key + 7, n + 1);
        HASH_ADD_KEYPTR(hh, l->awaited, k->name, n, k);
        return 0;
    }
    return why_set(why, "the journal has a record '%s' that this version does not know; use the version that wrote it", key);
}

void ledger_restored(struct ledger *l, mono_t now)
{
    l->now = now;
    purge_restored(l);
    l->epoch++;
    pend(l, PENDING_EPOCH, state_journal(l));
    l->waiting_for_workers = l->awaited != NULL;
    if (l->waiting_for_workers)
        due_set(l, &l->workers_due, mono_add(now, 2 * l->config.loss_grace), workers_due, NULL);
    struct batch *b;
    TAILQ_FOREACH(b, &l->open, open_link) {
        cancel_reapply(l, b);
        if (b->by_wall_clock)
            batch_journal(l, b);        /* from now on this boot's clock counts, whatever the wall clock does */
    }
    clients_due(l, NULL);
    due_set(l, &l->rate_due, mono_add(now, NS_PER_S), rate_due, NULL);
    note(l, LOG_INFO, "ledger_open", "epoch=%" PRIu64 " batches=%u open=%" PRIu64 " awaited_workers=%u", l->epoch,
         HASH_CNT(hh, l->by_id), l->counts.open_batches, HASH_COUNT(l->awaited));
}

void ledger_count(const struct ledger *l, struct ledger_counts *ret)
{
    *ret = l->counts;
    ret->batches = HASH_CNT(hh, l->by_id);
    ret->workers = HASH_CNT(hh, l->by_session);
    ret->slots = l->n_slots;
    ret->queued = ret->in_flight = ret->recorded = ret->duplicates = 0;
    const struct batch *b;
    TAILQ_FOREACH(b, &l->open, open_link) {
        ret->queued += batch_queued(b) + HASH_COUNT(b->waitings) + b->in_closings;
        ret->in_flight += b->in_flight;
    }
    ret->cached_bytes = l->supply_bytes;
    ret->sink_present = l->sink_present;
    ret->draining = l->draining;
    ret->full = l->full;
}
