/* Dispatch: which batch is next, which worker gets it, and how many tasks at once.
 *
 * Batches: highest priority first; within one priority by `pass`, a stride scheduler (Waldspurger and Weihl,
 * 1995): each dispatch of n tasks moves the batch's pass by n / weight, and the smallest pass is next. Passes of batches that
 * are run by different workers drift apart: who enters begins where those are with whom it shares.
 * Workers: the one with the most room in proportion to its slots.
 * Run credit: the slots and enough beyond them to hide the round trip, measured by time: many tiny
 * tasks, one long one (ledger_pace.c). */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PASS_STEP      UINT64_C(1048576)        /* of one task at weight 1 */
#define SMALL_WINDOW   64u
#define LOADS_MOST     32u                      /* batches whose payloads are read at once, when that is more than the cache */
#define CACHE_TIMES    16u                      /* what the frames of many batches that have flown in part may take up of it */
#define RECALL_LOOKS   16u                      /* workers of which something is wanted that are tried at once; the next turn goes on */
#define RECALL_NS      (2 * NS_PER_MS)          /* what is done within this is not recalled */
#define LATE_NS        (NS_PER_S / 10)          /* what was asked back and has not come by then may not come at all */
#define FRAME_NS       NS_PER_MS                /* work of a slot for which it is worth while to send it something */
#define WINDOWS_MOST   16                       /* so many windows of work in one flight are far too many: its tasks became longer */

