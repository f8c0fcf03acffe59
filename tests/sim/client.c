/* The client: it submits what its plans say, chunk by chunk, goes on after every break and after its own
 * crash, cancels, extends, and at the end compares counts. What it knows of the answers is what is checked. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

#define PATIENCE   (6 * S)
#define MOST_AWAY  3u                  /* chunks without an answer */

enum { ASK_HELLO = 1, ASK_SUBMIT, ASK_CHUNK, ASK_SEAL, ASK_CANCEL, ASK_EXTEND, ASK_STATUS, ASK_PURGE };
#define N_ASKED (sizeof((struct client *)0)->asked / sizeof((struct client *)0)->asked[0])

struct plan *plan_of_batch(struct world *w, const uint8_t *id)
{
    for (size_t i = 0; i < MAX_PLANS; i++)
        if (w->plans[i].known && memcmp(w->plans[i].id, id, WIRE_ID) == 0)
            return &w->plans[i];
    return NULL;
}

/* ---- asking ---- */

static bool ask(struct client *c, unsigned plan, int kind, Wire__Request *m, struct slice body, bool with_body)
{
    struct world *w = c->p.world;
    for (size_t i = 0; i < N_ASKED; i++) {
        if (c->asked[i].id != 0)
            continue;
        m->id = ++c->next_request;
        if (!dial_is_up(&c->dial) || !port_works(&c->p) || link_send(c->dial.link, DIALER, &m->base, body, with_body) < 0)
            return false;
        c->asked[i].id = m->id;
        c->asked[i].plan = plan;
        c->asked[i].kind = kind;
        c->asked[i].at = w->now;
        return true;
    }
    return false;
}

static void forget_asked(struct client *c) { memset(c->asked, 0, sizeof c->asked); }

static void start_over(struct client *c)
{
    forget_asked(c);
    for (size_t i = 0; i < MAX_PLANS; i++) {
        struct plan *p = &c->p.world->plans[i];
        p->stage = PLAN_NEW;
        p->waiting = p->cancel_sent = p->extend_sent = p->status_sent = p->purge_sent = false;
        p->on_the_way = 0;
    }
}

static void say_hello(struct client *c)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = (char *)(uintptr_t)"client sim";
    m.what_case = WIRE__REQUEST__WHAT_HELLO;
    m.hello = &hello;
    start_over(c);
    c->welcomed = false;
    ask(c, 0, ASK_HELLO, &m, (struct slice){0}, false);
}

static void submit(struct client *c, unsigned i)
{
    struct plan *p = &c->p.world->plans[i];
    Wire__Submit s = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    s.submission = wire_id_bytes(p->submission);
    if (p->with_key && !(p->known && mutate(c->p.world, MUTANT_KEY_FORGOTTEN)))
        s.key = p->key;
    Wire__Options options = p->options;
    Wire__HaltRule early = p->halt;
    if (p->options.halt != NULL && mutate(c->p.world, MUTANT_HALT_IGNORED))
        options.halt = NULL;
    early.failures = (p->halt.failures + 1) / 2;
    if (p->halt.failures > 1 && mutate(c->p.world, MUTANT_HALT_EARLY))
        options.halt = &early;
    s.options = &options;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &s;
    if (p->asked_at == 0)
        p->asked_at = c->p.world->now;
    p->waiting = ask(c, i, ASK_SUBMIT, &m, (struct slice){0}, false);
}

/* The item of a task is always the same, so that a client that comes back submits the same input. */
static size_t item_of(unsigned plan, uint64_t index, char *out, size_t size)
{
    if (index >= 5000 && size >= 40) {           /* of many: these should cost little */
        memset(out, '.', 40);
        memcpy(out, &index, sizeof index);
        return 40;
    }
    int n = snprintf(out, size, "item %u/%" PRIu64 " %.*s", plan, index, (int)(index * 7 % 23), "with some words behind it");
    return (size_t)n;
}

static uint64_t digest_of(unsigned plan, uint64_t n)
{
    uint64_t digest = 0;
    char text[64];
    for (uint64_t i = 0; i < n; i++)
        digest = wire_digest(digest, text, item_of(plan, i, text, sizeof text));
    return digest;
}

