/* retry: a new batch of some tasks of a complete one.
 *
 * The client has picked the tasks from the sink's records, and names them piece by piece; their payloads are copied here, from
 * the old batch's frames in the journal into frames of the new one. A piece is taken in like a chunk: as far as it fits
 * into one frame, and acknowledged when it is on disk. So nothing but the new batch has to survive a crash: the client
 * goes on where that ends, and one that dies leaves an open batch behind, as any submitter does. */
#include "ventilator/ledger_private.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_COPIES 64u          /* pieces that wait for their frames to be read; one for each client, usually */

/* A piece that waits for the old batch's frames. */
struct copy {
    TAILQ_ENTRY(copy) link;
    uint64_t from, to;              /* numbers of the batches */
    ledger_peer client;
    uint64_t request;
    Wire__Span *tasks; size_t n_tasks;      /* owned */
    bool last;
};

/* The frame that is made. */
struct making {
    Wire__Tasks tasks;
    uint32_t lengths[WIRE_BLOCK];
    Wire__TaskExtra rows[WIRE_BLOCK];
    Wire__TaskExtra *extras[WIRE_BLOCK];
    struct slice parts[WIRE_BLOCK];         /* lent */
    size_t bytes;
    uint32_t most;
    char numbers[WIRE_BLOCK][WIRE_RANGE_ITEM];      /* payloads of a range */
};

static void begin_frame(struct making *m, const struct batch *to)
{
    wire__tasks__init(&m->tasks);
    m->tasks.first = to->staged;
    m->tasks.lengths = m->lengths;
    m->tasks.extras = m->extras;
    m->bytes = 0;
    m->most = WIRE_BLOCK - (uint32_t)(to->staged % WIRE_BLOCK);
}

/* false: the frame is full. */
static bool add_task(struct making *m, struct slice payload, const Wire__TaskExtra *extra)
{
    uint32_t n = m->tasks.count;
    if (n == m->most || (n > 0 && m->bytes + payload.len > WIRE_FRAME_BODY))
        return false;
    m->lengths[n] = (uint32_t)payload.len;
    m->parts[n] = payload;
    m->bytes += payload.len;
    if (extra != NULL) {
        Wire__TaskExtra *row = &m->rows[m->tasks.n_extras];
        *row = *extra;
        row->offset = n;
        m->extras[m->tasks.n_extras++] = row;
    }
    m->tasks.n_lengths = ++m->tasks.count;
    return true;
}

/* Into the journal, and into memory when it is wanted soon. */
static void append_frame(struct ledger *l, struct batch *to, struct making *m)
{
    struct buf *body = buf_new(m->bytes);
    BUG_IF_NO_MEMORY(body);
    size_t at = 0;
    for (uint32_t i = 0; i < m->tasks.count; i++) {
        if (m->parts[i].len > 0)
            memcpy(buf_data(body) + at, m->parts[i].data, m->parts[i].len);
        at += m->parts[i].len;
        to->digest = wire_digest(to->digest, m->parts[i].data, m->parts[i].len);
    }
    if (wire_write(&l->writer, &m->tasks.base) < 0)
        out_of_memory();
    struct ledger_frame frame = {.first = m->tasks.first, .count = m->tasks.count, .body = slice_of(body),
                                 .head = {.data = l->writer.bytes, .len = l->writer.len}};
    l->port.append(l->port.arg, to->number, &frame);
    if (l->supply_bytes < l->config.cache_bytes && (to->cursor == to->staged || supply_at(to, m->tasks.first - 1) != NULL))
        supply_add(l, to, &m->tasks, slice_of(body), l->now);
    to->staged += m->tasks.count;
    buf_unref(&body);
}

/* ---- from a range ---- */

static bool add_numbers(struct making *m, const Wire__Range *range, const Wire__Span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        if (m->tasks.count == m->most || !add_task(m, wire_range_item(range, span->first + i, m->numbers[m->tasks.count]), NULL))
            return false;
    }
    return true;
}

/* ---- from frames ---- */

static const Wire__TaskExtra *extra_at(const Wire__Tasks *t, uint32_t offset)
{
    for (size_t i = 0; i < t->n_extras; i++)
        if (t->extras[i]->offset == offset)
            return t->extras[i];
    return NULL;
}

static bool add_from_frame(struct making *m, const Wire__Tasks *t, struct slice body, const Wire__Span *span)
{
    size_t at = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        size_t len = wire_u32(t->lengths, t->n_lengths, i);
        bool wanted = t->first + i - span->first < span->count;
        if (wanted && !add_task(m, slice_cut(body, at, len), t->n_extras > 0 ? extra_at(t, i) : NULL))
            return false;
        at += len;
    }
    return true;
}