int ready_cmp(const struct batch *a, const struct batch *b)
{
    if (a->options->priority != b->options->priority)
        return a->options->priority > b->options->priority ? -1 : 1;
    if (a->pass != b->pass)
        return a->pass < b->pass ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* To whom large messages do not get, nothing goes while anybody else has room: what it held would come back to it, for ever. */
int room_cmp(const struct worker *a, const struct worker *b)
{
    if (a->swallows != b->swallows)
        return a->swallows ? 1 : -1;
    if (a->load < b->load || a->load > b->load)
        return a->load < b->load ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}
RB_GENERATE(ready_tree, batch, ready_link, ready_cmp)
RB_GENERATE(room_tree, worker, room_link, room_cmp)

/* ---- how much ---- */

/* Each end makes room for one more task: handed out at once, frames of thousands would become frames of a few, for ever. A large
 * window is filled again when half of it is free; what is left hides the round trip. */
static bool has_room(const struct worker *w)
{
    if (w->held_bytes >= WINDOW_BYTES)
        return false;
    double window = w->filled > 0 ? (double)w->held * (double)CREDIT / (double)w->filled : 0;        /* of tasks like these */
    return window > 4.0 * w->slots + SMALL_WINDOW ? w->filled <= CREDIT / 2 + w->held : w->filled < CREDIT;
}

void worker_leave_room(struct ledger *l, struct worker *w)
{
    if (!w->in_room)
        return;
    RB_REMOVE(room_tree, &w->crew->room, w);
    if (RB_EMPTY(&w->crew->room))
        TAILQ_REMOVE(&l->roomy, w->crew, roomy_link);
    w->crew->idle -= w->idle;
    w->in_room = false;
}

static void enter_room(struct ledger *l, struct worker *w)
{
    if (RB_EMPTY(&w->crew->room))
        TAILQ_INSERT_TAIL(&l->roomy, w->crew, roomy_link);
    RB_INSERT(room_tree, &w->crew->room, w);
    w->idle = w->held < w->slots && !w->swallows ? w->slots - w->held : 0;     /* for such a one nothing is recalled: it would go back */
    w->crew->idle += w->idle;
    w->in_room = true;
}

static void list_opening(struct ledger *l, struct worker *w)
{
    bool opening = w->state == WORKER_OPENING;
    if (opening && !w->in_opening)
        TAILQ_INSERT_TAIL(&l->opening, w, opening_link);
    else if (!opening && w->in_opening)
        TAILQ_REMOVE(&l->opening, w, opening_link);
    w->in_opening = opening;
}

void worker_room(struct ledger *l, struct worker *w)
{
    worker_leave_room(l, w);
    list_opening(l, w);
    stakes_changed(l, w);
    if (w->state != WORKER_READY || w->draining || w->cut_off)
        quarantine_let_go(l, w);
    if (w->state != WORKER_READY)
        return;
    w->window = pace_credit(w, w->pace.service);
    w->load = (double)w->held / (double)w->slots;
    if (!w->draining && !w->cut_off && !w->reserved && w->last == 0 && w->crew != NULL && has_room(w))
        enter_room(l, w);
}

bool batch_may_fly(const struct ledger *l, const struct batch *b)
{
    return l->epoch_committed && !l->draining && b->registered && b->recovery == RECOVERED && !b->complete && !b->cancelled
           && !b->too_late && b->damage == NULL;
}

bool batch_is_full(const struct batch *b) { return b->options->max_running > 0 && b->unended >= b->options->max_running; }

/* How many more may run at once, but those on their last chance. These have one place of several while they wait: an empty worker
 * is rarely there in the moment in which one becomes free. */
static uint64_t left_of_limit(const struct batch *b)
{
    uint64_t most = b->options->max_running, used = b->unended + (b->in_care[CARE_LAST] > 0 && most > 1 ? 1 : 0);
    return most == 0 ? UINT64_MAX : most > used ? most - used : 0;
}

/* Tasks on their last chance are not in it: ledger_quarantine.c sees to them. */
bool batch_is_ready(const struct ledger *l, const struct batch *b)
{
    return batch_may_fly(l, b) && batch_queued(b) > b->in_care[CARE_LAST] && HASH_COUNT(b->waitings) < WAITING_MAX && left_of_limit(b) > 0;
}

/* ---- fair shares ---- */

/* How far those have got with whom b shares: batches that want the same, else what the workers were given that can run it. Where
 * these have got to different places it is the furthest: b must not keep the others of any of them from their work. */
static uint64_t pass_of_peers(const struct ledger *l, const struct batch *b)
{
    const struct batch key = {.options = b->options}, *first = RB_NFIND(ready_tree, &b->want->ready, (struct batch *)&key);
    if (first != NULL && first->options->priority == b->options->priority)
        return first->pass;
    uint64_t furthest = 0;
    for (const struct crew *crew = l->crews; crew != NULL; crew = crew->hh.next) {
        uint64_t pass = crew_fits(crew, b->want) ? crew_served(crew, b->options->priority) : 0;
        furthest = pass > furthest ? pass : furthest;
    }
    return furthest > 0 ? furthest : l->pass;
}

/* n tasks of b go to a worker of this crew. */
static void share_used(struct ledger *l, struct crew *crew, struct batch *b, uint32_t n)
{
    uint64_t weight = b->options->weight > 0 ? b->options->weight : 1;
    uint64_t step = n * PASS_STEP + b->pass_rest;
    bool was_ready = b->ready;
    if (was_ready)
        ready_take(l, b);
    l->pass = b->pass;
    crew_serve(crew, b->options->priority, b->pass);
    b->pass += step / weight;
    b->pass_rest = step % weight;
    if (was_ready)
        ready_put(l, b);
}

void batch_ready(struct ledger *l, struct batch *b)
{
    bool ready = batch_is_ready(l, b) && !b->loading;
    if (ready == b->ready)
        return;
    if (ready) {
        uint64_t pass = pass_of_peers(l, b);
        if (b->pass < pass)
            b->pass = pass;             /* time spent with nothing to do is not saved up */
        ready_put(l, b);
    } else {
        ready_take(l, b);
    }
    b->ready = ready;
}

/* ---- what ---- */

static bool takes_suspects(const struct worker *w)
{
    return w->suspects < SUSPECTS_MOST;
}

/* Whether anything queued of b, but what is on its last chance, may go to w. */
static bool has_for(const struct batch *b, const struct worker *w)
{
    return b->admitted > b->cursor || b->in_care[CARE_NONE] > 0 || (b->in_care[CARE_SUSPECT] > 0 && takes_suspects(w));
}

static struct hole *next_hole(struct batch *b, const struct worker *w, bool last)
{
    if (last)
        return RB_MIN(care_tree, &b->by_care[CARE_LAST]);
    struct hole *h = RB_MIN(care_tree, &b->by_care[CARE_NONE]);
    struct hole *suspect = takes_suspects(w) ? RB_MIN(care_tree, &b->by_care[CARE_SUSPECT]) : NULL;
    return h == NULL || (suspect != NULL && suspect->first < h->first) ? suspect : h;
}

/* The next run of queued tasks for w: the lowest hole, else the cursor. */
static uint64_t next_run(struct batch *b, const struct worker *w, bool last, uint64_t *ret_first, struct past *ret_past)
{
    struct hole *h = next_hole(b, w, last);
    if (h != NULL) {
        *ret_first = h->first;
        *ret_past = h->past;
        return h->count;
    }
    *ret_first = b->cursor;
    *ret_past = (struct past){0};
    return b->admitted - b->cursor;
}

/* How many of a run go in one assign: what fills free slots first; then, of what is left, a share small
 * enough that the last tasks of a batch spread over all slots. */
static uint32_t share(const struct ledger *l, const struct worker *w, const struct batch *b, uint64_t run)
{
    int64_t service = pace_of(w, b);
    uint64_t charge = pace_charge(w, service), free_credit = w->filled < CREDIT ? CREDIT - w->filled : 1;
    uint64_t room = (free_credit + charge - 1) / charge;        /* rounded up, as the charges are: together they fill it */
    uint64_t n = w->held < w->slots ? w->slots - w->held : room;
    bool tiny = service > 0 && service < NS_PER_MS;
    if (tiny)
        n = n > room ? n : room;
    uint64_t left = batch_queued(b), spread = left / (2 * (uint64_t)(l->n_slots > 0 ? l->n_slots : 1)) + 1;
    /* A frame costs every process on its way as much as the work of such a time. */
    uint64_t worth_it = tiny ? (uint64_t)(FRAME_NS / service) : 1;
    if (spread < worth_it)
        spread = worth_it;
    uint64_t fill = w->held < w->slots ? w->slots - w->held : 1;
    spread = spread * w->slots > fill ? spread * w->slots : fill;
    if (n > spread)
        n = spread;
    uint64_t allowed = left_of_limit(b);
    n = n < allowed ? n : allowed > 0 ? allowed : 1;        /* 0: it is the one that has the place */
    n = n < run ? n : run;
    return n < WIRE_BLOCK ? (uint32_t)n : WIRE_BLOCK;
}

/* Cuts n so that the slice's payloads fit what the worker may hold; at least one. */
static uint32_t fit_bytes(const struct worker *w, struct supply *s, uint32_t at, uint32_t n, uint64_t *ret_bytes)
{
    uint64_t room = WINDOW_BYTES > w->held_bytes ? WINDOW_BYTES - w->held_bytes : 0, bytes = 0;
    const Wire__Tasks *t = s->tasks;
    if (t->n_lengths <= 1) {
        uint64_t each = wire_u32(t->lengths, t->n_lengths, 0);
        if (each > 0 && n * each > room)
            n = room / each > 0 ? (uint32_t)(room / each) : 1;
        *ret_bytes = n * each;
        return n;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && bytes + t->lengths[at + i] > room)
            n = i;
        else
            bytes += t->lengths[at + i];
    }
    *ret_bytes = bytes;
    return n;
}

