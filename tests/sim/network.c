/* Connections between processes. Within a connection everything keeps its order, between connections
 * nothing does. Every message is packed, and unpacked by whoever gets it, so that nothing is shared.
 *
 * A connection that breaks loses a part of what was under way, at a random place, in each direction; each
 * end learns of it behind the last thing that it still gets, sometimes seconds later: a listener may read what a
 * dead connection brought after the hello of the next one. A partition holds everything back, as TCP does, the
 * word of the end as well; when it lasts, whoever has something to send gives up (ZMQ_TCP_MAXRT). A host that
 * vanishes says nothing. */
#include "tests/sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

#define RESULTS_ROOM  12u              /* messages that a connection to the sink takes before it is full */
#define MAXRT         (10 * S)
#define MOST_LATE     (3 * S)

struct message {
    struct message *next;
    enum { IS_DATA, IS_UP, IS_CLOSED } kind;
    int64_t arrives;
    size_t head_len;
    struct buf *body;
    bool with_body, local;             /* local: the word of its own kernel, which no partition stops */
    uint8_t head[];
};

struct way {                           /* towards one end */
    struct message *first, **tail;
    size_t n;
    int64_t last;
};

struct link {
    struct link *next;
    struct world *world;
    enum link_kind kind;
    uint32_t peer;
    uint64_t lane;
    uint32_t port;
    struct process *ends[2];
    uint32_t lives[2];
    bool up_told[2], closed_told[2], broken;
    int64_t delay, stalled_until;
    struct dial *dial;
    struct way ways[2];
};

uint32_t link_peer(const struct link *l) { return l->peer; }
uint64_t link_lane(const struct link *l) { return l->lane; }
enum link_kind link_kind(const struct link *l) { return l->kind; }
struct process *link_end(const struct link *l, int end) { return l->ends[end]; }
bool link_alive(const struct link *l) { return !l->broken; }

static bool end_lives(const struct link *l, int end)
{
    return l->ends[end]->alive && l->ends[end]->life == l->lives[end];
}

static void message_free(struct message *m)
{
    buf_unref(&m->body);
    free(m);
}

/* ---- arriving ---- */

static void deliver(struct link *l, int end, struct message *m)
{
    struct process *p = l->ends[end];
    struct arrival a = {l, m->head, m->head_len, m->body != NULL ? slice_of(m->body) : (struct slice){0}, m->with_body};
    if (m->kind == IS_UP)
        l->up_told[end] = true;
    if (m->kind == IS_CLOSED)
        l->closed_told[end] = true;
    bool data = m->kind == IS_DATA, is_up = m->kind == IS_UP;
    if (m->kind == IS_CLOSED && !l->up_told[end])
        return;                 /* what was never up is not told to be down */
    switch (p->role) {
    case ROLE_VENT:   data ? vent_message((struct vent *)p, &a) : vent_notice((struct vent *)p, l, is_up); break;
    case ROLE_SINK:   data ? sink_message((struct sink *)p, &a) : sink_notice((struct sink *)p, l, is_up); break;
    case ROLE_CLIENT: data ? client_message((struct client *)p, &a) : client_notice((struct client *)p, l, is_up); break;
    case ROLE_WORKER: data ? worker_message((struct worker *)p, &a) : worker_notice((struct worker *)p, l, is_up); break;
    }
}

static bool held_back(const struct link *l, int end)
{
    const struct world *w = l->world;
    if (!l->broken && w->now < l->stalled_until)
        return true;
    if (w->cut[l->ends[!end]->number][l->ends[end]->number] && !l->ways[end].first->local)
        return true;
    return l->kind == LINK_RESULTS && end == LISTENER && w->sink.paused;
}

static void dial_again(struct dial *d);

static void closed_at_dialer(struct link *l)
{
    struct dial *d = l->dial;
    if (d->link != l)
        return;
    d->link = NULL;
    dial_again(d);
}