static void send_chunk(struct client *c, unsigned i)
{
    struct world *w = c->p.world;
    struct plan *p = &w->plans[i];
    static uint32_t lengths[WIRE_BLOCK];
    static uint8_t body[WIRE_BLOCK * 64];
    uint64_t n = p->total >= 100000 ? WIRE_BLOCK : 1 + below(w, p->total > 200 ? 200 : 30), block_left = WIRE_BLOCK - p->next % WIRE_BLOCK;
    n = n < p->total - p->next ? n : p->total - p->next;
    n = n < block_left ? n : block_left;
    size_t len = 0;
    uint64_t digest = p->digest;
    for (uint64_t k = 0; k < n; k++) {
        lengths[k] = (uint32_t)item_of(i, p->next + k, (char *)body + len, 64);
        digest = wire_digest(digest, body + len, lengths[k]);
        len += lengths[k];
    }
    Wire__Tasks t = WIRE__TASKS__INIT;
    t.first = p->next;
    t.count = (uint32_t)n;
    t.n_lengths = n;
    t.lengths = lengths;
    Wire__Chunk chunk = WIRE__CHUNK__INIT;
    chunk.batch = wire_id_bytes(p->id);
    chunk.tasks = &t;
    chunk.digest_before = p->digest;
    chunk.digest_after = digest;
    chunk.last = p->next + n == p->total && !p->seal_apart && !p->never_sealed;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_CHUNK;
    m.chunk = &chunk;
    if (!ask(c, i, ASK_CHUNK, &m, (struct slice){NULL, body, len}, true))
        return;
    p->on_the_way++;
    p->next += n;
    p->digest = digest;
}

static void send_seal(struct client *c, unsigned i)
{
    struct plan *p = &c->p.world->plans[i];
    Wire__Seal seal = WIRE__SEAL__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    if (p->died)
        seal.ref = p->short_id;
    else
        seal.batch = wire_id_bytes(p->id);
    m.what_case = WIRE__REQUEST__WHAT_SEAL;
    m.seal = &seal;
    p->waiting = ask(c, i, ASK_SEAL, &m, (struct slice){0}, false);
}

static void send_cancel(struct client *c, unsigned i)
{
    struct world *w = c->p.world;
    struct plan *p = &w->plans[i];
    Wire__Cancel cancel = WIRE__CANCEL__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    Wire__Span *span = &p->cancel_span;
    cancel.ref = p->short_id;
    cancel.reason = (char *)(uintptr_t)"chance";
    if (!p->whole_cancel) {
        uint64_t known = p->truth->acknowledged;
        if (known == 0) {
            p->cancel_done = p->stage == PLAN_SEALED;
            return;
        }
        if (p->cancel_span.count == 0) {
            wire__span__init(&p->cancel_span);
            p->cancel_span.first = below(w, known);
            p->cancel_span.count = 1 + below(w, known - p->cancel_span.first);
        }
        cancel.n_tasks = 1;
        cancel.tasks = &span;
    }
    m.what_case = WIRE__REQUEST__WHAT_CANCEL;
    m.cancel = &cancel;
    p->cancel_sent = ask(c, i, ASK_CANCEL, &m, (struct slice){0}, false);
    trace(w, c->p.name, "cancels %s of %s", p->whole_cancel ? "all" : "some", p->short_id);
}

static void send_extend(struct client *c, unsigned i)
{
    struct plan *p = &c->p.world->plans[i];
    Wire__Extend extend = WIRE__EXTEND__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    extend.ref = p->short_id;
    extend.deadline_us = p->extend_us;
    m.what_case = WIRE__REQUEST__WHAT_EXTEND;
    m.extend = &extend;
    p->extend_sent = ask(c, i, ASK_EXTEND, &m, (struct slice){0}, false);
    int64_t from = c->p.world->now + (int64_t)p->extend_us * US - (int64_t)p->options.min_runtime_us * US;
    if (p->extend_sent && from < p->truth->deadline_from)
        p->truth->deadline_from = from;
    if (p->extend_sent && p->truth->deadline_by != 0) {
        p->truth->deadline_by = 0;          /* not known before the answer */
        p->truth->deadline_version++;
    }
}

static void send_status(struct client *c, unsigned i)
{
    struct plan *p = &c->p.world->plans[i];
    Wire__Status status = WIRE__STATUS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    status.ref = p->short_id;
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &status;
    p->status_sent = ask(c, i, ASK_STATUS, &m, (struct slice){0}, false);
}

static void send_purge(struct client *c, unsigned i)
{
    struct plan *p = &c->p.world->plans[i];
    Wire__Purge purge = WIRE__PURGE__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    purge.ref = p->short_id;
    m.what_case = WIRE__REQUEST__WHAT_PURGE;
    m.purge = &purge;
    p->purge_sent = ask(c, i, ASK_PURGE, &m, (struct slice){0}, false);
    p->purge_asked |= p->purge_sent;
}