void worker_announce(struct ledger *l, struct worker *w, struct batch *b)
{
    struct announced *a;
    HASH_FIND(hh, w->announced, &b->number, sizeof b->number, a);
    if (a != NULL || (a = calloc(1, sizeof *a)) == NULL)
        return;
    a->number = b->number;
    a->worker = w;
    LIST_INSERT_HEAD(&b->announced, a, at_batch);
    HASH_ADD(hh, w->announced, number, sizeof a->number, a);
    Wire__Micros left = WIRE__MICROS__INIT;
    Wire__Announce m = WIRE__ANNOUNCE__INIT;
    m.batch = wire_id_bytes(b->id);
    m.short_id = b->short_id;
    m.options = b->options;
    if (!mono_is_never(b->deadline)) {
        left.us = ns_to_us(mono_since(b->deadline, l->now));
        m.deadline_left = &left;
    }
    Wire__Lane lane = WIRE__LANE__INIT;
    lane.what_case = WIRE__LANE__WHAT_ANNOUNCE;
    lane.announce = &m;
    worker_lane(l, w, &lane, (struct slice){0}, false);
}

/* The extras of a slice, moved to its own offsets, in the caller's room. */
static size_t cut_extras(const Wire__Tasks *from, uint32_t at, uint32_t n, Wire__TaskExtra *rows, Wire__TaskExtra **out)
{
    size_t m = 0;
    for (size_t i = 0; i < from->n_extras; i++) {
        if (from->extras[i]->offset < at || from->extras[i]->offset >= at + n)
            continue;
        rows[m] = *from->extras[i];
        rows[m].offset -= at;
        out[m] = &rows[m];
        m++;
    }
    return m;
}