static void pump(struct world *w, struct event *e)
{
    struct link *l = e->p;
    int end = (int)e->a;
    struct way *way = &l->ways[end];
    while (way->first != NULL && way->first->arrives <= w->now && !held_back(l, end) && end_lives(l, end)) {
        struct message *m = way->first;
        way->first = m->next;
        if (way->first == NULL)
            way->tail = &way->first;
        way->n--;
        bool closed = m->kind == IS_CLOSED;
        deliver(l, end, m);
        message_free(m);
        if (closed && end == DIALER)
            closed_at_dialer(l);
    }
    if (l->kind == LINK_RESULTS && way->n < RESULTS_ROOM / 4 && end_lives(l, DIALER) && l->ends[DIALER]->role == ROLE_WORKER)
        worker_has_room((struct worker *)l->ends[DIALER]);
}

static void plan_pump(struct link *l, int end, int64_t at)
{
    struct event *e = after(l->world, at - l->world->now, l->ends[end], pump);
    e->p = l;
    e->a = (uint64_t)end;
}

static void put(struct link *l, int end, struct message *m)
{
    struct world *w = l->world;
    struct way *way = &l->ways[end];
    int64_t delay = l->delay / 2 + (int64_t)below(w, (uint64_t)l->delay);
    if (one_in(w, 200))
        delay += between(w, 0, 300 * MS);
    m->arrives = w->now + delay > way->last ? w->now + delay : way->last;
    way->last = m->arrives;
    *way->tail = m;
    way->tail = &m->next;
    way->n++;
    plan_pump(l, end, m->arrives);
}

static void put_notice_of(struct link *l, int end, bool is_up, bool local)
{
    struct message *m = calloc(1, sizeof *m);
    BUG_IF(m == NULL);
    m->kind = is_up ? IS_UP : IS_CLOSED;
    m->local = local;
    put(l, end, m);
}

static void put_notice(struct link *l, int end, bool is_up) { put_notice_of(l, end, is_up, false); }

void links_pump(struct world *w)
{
    for (struct link *l = w->links; l != NULL; l = l->next)
        for (int end = 0; end < 2; end++)
            if (l->ways[end].first != NULL && end_lives(l, end))
                plan_pump(l, end, l->ways[end].first->arrives > w->now ? l->ways[end].first->arrives : w->now);
}

/* ---- sending ---- */

int link_send(struct link *l, int end, const ProtobufCMessage *message, struct slice body, bool with_body)
{
    if (l == NULL || l->closed_told[end] || (end == DIALER && !l->up_told[end]))
        return -EAGAIN;
    struct way *way = &l->ways[!end];
    if (l->kind == LINK_RESULTS && end == DIALER && way->n >= RESULTS_ROOM) {
        cover(l->world, COVER_SINK_BUSY);
        return -EAGAIN;
    }
    struct process *p = l->ends[end];
    if (p->doomed)
        return 0;
    int rc = wire_write(&p->writer, message);
    BUG_IF(rc < 0);
    if (l->broken)
        return 0;
    struct message *m = malloc(sizeof *m + p->writer.len);
    BUG_IF(m == NULL);
    *m = (struct message){.kind = IS_DATA, .head_len = p->writer.len, .with_body = with_body};
    memcpy(m->head, p->writer.bytes, p->writer.len);
    if (with_body && body.len > 0)
        m->body = buf_copy(body.data, body.len);
    put(l, !end, m);
    return 0;
}

struct link *link_of_peer(struct world *w, enum link_kind kind, uint32_t peer)
{
    struct link *l = w->links;
    while (l != NULL && (l->peer != peer || l->kind != kind))
        l = l->next;
    return l != NULL && end_lives(l, LISTENER) ? l : NULL;
}

/* ---- breaking ---- */