/* The tasks of the spans that lie in these frames, which follow one another, up to the first that doesn't. The heads are lent
 * to the frame that is made: each is read into an arena of its own. */
static int add_from_frames(struct making *m, const struct copy *c, const struct ledger_frame *frames, size_t n, struct wire_arena **arenas, struct why *why)
{
    size_t span = 0;
    for (size_t i = 0; i < n; i++) {
        const Wire__Tasks *t;
        uint64_t end = frames[i].first + frames[i].count;
        while (span < c->n_tasks && c->tasks[span].first + c->tasks[span].count <= frames[i].first)
            span++;
        if (span == c->n_tasks || c->tasks[span].first >= end)
            continue;
        if ((arenas[i] = wire_arena_new()) == NULL)
            return why_set(why, "the ventilator has no memory for this piece now; try again later");
        if (wire_read_tasks(arenas[i], frames[i].head.data, frames[i].head.len, frames[i].body.len, &t, why) < 0)
            return -1;
        for (size_t s = span; s < c->n_tasks && c->tasks[s].first < end; s++)
            if (!add_from_frame(m, t, frames[i].body, &c->tasks[s]))
                return 0;
    }
    return 0;
}

/* ---- pieces ---- */

static uint64_t tasks_of(const struct copy *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->n_tasks; i++)
        n += c->tasks[i].count;
    return n;
}

static void copy_free(struct ledger *l, struct copy *c)
{
    TAILQ_REMOVE(&l->copies, c, link);
    free(c->tasks);
    free(c);
}

static void refuse_copy(struct ledger *l, struct copy *c, Wire__RefusedCode code, const char *sentence)
{
    reply_refused(l, c->client, c->request, code, sentence);
    copy_free(l, c);
}

/* The frame that was made of it goes to disk; the answer tells how far that is. */
static void take_in(struct ledger *l, struct copy *c, struct batch *to, struct making *m)
{
    bool all = m->tasks.count == tasks_of(c);
    if (m->tasks.count > 0)
        append_frame(l, to, m);
    if (all && c->last)
        to->seal_staged = true;
    pend_for(l, PENDING_CHUNK, batch_tally(l, to), c->client, c->request, to);
    copy_free(l, c);
}

/* Room for one frame is kept from the first retry on. */
static struct making *frame_of(struct ledger *l, const struct batch *to)
{
    if (l->making == NULL)
        l->making = malloc(sizeof *l->making);
    BUG_IF_NO_MEMORY(l->making);
    begin_frame(l->making, to);
    return l->making;
}

static void load_next(struct ledger *l, struct batch *from)
{
    struct copy *c;
    TAILQ_FOREACH(c, &l->copies, link)
        if (c->from == from->number)
            break;
    if (c == NULL || from->loading)
        return;
    supply_loading(l, from, true);
    const Wire__Span *last = &c->tasks[c->n_tasks - 1];
    l->port.load(l->port.arg, from->number, c->tasks[0].first, last->first + last->count, LOAD_BYTES);
}

void copies_loaded(struct ledger *l, struct batch *from, const struct ledger_frame *frames, size_t n, const char *damage)
{
    struct copy *c;
    struct why why = {""};
    supply_loading(l, from, false);
    TAILQ_FOREACH(c, &l->copies, link)
        if (c->from == from->number)
            break;
    if (c == NULL)
        return;
    struct batch *to = batch_by_number(l, c->to);
    struct wire_arena **arenas = calloc(n + 1, sizeof *arenas);
    BUG_IF_NO_MEMORY(arenas);
    if (to == NULL || to->complete || to->seal_staged) {
        refuse_copy(l, c, WIRE__REFUSED_CODE__REFUSED, "the batch of this retry takes no more: it was sealed or cancelled meanwhile");
    } else if (damage != NULL) {
        why_set(&why, "the tasks of batch %s can't be read from the journal: %.400s", from->short_id, damage);
        refuse_copy(l, c, WIRE__REFUSED_CODE__REFUSED, why.text);
    } else {
        struct making *m = frame_of(l, to);
        int r = add_from_frames(m, c, frames, n, arenas, &why);
        if (r < 0 || m->tasks.count == 0)
            refuse_copy(l, c, r < 0 ? WIRE__REFUSED_CODE__REFUSED : WIRE__REFUSED_CODE__NOT_NOW,
                        r < 0 ? why.text : "the tasks of this piece could not be read now; try again");
        else
            take_in(l, c, to, m);
    }
    for (size_t i = 0; i < n; i++)
        wire_arena_destroy(&arenas[i]);
    free(arenas);
    load_next(l, from);
}