static void send_assign(struct ledger *l, struct worker *w, struct batch *b, struct supply *s, uint32_t at, uint32_t n, struct past past,
                        uint64_t bytes)
{
    static Wire__TaskExtra rows[WIRE_BLOCK];
    static Wire__TaskExtra *extras[WIRE_BLOCK];
    Wire__Tasks t = WIRE__TASKS__INIT;
    t.first = s->first + at;
    t.count = n;
    t.n_lengths = s->tasks->n_lengths > 1 ? n : s->tasks->n_lengths;
    t.lengths = s->tasks->n_lengths > 1 ? s->tasks->lengths + at : s->tasks->lengths;
    if (s->tasks->n_extras > 0) {
        t.n_extras = cut_extras(s->tasks, at, n, rows, extras);
        t.extras = extras;
    }
    Wire__Assign a = WIRE__ASSIGN__INIT;
    a.batch = wire_id_bytes(b->id);
    a.tasks = &t;
    a.epoch = l->epoch;
    a.attempt = past.attempts;
    a.tries_left = tries_left(b, &past);
    a.waited_us = ns_to_us(mono_since(l->now, mono_is_never(s->admitted) ? b->created : s->admitted));
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_ASSIGN;
    m.assign = &a;
    struct slice body = s->body.len > 0 ? slice_cut(s->body, supply_offset(s, at), bytes) : (struct slice){0};
    worker_lane(l, w, &m, body, b->options->range == NULL);
}

/* So many with this past may go to w at once. */
static uint64_t care_most(const struct ledger *l, const struct worker *w, const struct past *past)
{
    enum care care = care_of(l, past);
    return care == CARE_LAST ? 1 : care == CARE_SUSPECT ? SUSPECTS_MOST - w->suspects : UINT64_MAX;
}

/* Not that of b as well: however many batches have their payloads on disk, what is being read could fill the cache. */
static bool loads_are_enough(const struct ledger *l, const struct batch *b)
{
    return b->options->range == NULL && !b->loading && l->n_loading >= LOADS_MOST
           && l->supply_bytes + l->n_loading * LOAD_BYTES >= l->config.cache_bytes;
}

bool assign(struct ledger *l, struct worker *w, struct batch *b, bool last)
{
    uint64_t first, bytes;
    struct past past;
    uint64_t run = next_run(b, w, last, &first, &past), most = care_most(l, w, &past);
    run = run < most ? run : most;
    struct supply *s = supply_at(b, first);
    if (s == NULL) {
        if (loads_are_enough(l, b))
            return false;
        supply_want(l, b, first);
        if ((s = supply_at(b, first)) == NULL)
            return false;
    }
    uint32_t at = (uint32_t)(first - s->first);
    uint32_t n = share(l, w, b, run < s->count - at ? run : s->count - at);
    n = fit_bytes(w, s, at, n, &bytes);
    past.attempts++;
    if (w->held == 0)
        w->progress = l->now;
    struct flight *f = put_flight(l, b, w, first, n, l->epoch, past, bytes);
    if (f == NULL)
        return false;
    take_queued(l, b, first, n);
    worker_announce(l, w, b);
    send_assign(l, w, b, s, at, n, past, bytes);
    supply_passed(l, b, s);
    if (l->supply_bytes > CACHE_TIMES * l->config.cache_bytes)
        supply_drop_all(l, b);          /* very many batches take turns: their next tasks are read again when they are wanted */
    l->counts.dispatched += n;
    share_used(l, w->crew, b, n);
    /* Reading ahead: the next frames are fetched while these fly. */
    if (b->options->range == NULL && !b->loading && b->supply_bytes < LOAD_BYTES / 2 && l->supply_bytes < l->config.cache_bytes
        && b->cursor < b->admitted && supply_at(b, b->cursor) == NULL && RB_EMPTY(&b->holes))
        supply_want(l, b, b->cursor);
    worker_room(l, w);
    return true;
}

/* The emptiest of a crew that may have something of b. */
static struct worker *first_of(struct ledger *l, struct crew *crew, const struct batch *b)
{
    struct worker *w;
    RB_FOREACH(w, room_tree, &crew->room) {
        l->counts.looked++;
        if (has_for(b, w))
            return w;
    }
    return NULL;
}

static struct worker *best_worker(struct ledger *l, const struct batch *b)
{
    struct worker *best = NULL, *w;
    struct crew *crew;
    TAILQ_FOREACH(crew, &l->roomy, roomy_link) {
        l->counts.looked++;
        if (crew_fits(crew, b->want) && (w = first_of(l, crew, b)) != NULL
            && (best == NULL || room_cmp(w, best) < 0))
            best = w;
    }
    return best;
}

/* ---- recall: what waits behind a busy slot goes to an idle one ---- */