static void lose_some(struct link *l, int end)
{
    struct way *way = &l->ways[end];
    size_t keep = below(l->world, way->n + 1);
    struct message **m = &way->first;
    for (size_t i = 0; i < keep; i++)
        m = &(*m)->next;
    struct message *rest = *m;
    *m = NULL;
    way->tail = m;
    way->n = keep;
    while (rest != NULL) {
        struct message *next = rest->next;
        message_free(rest);
        rest = next;
    }
}

static void be_late(struct link *l, int end, int64_t delay)
{
    struct way *way = &l->ways[end];
    for (struct message *m = way->first; m != NULL; m = m->next)
        m->arrives += delay;
    way->last = (way->last > l->world->now ? way->last : l->world->now) + delay;
}

static void lose_all(struct way *way)
{
    while (way->first != NULL) {
        struct message *m = way->first;
        way->first = m->next;
        message_free(m);
    }
    way->tail = &way->first;
    way->n = 0;
}

/* Nobody says so before `silent` is over; an end of which `gives_up` is true knows by itself, and gets nothing
 * that a partition held back. */
static void break_after(struct link *l, int64_t silent, const bool gives_up[2])
{
    struct world *w = l->world;
    if (l->broken)
        return;
    l->broken = true;
    trace(w, "net", "%s and %s are disconnected (kind %d, peer %u)", l->ends[0]->name, l->ends[1]->name, l->kind, l->peer);
    for (int end = 0; end < 2; end++) {
        if (gives_up[end]) {
            if (w->cut[l->ends[!end]->number][l->ends[end]->number])
                lose_all(&l->ways[end]);
            if (end_lives(l, end) && !l->closed_told[end])
                put_notice_of(l, end, false, true);
            continue;
        }
        lose_some(l, end);
        if (!end_lives(l, end) || l->closed_told[end])
            continue;
        if (end == LISTENER && l->ways[end].first != NULL && one_in(w, 6)) {
            cover(w, COVER_LINK_LATE);
            be_late(l, end, between(w, 0, MOST_LATE));
        }
        if (silent > 0)
            l->ways[end].last = (l->ways[end].last > w->now ? l->ways[end].last : w->now) + silent;
        put_notice(l, end, false);
    }
}

void link_break(struct link *l) { break_after(l, 0, (const bool[2]){false, false}); }

static bool is_of(const struct link *l, const struct process *p) { return l->ends[0] == p || l->ends[1] == p; }

void links_break_of(struct process *p)
{
    for (struct link *l = p->world->links; l != NULL; l = l->next)
        if (is_of(l, p))
            link_break(l);
}

void links_vanish_of(struct process *p, int64_t ns)
{
    for (struct link *l = p->world->links; l != NULL; l = l->next) {
        if (!is_of(l, p) || l->broken)
            continue;
        cover(p->world, COVER_LINK_VANISHED);
        break_after(l, ns, (const bool[2]){false, false});
    }
}

static void stall_over(struct world *w, struct event *e)
{
    (void)e;
    links_pump(w);
}

/* One connection stands still while others between the same two go on: a full buffer, a route of its own. */
void link_stall(struct link *l, int64_t ns)
{
    cover(l->world, COVER_LINK_STALLED);
    trace(l->world, "net", "%s and %s: nothing moves on kind %d, peer %u, for %" PRId64 " ms", l->ends[0]->name, l->ends[1]->name, l->kind,
          l->peer, ns / MS);
    l->stalled_until = l->world->now + ns;
    after(l->world, ns, NULL, stall_over);
}

void links_stall_of(struct process *p, int64_t ns)
{
    struct world *w = p->world;
    for (struct link *l = w->links; l != NULL; l = l->next)
        if (is_of(l, p))
            l->stalled_until = w->now + ns;
    after(w, ns, NULL, stall_over);
}

struct link *link_random(struct world *w)
{
    size_t n = 0;
    struct link *chosen = NULL;
    for (struct link *l = w->links; l != NULL; l = l->next)
        if (!l->broken && below(w, ++n) == 0)
            chosen = l;
    return chosen;
}

