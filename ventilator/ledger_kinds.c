/* Kinds: what batches want of a worker, and which workers can run the same.
 *
 * There are few of them however many batches and workers there are: dispatch looks at kinds, and in each kind at the first.
 * A want is a handler and labels; a crew is the workers that fit the same wants. The first batch of a want costs a walk over
 * the workers, and a worker's hello one over the wants; nothing else does.
 *
 * A stake says how many attempts of a want a worker holds. Where more are held than there are slots, some of them wait: the
 * stakes of such workers are what is looked at for tasks to be recalled. They are put in order when somebody looks for them. */
#include "ventilator/ledger_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int want_cmp(const struct want *a, const struct want *b) { return ready_cmp(a->first, b->first); }

int stake_cmp(const struct stake *a, const struct stake *b)
{
    if (a->load < b->load || a->load > b->load)
        return a->load > b->load ? -1 : 1;
    return a->worker->number < b->worker->number ? -1 : a->worker->number > b->worker->number;
}
RB_GENERATE(want_tree, want, ready_link, want_cmp)
RB_GENERATE(stake_tree, stake, link, stake_cmp)

/* ---- wants ---- */

/* A key that says the same for the same handler and labels. 0, or -1: no memory. */
static int key_of(const Wire__Options *o, struct wire_writer *ret)
{
    Wire__Options like = WIRE__OPTIONS__INIT;
    like.handler = o->handler;
    like.n_require = o->n_require;
    like.require = o->require;
    return wire_write(ret, &like.base);
}

static bool has_label(const Wire__WorkerHello *h, const Wire__Value *want)
{
    for (size_t i = 0; i < h->n_labels; i++)
        if (strcmp(h->labels[i]->key, want->key) == 0 && strcmp(h->labels[i]->value, want->value) == 0)
            return true;
    return false;
}

static bool has_handler(const Wire__WorkerHello *h, const Wire__Options *o)
{
    if (o->handler[0] == '\0')
        return h->commands;
    for (size_t i = 0; i < h->n_handlers; i++)
        if (strcmp(h->handlers[i], o->handler) == 0)
            return true;
    return false;
}

static bool does_fit(const Wire__WorkerHello *h, const Wire__Options *o)
{
    bool fits = has_handler(h, o);
    for (size_t i = 0; i < o->n_require && fits; i++)
        fits = has_label(h, o->require[i]);
    return fits;
}

/* One that is free. -1: no memory. */
static int take_number(struct ledger *l, struct want *w)
{
    uint32_t number = 0;
    while (number < l->room_wants && l->want_at[number] != NULL)
        number++;
    if (number == l->room_wants) {
        struct want **grown = reallocarray(l->want_at, number + 64, sizeof(struct want *));
        if (grown == NULL)
            return -1;
        memset(grown + number, 0, 64 * sizeof(struct want *));
        l->want_at = grown;
        l->room_wants = number + 64;
    }
    l->want_at[number] = w;
    w->number = number;
    return 0;
}

static void crews_learn(struct ledger *l, const struct want *want);

static struct want *want_new(struct ledger *l, const struct wire_writer *key, const Wire__Options *o)
{
    struct want *w = calloc(1, sizeof *w + key->len);
    if (w == NULL)
        return NULL;
    Wire__Options like = WIRE__OPTIONS__INIT;
    like.handler = o->handler;
    like.n_require = o->n_require;
    like.require = o->require;
    w->like = (Wire__Options *)wire_copy(&like.base);
    if (w->like == NULL || take_number(l, w) < 0) {
        wire_free(&w->like);
        free(w);
        return NULL;
    }
    w->key_len = key->len;
    memcpy(w->key, key->bytes, key->len);
    RB_INIT(&w->ready);
    RB_INIT(&w->spare);
    HASH_ADD(hh, l->wants, key, key->len, w);
    crews_learn(l, w);
    return w;
}

struct want *want_take(struct ledger *l, const Wire__Options *o)
{
    struct want *w;
    if (key_of(o, &l->writer) < 0)
        return NULL;
    HASH_FIND(hh, l->wants, l->writer.bytes, l->writer.len, w);
    if (w == NULL)
        w = want_new(l, &l->writer, o);
    if (w != NULL)
        w->users++;
    return w;
}

void want_give_back(struct ledger *l, struct want *w)
{
    if (w == NULL || --w->users > 0)
        return;
    HASH_DEL(l->wants, w);
    l->want_at[w->number] = NULL;
    wire_free(&w->like);
    free(w);
}

/* ---- batches that are ready, want by want ---- */

static void want_moved(struct ledger *l, struct want *w)
{
    struct batch *first = RB_MIN(ready_tree, &w->ready);
    if (w->first != NULL)
        RB_REMOVE(want_tree, &l->ready, w);
    w->first = first;
    if (first != NULL)
        RB_INSERT(want_tree, &l->ready, w);
}