/* Whether tasks of f could go to `idle`, which fits its want. What runs already doesn't come back: asking for it would go on
 * as long as it does. */
static bool can_move(const struct ledger *l, const struct flight *f, const struct worker *idle)
{
    enum care care = care_of(l, &f->past);
    return f->unended > 0 && f->open > 0 && care != CARE_LAST && (care == CARE_NONE || takes_suspects(idle)) && flight_waits(f);
}

/* A batch of this want of which the worker holds something that `idle` could have. */
static struct batch *movable(struct ledger *l, struct worker *from, const struct want *want, const struct worker *idle)
{
    struct flight *f = TAILQ_LAST(&from->flights, flight_list);
    for (; f != NULL; f = TAILQ_PREV(f, flight_list, at_worker)) {
        l->counts.looked++;
        if (f->batch->want == want && can_move(l, f, idle))
            return f->batch;
    }
    return NULL;
}

void look_again(struct ledger *l, void *unused)
{
    (void)l, (void)unused;      /* the dispatch that follows does */
}

static void recall_later(struct ledger *l, mono_t at)
{
    if (!l->recall_due.set || mono_before(at, l->recall_due.at))
        due_set(l, &l->recall_due, at, look_again, NULL);
}

/* Whether all that w holds ends sooner than a recall could bring some of it elsewhere: as far as is known, and as long as it goes on. */
static bool is_done_soon(struct ledger *l, const struct worker *w)
{
    mono_t until = mono_add(w->progress, RECALL_NS + pace_hidden(w));
    double lately = (double)w->held * (double)w->pace.service / (double)w->slots;        /* its tasks may take longer than they did */
    if (w->work / w->slots > RECALL_NS || lately > (double)RECALL_NS || mono_reached(l->now, until))
        return false;
    recall_later(l, until);
    return true;
}

/* Idle slots wait for its tasks no longer. */
static void not_coming(struct ledger *l, struct worker *w)
{
    if (w->recalled == 0)
        return;
    TAILQ_REMOVE(&l->recalling, w, recalling_link);
    if ((w->recalled_want->coming -= w->recalled) == 0)
        TAILQ_REMOVE(&l->coming, w->recalled_want, coming_link);
    want_give_back(l, w->recalled_want);
    w->recalled_want = NULL;
    w->recalled = 0;
}

void recall_over(struct ledger *l, struct worker *w)
{
    not_coming(l, w);
    w->recall = 0;
}

/* One that is stopped, or behind a slow line, must not keep the idle from what others have. */
static void give_up_late(struct ledger *l)
{
    struct worker *w;
    while ((w = TAILQ_FIRST(&l->recalling)) != NULL && mono_reached(l->now, mono_add(w->recalled_at, LATE_NS)))
        not_coming(l, w);
}

static void recall_from(struct ledger *l, struct worker *from, struct batch *b, uint64_t wanted)
{
    uint32_t excess = from->held - from->slots, half = (excess + 1) / 2;
    Wire__Recall r = WIRE__RECALL__INIT;
    r.number = from->recall = l->next_number++;
    r.batch = wire_id_bytes(b->id);
    r.count = half > wanted ? half : wanted < excess ? (uint32_t)wanted : excess;
    from->recalled = r.count;
    from->recalled_at = l->now;
    from->recalled_want = b->want;
    b->want->users++;                   /* it is here for as long */
    if (b->want->coming == 0)
        TAILQ_INSERT_TAIL(&l->coming, b->want, coming_link);
    b->want->coming += r.count;
    TAILQ_INSERT_TAIL(&l->recalling, from, recalling_link);
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_RECALL;
    m.recall = &r;
    worker_lane(l, from, &m, (struct slice){0}, false);
    worker_room(l, from);
}

void recall_too_many(struct ledger *l, struct worker *w, struct batch *b, uint64_t index)
{
    const struct flight *f = flight_at(b, index);
    if (f == NULL || f->worker != w || w->state != WORKER_READY || w->recall != 0 || w->held <= 4 * w->slots + SMALL_WINDOW)
        return;
    if ((double)f->unended * (double)pace_of(w, b) > (double)w->slots * (double)pace_hidden(w) * WINDOWS_MOST && flight_waits(f))
        recall_from(l, w, b, w->held - w->slots);
}

/* Where the last look at many stakes, of which nothing could be had, came to its end; else the fullest. */
static struct stake *spare_from(struct want *want)
{
    struct worker worker = {.number = want->looked.number};
    struct stake key = {.worker = &worker, .load = want->looked.load}, *s = RB_NFIND(stake_tree, &want->spare, &key);
    return s != NULL ? s : RB_MIN(stake_tree, &want->spare);
}