/* ---- going on ---- */

/* Nothing more is meant to be done with it but this. */
static bool may_purge(const struct plan *p)
{
    return p->purges && p->status_done && (!p->resubmits || p->resubmitted) && (p->cancel_after == 0 || p->cancel_done)
           && (p->extend_after == 0 || p->extend_done);
}

/* Its submitter stops half way. Later somebody goes on with the batch, or ends it. */
static void die_half_way(struct client *c, struct plan *p)
{
    struct world *w = c->p.world;
    static const enum cover kinds[] = {[DIES_CONTINUED] = COVER_CONTINUED, [DIES_CANCELLED] = COVER_CANCELLED_OPEN,
                                       [DIES_SEALED] = COVER_SEALED_OPEN};
    p->died = true;
    p->dead_until = w->now + p->dead_for;
    cover(w, COVER_SUBMITTER_DIED);
    cover(w, kinds[p->submitter]);
    trace(w, c->p.name, "nobody submits to %s any more", p->short_id);
    if (p->submitter == DIES_CONTINUED)
        p->stage = PLAN_NEW;
    if (p->submitter == DIES_CANCELLED) {
        p->cancel_after = 1;
        p->whole_cancel = true;
        p->cancel_done = p->cancel_sent = false;
    }
}

static bool submits(const struct plan *p) { return !p->died || p->submitter == DIES_CONTINUED; }

static void go_on(struct client *c, unsigned i)
{
    struct world *w = c->p.world;
    struct plan *p = &w->plans[i];
    if (w->now < p->dead_until || w->now < p->again_at || p->key_refused)
        return;
    if (p->purged || p->perhaps_purged) {
        if (!p->waiting)
            submit(c, i);
        return;
    }
    if (p->stage == PLAN_NEW) {
        if (!p->waiting)
            submit(c, i);
        return;
    }
    if (p->stage == PLAN_SUBMITTED && p->submitter != LIVES_ON && !p->died && p->next >= p->dies_at) {
        die_half_way(c, p);
        return;
    }
    if (p->stage == PLAN_SUBMITTED && !submits(p)) {
        if (p->submitter == DIES_SEALED && !p->waiting)
            send_seal(c, i);
    } else if (p->stage == PLAN_SUBMITTED) {
        if (p->next < p->total && p->on_the_way < MOST_AWAY)
            send_chunk(c, i);
        else if (p->next >= p->total && p->on_the_way == 0 && !p->never_sealed && !p->waiting)
            send_seal(c, i);
    }
    if (p->cancel_after > 0 && !p->cancel_done && !p->cancel_sent && w->now >= p->answered_at + p->cancel_after)
        send_cancel(c, i);
    if (p->extend_after > 0 && !p->extend_done && !p->extend_sent && w->now >= p->answered_at + p->extend_after)
        send_extend(c, i);
    if (p->truth->complete && !p->status_done && !p->status_sent)
        send_status(c, i);
    if (p->status_done && p->resubmits && !p->resubmitted && !p->waiting)
        submit(c, i);
    if (may_purge(p) && !p->purge_sent && w->now >= p->purge_at)
        send_purge(c, i);
}

void client_turn(struct client *c)
{
    struct world *w = c->p.world;
    sleep_until(&c->p, mono_add(clock_of(&c->p), between(w, 5 * MS, 60 * MS)));
    if (!dial_is_up(&c->dial))
        return;
    for (size_t i = 0; i < N_ASKED; i++)
        if (c->asked[i].id != 0 && w->now - c->asked[i].at > PATIENCE) {
            trace(w, c->p.name, "hears nothing, connects anew");
            dial_drop(&c->dial);
            start_over(c);
            dial_want(&c->dial);
            return;
        }
    for (unsigned i = 0; c->welcomed && i < MAX_PLANS; i++)
        if (w->plans[i].used && w->now >= w->plans[i].submit_at)
            go_on(c, i);
}

/* ---- answers ---- */