/* Whoever sends, and hears nothing of it for too long, gives the connection up (its kernel does). */
static void watch_stall(struct world *w, struct event *e)
{
    struct link *l = e->p;
    if (l->broken)
        return;
    bool gives_up[2];
    for (int end = 0; end < 2; end++)
        gives_up[!end] = w->cut[l->ends[!end]->number][l->ends[end]->number] && l->ways[end].first != NULL
                         && w->now - l->ways[end].first->arrives > MAXRT;
    if (gives_up[0] || gives_up[1])
        break_after(l, 0, gives_up);
    else
        after(w, S, NULL, watch_stall)->p = l;
}

/* ---- dialling ---- */

static bool reachable(const struct world *w, const struct dial *d)
{
    return d->to->alive && !d->to->frozen && !w->cut[d->from->number][d->to->number] && !w->cut[d->to->number][d->from->number];
}

static struct link *link_make(struct dial *d)
{
    struct world *w = d->from->world;
    struct link *l = calloc(1, sizeof *l);
    BUG_IF(l == NULL);
    l->world = w;
    l->kind = d->kind;
    l->dial = d;
    l->peer = ++w->next_peer;
    l->ends[DIALER] = d->from;
    l->ends[LISTENER] = d->to;
    l->delay = one_in(w, 12) ? between(w, 5 * MS, 60 * MS) : between(w, 40 * US, 2 * MS);
    for (int end = 0; end < 2; end++) {
        l->lives[end] = l->ends[end]->life;
        l->ways[end].tail = &l->ways[end].first;
    }
    l->next = w->links;
    w->links = l;
    after(w, S, NULL, watch_stall)->p = l;
    return l;
}

static void connect_lane(struct dial *d)
{
    struct world *w = d->from->world;
    struct lane *lane = vent_lane(&w->vent, d->port);
    if (lane == NULL || lane->link != NULL) {
        cover(w, COVER_LANE_MISMATCH);
        return;                 /* nobody listens: the open never comes, and the worker shakes hands anew */
    }
    struct link *l = link_make(d);
    l->lane = lane->epoch;
    lane->link = d->link = l;
    put_notice(l, DIALER, true);
    put_notice(l, LISTENER, true);
}

static void dial_now(struct world *w, struct event *e)
{
    struct dial *d = e->p;
    d->planned = false;
    if (!d->wanted || d->link != NULL)
        return;
    if (d->kind == LINK_LANE) {
        if (reachable(w, d))
            connect_lane(d);
    } else if (!reachable(w, d)) {
        dial_again(d);
    } else {
        d->link = link_make(d);
        put_notice(d->link, DIALER, true);
    }
}

static void dial_after(struct dial *d, int64_t delay)
{
    if (d->planned || !d->wanted)
        return;
    d->planned = true;
    after(d->from->world, delay, d->from, dial_now)->p = d;
}

static void dial_again(struct dial *d)
{
    if (d->kind != LINK_LANE)
        dial_after(d, between(d->from->world, 100 * MS, 500 * MS));
}

void dial_want(struct dial *d)
{
    d->wanted = true;
    dial_after(d, between(d->from->world, 50 * US, 3 * MS));
}

void dial_drop(struct dial *d)
{
    struct link *l = d->link;
    d->link = NULL;
    if (l == NULL)
        return;
    l->closed_told[DIALER] = true;
    link_break(l);
}

bool dial_is_up(const struct dial *d)
{
    return d->link != NULL && d->link->up_told[DIALER] && !d->link->closed_told[DIALER];
}

void links_free(struct world *w)
{
    while (w->links != NULL) {
        struct link *l = w->links;
        w->links = l->next;
        for (int end = 0; end < 2; end++)
            while (l->ways[end].first != NULL) {
                struct message *m = l->ways[end].first;
                l->ways[end].first = m->next;
                message_free(m);
            }
        free(l);
    }
}