void copies_forget(struct ledger *l, const struct batch *b)
{
    struct copy *c, *next;
    TAILQ_FOREACH_SAFE(c, &l->copies, link, next)
        if (c->from == b->number || c->to == b->number)
            refuse_copy(l, c, WIRE__REFUSED_CODE__UNKNOWN_BATCH, "the batch of this retry, or the one that it copies from, was purged meanwhile");
}

void copies_destroy(struct ledger *l)
{
    struct copy *c, *next;
    TAILQ_FOREACH_SAFE(c, &l->copies, link, next)
        copy_free(l, c);
    free(l->making);
}

/* ---- requests ---- */

static void refuse_piece(struct ledger *l, ledger_peer peer, uint64_t request, Wire__RefusedCode code, const char *sentence, uint64_t next)
{
    Wire__Refused refused = WIRE__REFUSED__INIT;
    refused.code = code;
    refused.sentence = (char *)(uintptr_t)sentence;
    refused.next_index = next;
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_REFUSED;
    m.refused = &refused;
    reply_send(l, peer, &m);
}

static struct copy *copy_new(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Retry *r, const struct batch *from, const struct batch *to)
{
    struct copy *c = calloc(1, sizeof *c);
    BUG_IF_NO_MEMORY(c);
    c->from = from->number;
    c->to = to->number;
    c->client = peer;
    c->request = request;
    c->last = r->last;
    c->tasks = calloc(r->n_tasks + 1, sizeof *c->tasks);
    BUG_IF_NO_MEMORY(c->tasks);
    for (; c->n_tasks < r->n_tasks; c->n_tasks++)
        c->tasks[c->n_tasks] = *r->tasks[c->n_tasks];
    TAILQ_INSERT_TAIL(&l->copies, c, link);
    return c;
}

static void on_piece(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Retry *r, struct batch *from, struct batch *to)
{
    const struct copy *waiting;
    size_t n = 0;
    if (to->complete || to->cancelled || to->seal_staged) {
        pend_for(l, PENDING_CHUNK, batch_tally(l, to), peer, request, to);      /* its state tells the client */
        return;
    }
    if (r->first != to->staged) {
        refuse_piece(l, peer, request, WIRE__REFUSED_CODE__OUT_OF_ORDER, "this piece is not the next one of its batch; continue from next_index", to->staged);
        return;
    }
    if (r->n_tasks > 0 && r->tasks[r->n_tasks - 1]->first + r->tasks[r->n_tasks - 1]->count > from->admitted) {
        refuse_piece(l, peer, request, WIRE__REFUSED_CODE__BAD_REQUEST, "this piece names tasks that the old batch doesn't have", 0);
        return;
    }
    TAILQ_FOREACH(waiting, &l->copies, link) {
        n++;
        if (waiting->to == to->number || n == WAITING_COPIES) {
            refuse_piece(l, peer, request, WIRE__REFUSED_CODE__NOT_NOW, "another piece is being copied; try again", 0);
            return;
        }
    }
    struct copy *c = copy_new(l, peer, request, r, from, to);
    if (r->n_tasks > 0 && from->options->range == NULL) {
        load_next(l, from);
        return;
    }
    struct making *m = frame_of(l, to);
    for (size_t i = 0; i < c->n_tasks && add_numbers(m, from->options->range, &c->tasks[i]); i++)
        ;
    take_in(l, c, to, m);
}

/* The same options, but those that said where the tasks came from. */
static void make_batch_again(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Retry *r, const struct batch *from)
{
    Wire__Options options = *from->options;
    Wire__Submit submit = WIRE__SUBMIT__INIT;
    options.range = NULL;
    options.parent = NULL;
    options.detach = false;
    submit.submission = r->submission;
    submit.options = &options;
    request_submit(l, peer, request, &submit);
}

void request_retry(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Retry *r)
{
    struct why why = {""};
    struct batch *from = batch_find(l, r->ref, &why), *to;
    HASH_FIND(hh_submission, l->by_submission, r->submission.data, WIRE_ID, to);
    if (from == NULL) {
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, why.text);
    } else if (!from->complete) {
        why_set(&why, "batch %s is not complete: what has not ended can't be tried again; wait for it, or cancel it", from->short_id);
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__REFUSED, why.text);
    } else if (r->n_tasks == 0 && !r->last) {
        make_batch_again(l, peer, request, r, from);
    } else if (to == NULL) {
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, "the batch of this retry is not here; begin it anew");
    } else {
        on_piece(l, peer, request, r, from, to);
    }
}