static void on_submitted(struct client *c, unsigned i, const Wire__Submitted *s)
{
    struct world *w = c->p.world;
    struct plan *p = &w->plans[i];
    p->perhaps_purged = false;
    p->status_sent = false;
    if (p->purged)
        violated(w, "purge", "batch %s was purged; its submission makes batch %s", p->short_id, s->short_id);
    if (p->known && memcmp(p->id, s->batch.data, WIRE_ID) != 0)
        violated(w, "I1", "submission %u was batch %s and is batch %s now: acknowledged tasks are lost, or run twice", i, p->short_id, s->short_id);
    memcpy(p->id, s->batch.data, WIRE_ID);
    snprintf(p->short_id, sizeof p->short_id, "%s", s->short_id);
    p->truth = truth_of(w, p->id);
    snprintf(p->truth->short_id, sizeof p->truth->short_id, "%s", s->short_id);
    if (!p->known) {
        p->answered_at = w->now;
        int64_t bound = (int64_t)p->deadline.us * US;
        if (p->options.deadline != NULL)
            check_deadline(w, p->truth, p->asked_at + bound - (int64_t)p->options.min_runtime_us * US, w->now + bound,
                           (int64_t)p->options.grace_us * US);
    }
    if (p->resubmits && p->status_done && !p->resubmitted && s->state == WIRE__STATE__OPEN)
        violated(w, "I1", "batch %s is complete and is offered for more tasks", p->short_id);
    if (p->status_done && p->resubmits && !p->resubmitted) {
        p->resubmitted = true;
        cover(w, COVER_RESUBMITTED);
    }
    p->known = true;
    p->waiting = false;
    p->next = s->next_index;
    if (!p->range && s->digest != digest_of(i, s->next_index))
        violated(w, "I1", "batch %s has other items before %" PRIu64 " than were submitted", p->short_id, s->next_index);
    p->digest = s->digest;
    check_acknowledged(w, p->truth, s->next_index);
    p->stage = s->state == WIRE__STATE__OPEN ? PLAN_SUBMITTED : PLAN_SEALED;
}

static void is_purged(struct world *w, struct plan *p, enum cover why)
{
    cover(w, why);
    if (p->known)
        check_purged(w, p);
    p->purged = true;
}

/* false: that it is purged is no reason for this. */
static bool refused_as_purged(struct client *c, unsigned i, int kind, const Wire__Refused *r)
{
    struct world *w = c->p.world;
    struct plan *p = &w->plans[i];
    /* Not known: it was submitted, it ended and was purged before an answer came through. */
    bool may_be = p->purge_asked || (w->retain > 0 && (!p->known || p->truth->complete));
    if (kind == ASK_PURGE && (r->code == WIRE__REFUSED_CODE__REFUSED || r->code == WIRE__REFUSED_CODE__NOT_NOW)) {
        cover(w, COVER_PURGE_WAITS);            /* a worker holds something of it, or may; or the disk is full */
        p->purge_sent = false;
        p->purge_at = w->now + S;
        return true;
    }
    if (!may_be || (r->code != WIRE__REFUSED_CODE__UNKNOWN_BATCH && (r->code != WIRE__REFUSED_CODE__REFUSED || kind == ASK_EXTEND)))
        return false;
    if (kind != ASK_SUBMIT) {                   /* it may not be on disk yet: nothing depends on it */
        p->perhaps_purged = true;
        p->waiting &= kind != ASK_SEAL;
        return true;
    }
    if (!p->purged)
        is_purged(w, p, p->purge_asked ? COVER_PURGED : COVER_RETAINED);
    cover(w, COVER_PURGE_KEY);
    p->key_refused = true;
    p->waiting = false;
    return true;
}

static void on_refused(struct client *c, unsigned i, int kind, const Wire__Refused *r)
{
    struct world *w = c->p.world;
    struct plan *p = &w->plans[i];
    trace(w, c->p.name, "is refused (%d, code %d): %s", kind, r->code, r->sentence);
    if (refused_as_purged(c, i, kind, r))
        return;
    if (r->code == WIRE__REFUSED_CODE__UNKNOWN_BATCH) {
        violated(w, "I1", "batch %s was acknowledged and is unknown now: %s", p->short_id, r->sentence);
    } else if (kind == ASK_EXTEND) {
        p->extend_done = true;
        if (p->options.deadline != NULL)
            check_deadline(w, p->truth, p->truth->deadline_from, p->answered_at + (int64_t)p->deadline.us * US,
                           (int64_t)p->options.grace_us * US);
    } else if (r->code == WIRE__REFUSED_CODE__OUT_OF_ORDER || r->code == WIRE__REFUSED_CODE__NOT_NOW) {
        p->stage = PLAN_NEW;
        p->waiting = p->cancel_sent = p->extend_sent = p->status_sent = p->purge_sent = false;
        p->on_the_way = 0;
        p->again_at = w->now + (r->code == WIRE__REFUSED_CODE__NOT_NOW ? between(w, 20 * MS, 500 * MS) : 0);
        cover(w, COVER_NOT_NOW);
        for (size_t k = 0; k < N_ASKED; k++)
            if (c->asked[k].plan == i && c->asked[k].kind != ASK_HELLO)
                c->asked[k].id = 0;
    } else {
        violated(w, "wire", "a request (%d) was refused: %s", kind, r->sentence);
    }
}