/* Idle slots of this crew that nothing is asked back for that it could run. */
static uint64_t still_idle(const struct ledger *l, const struct crew *crew)
{
    uint64_t coming = 0;
    const struct want *want;
    TAILQ_FOREACH(want, &l->coming, coming_link)
        coming += crew_fits(crew, want) ? want->coming : 0;
    return crew->idle > coming ? crew->idle - coming : 0;
}

/* Asks the worker that holds the most in proportion, of those that hold something that this crew could run. */
static bool recall_for(struct ledger *l, struct crew *crew, uint64_t wanted)
{
    const struct worker *idle = RB_MIN(room_tree, &crew->room);
    struct want *want;
    unsigned looks = 0;
    TAILQ_FOREACH(want, &l->spared, spared_link) {
        struct stake *s;
        l->counts.looked++;
        if (!crew_fits(crew, want))
            continue;
        for (s = spare_from(want); s != NULL; s = RB_NEXT(stake_tree, &want->spare, s)) {
            if (looks++ == RECALL_LOOKS) {
                want->looked.load = s->load;
                want->looked.number = s->worker->number;
                return false;
            }
            struct batch *b = is_done_soon(l, s->worker) ? NULL : movable(l, s->worker, want, idle);
            if (b == NULL)
                continue;
            recall_from(l, s->worker, b, wanted);
            return true;
        }
        want->looked.load = 0;
    }
    return false;
}

/* Payloads that are being read will fill its slots in a moment. */
static bool waits_for_payloads(const struct ledger *l, const struct crew *crew)
{
    for (const struct want *want = l->n_loading > 0 ? l->wants : NULL; want != NULL; want = want->hh.next)
        if (want->n_loading > 0 && crew_fits(crew, want))
            return true;
    return false;
}

/* What is asked back already will fill as many idle slots. */
static void recall(struct ledger *l)
{
    give_up_late(l);
    for (struct crew *crew = l->crews; crew != NULL; crew = crew->hh.next) {
        uint64_t wanted;
        while ((wanted = still_idle(l, crew)) > 0 && !waits_for_payloads(l, crew)) {
            stakes_sort(l);
            if (TAILQ_EMPTY(&l->spared) || !recall_for(l, crew, wanted))
                break;
        }
    }
    const struct worker *w = TAILQ_FIRST(&l->recalling);
    if (w != NULL)
        recall_later(l, mono_add(w->recalled_at, LATE_NS));
}

/* ---- all of them ---- */

/* The first batch of a want that there is a worker for. Only what is suspect may have none where others have one. */
static struct batch *first_pair(struct ledger *l, struct want *want, struct worker **ret)
{
    struct batch *b;
    RB_FOREACH(b, ready_tree, &want->ready) {
        l->counts.looked++;
        if (b->passed_over == l->dispatches)
            continue;
        if ((*ret = best_worker(l, b)) != NULL)
            return b;
        b->passed_over = l->dispatches;
        if (b->admitted > b->cursor || b->in_care[CARE_NONE] > 0)
            return NULL;
    }
    return NULL;
}

static void dispatch_ready(struct ledger *l)
{
    struct want *want = RB_MIN(want_tree, &l->ready);
    struct worker *w = NULL;
    l->dispatches++;
    while (want != NULL && !TAILQ_EMPTY(&l->roomy)) {
        /* Room only becomes less in a turn: whom nobody could run stays so, and isn't looked for again. */
        struct batch *b = want->passed_over == l->dispatches ? NULL : first_pair(l, want, &w);
        l->counts.looked++;
        if (b == NULL) {
            want->passed_over = l->dispatches;
            want = RB_NEXT(want_tree, &l->ready, want);
            continue;
        }
        if (!assign(l, w, b, false) && !b->loading) {
            if (!loads_are_enough(l, b))
                break;                      /* no memory now */
            want->passed_over = l->dispatches;      /* each turn in which something was read goes on with it */
        }
        batch_ready(l, b);
        want = RB_MIN(want_tree, &l->ready);
    }
}

void dispatch(struct ledger *l)
{
    quarantine_dispatch(l, false);
    dispatch_ready(l);
    if (l->n_loading == 0)
        quarantine_dispatch(l, true);
    quarantine_reserve(l);
    /* What is ready still can't run where there is room. */
    recall(l);
}