void ready_put(struct ledger *l, struct batch *b)
{
    struct want *w = b->want;
    /* Its key must not change while it is in the tree: it is taken out before what is first does. */
    if (w->first != NULL && ready_cmp(b, w->first) > 0) {
        RB_INSERT(ready_tree, &w->ready, b);
        return;
    }
    if (w->first != NULL)
        RB_REMOVE(want_tree, &l->ready, w);
    w->first = NULL;
    RB_INSERT(ready_tree, &w->ready, b);
    want_moved(l, w);
}

void ready_take(struct ledger *l, struct batch *b)
{
    struct want *w = b->want;
    bool was_first = w->first == b;
    if (was_first) {
        RB_REMOVE(want_tree, &l->ready, w);
        w->first = NULL;
    }
    RB_REMOVE(ready_tree, &w->ready, b);
    if (was_first)
        want_moved(l, w);
}

/* ---- crews ---- */

bool crew_fits(const struct crew *crew, const struct want *want)
{
    return crew->fits[want->number / 64] >> (want->number % 64) & 1;
}

void crew_leave(struct ledger *l, struct worker *w)
{
    struct crew *crew = w->crew;
    if (crew == NULL)
        return;
    worker_leave_room(l, w);
    w->crew = NULL;
    if (--crew->n_workers > 0)
        return;
    HASH_DEL(l->crews, crew);
    free(crew);
}

static size_t words_of_wants(const struct ledger *l) { return l->room_wants > 0 ? l->room_wants / 64 : 1; }

/* Those of few priorities are ready at once, as a rule. */
void crew_serve(struct crew *crew, int32_t priority, uint64_t pass)
{
    uint32_t at = 0;
    while (at < crew->n_served && crew->served[at].priority != priority)
        at++;
    if (at == crew->n_served && crew->n_served < SERVED_KEPT)
        crew->n_served++;
    at = at < SERVED_KEPT ? at : SERVED_KEPT - 1;
    memmove(crew->served + 1, crew->served, at * sizeof crew->served[0]);
    crew->served[0] = (struct served){priority, pass};
}

uint64_t crew_served(const struct crew *crew, int32_t priority)
{
    for (uint32_t i = 0; i < crew->n_served; i++)
        if (crew->served[i].priority == priority)
            return crew->served[i].pass;
    return 0;
}

/* Into the crew that fits these, which is made when there is none. What its workers were given before is not forgotten. */
static void join(struct ledger *l, struct worker *w, const uint64_t *fits)
{
    size_t bytes = words_of_wants(l) * sizeof(uint64_t);
    struct crew *crew;
    HASH_FIND(hh, l->crews, fits, bytes, crew);
    if (crew == NULL) {
        crew = calloc(1, sizeof *crew + bytes);
        BUG_IF_NO_MEMORY(crew);
        RB_INIT(&crew->room);
        memcpy(crew->fits, fits, bytes);
        HASH_ADD(hh, l->crews, fits, bytes, crew);
    }
    for (uint32_t i = w->crew != NULL ? w->crew->n_served : 0; i-- > 0;) {
        const struct served *s = &w->crew->served[i];
        if (crew_served(crew, s->priority) < s->pass)
            crew_serve(crew, s->priority, s->pass);
    }
    crew->n_workers++;
    crew_leave(l, w);                   /* it may be the same one */
    w->crew = crew;
    worker_room(l, w);
}

static void set_fit(uint64_t *fits, const struct worker *w, const struct want *want)
{
    if (does_fit(w->hello, want->like))
        fits[want->number / 64] |= UINT64_C(1) << (want->number % 64);
}

void crew_join(struct ledger *l, struct worker *w)
{
    uint64_t *fits = calloc(words_of_wants(l), sizeof *fits);
    BUG_IF_NO_MEMORY(fits);
    for (const struct want *want = l->wants; want != NULL; want = want->hh.next)
        set_fit(fits, w, want);
    join(l, w, fits);
    free(fits);
}

/* A new want: of each worker only that is asked, whether it fits it; and wants that are no more are forgotten. */
static void crews_learn(struct ledger *l, const struct want *want)
{
    size_t words = words_of_wants(l);
    uint64_t *fits = calloc(2 * words, sizeof *fits), *others = fits + words;
    BUG_IF_NO_MEMORY(fits);
    for (uint32_t i = 0; i < l->room_wants; i++)
        if (l->want_at[i] != NULL && l->want_at[i] != want)
            others[i / 64] |= UINT64_C(1) << (i % 64);
    for (struct worker *w = l->by_session; w != NULL; w = w->hh.next) {
        if (w->crew == NULL)
            continue;
        size_t known = w->crew->hh.keylen / sizeof *fits;       /* the room for wants may have grown since */
        for (size_t i = 0; i < words; i++)
            fits[i] = i < known ? w->crew->fits[i] & others[i] : 0;
        set_fit(fits, w, want);
        join(l, w, fits);
    }
    free(fits);
}

bool worker_can_run(const struct worker *w, const struct batch *b) { return w->crew != NULL && crew_fits(w->crew, b->want); }