static void on_admitted(struct client *c, unsigned i, int kind, const Wire__Admitted *a)
{
    struct plan *p = &c->p.world->plans[i];
    if (kind == ASK_CHUNK && p->on_the_way > 0)
        p->on_the_way--;
    if (kind == ASK_SEAL)
        p->waiting = false;
    check_acknowledged(c->p.world, p->truth, a->next_index);
    if (a->state != WIRE__STATE__OPEN)
        p->stage = PLAN_SEALED;
}

static void on_reply(struct client *c, unsigned i, int kind, const Wire__Reply *m)
{
    struct world *w = c->p.world;
    struct plan *p = &w->plans[i];
    switch (m->what_case) {
    case WIRE__REPLY__WHAT_WELCOME:   c->welcomed = true; break;
    case WIRE__REPLY__WHAT_SAY_HELLO: say_hello(c); break;
    case WIRE__REPLY__WHAT_REFUSED:   on_refused(c, i, kind, m->refused); break;
    case WIRE__REPLY__WHAT_SUBMITTED: on_submitted(c, i, m->submitted); break;
    case WIRE__REPLY__WHAT_ADMITTED:  on_admitted(c, i, kind, m->admitted); break;
    case WIRE__REPLY__WHAT_CANCELLED:
        p->cancel_done = true;
        break;
    case WIRE__REPLY__WHAT_EXTENDED:
        p->extend_done = true;
        check_deadline(w, p->truth, p->truth->deadline_from, w->now + (int64_t)m->extended->deadline_left_us * US,
                       (int64_t)p->options.grace_us * US);
        break;
    case WIRE__REPLY__WHAT_STATUS:
        p->status_sent = false;
        if (m->status->n_batches == 1 && m->status->batches[0]->state == WIRE__STATE__COMPLETE) {
            p->status_done = true;
            check_status(w, p->truth, m->status->batches[0]);
        }
        break;
    case WIRE__REPLY__WHAT_PURGED:
        p->purge_sent = false;
        if (!p->purged)
            is_purged(w, p, COVER_PURGED);
        break;
    default:
        violated(w, "wire", "an answer that nobody asked for: %d", m->what_case);
    }
}

void client_message(struct client *c, const struct arrival *a)
{
    struct world *w = c->p.world;
    struct why why = {""};
    const Wire__Reply *m;
    if (a->link != c->dial.link)
        return;
    if (wire_read_reply(c->p.arena, a->head, a->head_len, a->body.len, &m, &why) < 0) {
        violated(w, "wire", "a reply is malformed: %s", why.text);
        return;
    }
    for (size_t i = 0; i < N_ASKED; i++) {
        if (c->asked[i].id != m->id || m->id == 0)
            continue;
        c->asked[i].id = 0;
        on_reply(c, c->asked[i].plan, c->asked[i].kind, m);
        return;
    }
}

void client_notice(struct client *c, struct link *l, bool is_up)
{
    if (l != c->dial.link)
        return;
    c->welcomed = false;
    if (is_up)
        say_hello(c);
    else
        start_over(c);
}

bool client_is_done(const struct client *c)
{
    for (size_t i = 0; i < MAX_PLANS; i++) {
        const struct plan *p = &c->p.world->plans[i];
        if (p->purged && !purge_is_over(c->p.world, p))
            return false;
        if (p->purged && p->key_refused)
            continue;
        if (p->purges && p->used && !p->key_refused)
            return false;
        if (p->used && (!p->known || !p->truth->complete || !p->status_done || (p->cancel_after > 0 && !p->cancel_done)
                        || (p->resubmits && !p->resubmitted)))
            return false;
    }
    return true;
}

void client_start(struct client *c)
{
    struct world *w = c->p.world;
    start_over(c);
    /* Another life knows its key, but not the number that it gave to its submission. */
    for (size_t i = 0; i < MAX_PLANS; i++)
        for (size_t k = 0; k < WIRE_ID && w->plans[i].with_key; k++)
            w->plans[i].submission[k] = (uint8_t)chance(w);
    c->welcomed = false;
    c->next_request = 0;
    c->dial = (struct dial){.kind = LINK_CLIENT, .from = &c->p, .to = &w->vent.p};
    dial_want(&c->dial);
}

void client_end(struct client *c) { forget_asked(c); }