bool some_worker_can(const struct ledger *l, const struct batch *b)
{
    for (const struct crew *crew = l->crews; crew != NULL; crew = crew->hh.next)
        if (crew_fits(crew, b->want))
            return true;
    return false;
}

/* A label that the batch requires and that nobody has; NULL: each of them somebody has. */
static const Wire__Value *lacking_label(const struct ledger *l, const struct batch *b)
{
    for (size_t i = 0; i < b->options->n_require; i++) {
        const struct worker *w = l->by_session;
        while (w != NULL && !has_label(w->hello, b->options->require[i]))
            w = w->hh.next;
        if (w == NULL)
            return b->options->require[i];
    }
    return NULL;
}

static bool is_handler_lacking(const struct ledger *l, const struct batch *b)
{
    const struct worker *w = l->by_session;
    while (w != NULL && !has_handler(w->hello, b->options))
        w = w->hh.next;
    return w == NULL;
}

void lack_note(const struct ledger *l, const struct batch *b, char *out, size_t size)
{
    const Wire__Value *label = lacking_label(l, b);
    const char *handler = b->options->handler;
    bool has_parts = !is_handler_lacking(l, b);         /* somebody has the handler, others have the labels */
    if (l->by_session == NULL)
        snprintf(out, size, "no worker is connected");
    else if (label != NULL)
        snprintf(out, size, "no present worker has the required label %s=%s", label->key, label->value);
    else if (handler[0] == '\0')
        snprintf(out, size, "no present worker takes ad-hoc commands (--allow-commands)%s", has_parts ? " and has all the required labels" : "");
    else
        snprintf(out, size, "no present worker has the handler '%s'%s", handler, has_parts ? " and all the required labels" : "");
}

/* ---- stakes ---- */

static struct stake *stake_of(struct worker *w, const struct want *want)
{
    struct stake *s;
    LIST_FOREACH(s, &w->stakes, at_worker)
        if (s->want == want)
            return s;
    return NULL;
}

static void leave_spare(struct ledger *l, struct stake *s)
{
    if (!s->in_spare)
        return;
    RB_REMOVE(stake_tree, &s->want->spare, s);
    s->in_spare = false;
    if (RB_EMPTY(&s->want->spare))
        TAILQ_REMOVE(&l->spared, s->want, spared_link);
}

static void enter_spare(struct ledger *l, struct stake *s)
{
    if (RB_EMPTY(&s->want->spare))
        TAILQ_INSERT_TAIL(&l->spared, s->want, spared_link);
    s->load = s->worker->load;
    s->in_spare = true;
    RB_INSERT(stake_tree, &s->want->spare, s);
}

void stake_more(struct ledger *l, struct worker *w, struct want *want, uint32_t n)
{
    struct stake *s = n > 0 ? stake_of(w, want) : NULL;
    if (n > 0 && s == NULL) {
        s = calloc(1, sizeof *s);
        BUG_IF_NO_MEMORY(s);
        s->worker = w;
        s->want = want;
        LIST_INSERT_HEAD(&w->stakes, s, at_worker);
    }
    if (s != NULL)
        s->held += n;
    stakes_changed(l, w);
}

void stake_less(struct ledger *l, struct worker *w, const struct want *want, uint32_t n)
{
    struct stake *s = n > 0 ? stake_of(w, want) : NULL;
    if (s != NULL && (s->held -= n) == 0) {
        leave_spare(l, s);
        LIST_REMOVE(s, at_worker);
        free(s);
    }
    stakes_changed(l, w);
}

void stakes_changed(struct ledger *l, struct worker *w)
{
    if (!w->unsorted)
        TAILQ_INSERT_TAIL(&l->unsorted, w, unsorted_link);
    w->unsorted = true;
}

/* Some of what it holds waits for a slot, and may be asked back. */
static bool has_spare(const struct worker *w)
{
    return w->state == WORKER_READY && !w->reserved && w->recall == 0 && w->held > w->slots;
}

void stakes_sort(struct ledger *l)
{
    struct worker *w;
    while ((w = TAILQ_FIRST(&l->unsorted)) != NULL) {
        bool spare = has_spare(w);
        struct stake *s;
        TAILQ_REMOVE(&l->unsorted, w, unsorted_link);
        w->unsorted = false;
        LIST_FOREACH(s, &w->stakes, at_worker) {
            bool stays = s->in_spare && spare && s->load <= w->load && s->load >= w->load;
            if (stays)
                continue;
            leave_spare(l, s);
            if (spare)
                enter_spare(l, s);
        }
    }
}

void stakes_forget(struct ledger *l, struct worker *w)
{
    struct stake *s, *next;
    LIST_FOREACH_SAFE(s, &w->stakes, at_worker, next) {
        leave_spare(l, s);
        free(s);
    }
    LIST_INIT(&w->stakes);
    if (w->unsorted)
        TAILQ_REMOVE(&l->unsorted, w, unsorted_link);
    w->unsorted = false;
}
