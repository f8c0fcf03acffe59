/* Private to the ledger: what batches want of a worker, the workers that can run the same, and what they hold (ledger_kinds.c). */
#ifndef VENTILATOR_LEDGER_KINDS_H
#define VENTILATOR_LEDGER_KINDS_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Left to itself, uthash exits without a word. */
#define uthash_fatal(message) out_of_memory()
#include <uthash.h>

#include "ventilator/ledger.h"

struct batch;
struct worker;
void out_of_memory(void) __attribute__((noreturn));

/* How long tasks take: those of a batch, or all of a worker. */
struct pace {
    uint64_t batch;                     /* number; 0: no certain one */
    double ns, n;                       /* time and attempts; those of older reports weigh less */
    int64_t service;                    /* ns an attempt; 0: not known */
};

/* What batches want of a worker: a handler, and labels. */
RB_HEAD(ready_tree, batch);
RB_HEAD(stake_tree, stake);
struct want {
    UT_hash_handle hh;                  /* by key */
    RB_ENTRY(want) ready_link;          /* has batches that are ready; by the first of them */
    TAILQ_ENTRY(want) spared_link;      /* has stakes that may be asked back */
    TAILQ_ENTRY(want) coming_link;      /* coming > 0 */
    uint64_t coming;                    /* tasks that recalls ask for, and that are not confirmed, nor late */
    uint32_t number;                    /* its bit in the crews */
    uint64_t users;                     /* batches, and workers of which some are coming */
    uint32_t n_loading;                 /* those whose payloads are being read */
    struct pace pace;                   /* of all batches of it */
    Wire__Options *like;                /* owned: nothing else is in it */
    struct ready_tree ready;
    struct batch *first;                /* of them; NULL: none is ready */
    uint64_t passed_over;               /* the dispatch in which no worker with room could run them */
    struct stake_tree spare;            /* stakes of workers that hold more than they have slots, fullest first */
    struct { double load; uint64_t number; } looked;        /* its place in there where a recall goes on looking; load 0: at the first */
    size_t key_len;
    uint8_t key[];
};

/* How far those of one priority have got with their fair shares. */
struct served {
    int32_t priority;
    uint64_t pass;
};
#define SERVED_KEPT 4u

/* The workers that fit the same wants. */
RB_HEAD(room_tree, worker);
struct crew {
    UT_hash_handle hh;                  /* by fits */
    uint32_t n_workers;
    uint64_t idle;                      /* slots of those in `room` that hold less than they have slots */
    struct room_tree room;
    TAILQ_ENTRY(crew) roomy_link;       /* somebody is in `room` */
    struct served served[SERVED_KEPT];  /* the pass of the batch that it was given last, of the last priorities, the newest first */
    uint32_t n_served;
    uint64_t fits[];                    /* one bit a want */
};

/* How many attempts of a want a worker holds. */
struct stake {
    LIST_ENTRY(stake) at_worker;
    RB_ENTRY(stake) link;               /* in the want's `spare` */
    struct worker *worker;
    struct want *want;
    uint32_t held;
    bool in_spare;
    double load;                        /* its worker's, when it was put there */
};

RB_HEAD(want_tree, want);

struct want *want_take(struct ledger *l, const Wire__Options *options);     /* NULL: no memory */
void want_give_back(struct ledger *l, struct want *want);
void ready_put(struct ledger *l, struct batch *b);                  /* its priority and pass must not change while it is there */
void ready_take(struct ledger *l, struct batch *b);
void crew_join(struct ledger *l, struct worker *w);                 /* after its hello */
void crew_leave(struct ledger *l, struct worker *w);
bool crew_fits(const struct crew *crew, const struct want *want);
void crew_serve(struct crew *crew, int32_t priority, uint64_t pass);     /* it was given something of a batch that has got so far */
uint64_t crew_served(const struct crew *crew, int32_t priority);         /* that of the last one; 0: none */
bool worker_can_run(const struct worker *w, const struct batch *b);
bool some_worker_can(const struct ledger *l, const struct batch *b);        /* of those that are here */
void lack_note(const struct ledger *l, const struct batch *b, char *out, size_t size);      /* why no worker can, for people */
void stake_more(struct ledger *l, struct worker *w, struct want *want, uint32_t n);
void stake_less(struct ledger *l, struct worker *w, const struct want *want, uint32_t n);
void stakes_changed(struct ledger *l, struct worker *w);            /* or what else decides whether it has some to spare */
void stakes_sort(struct ledger *l);                                 /* before `spared` and `spare` are looked at */
void stakes_forget(struct ledger *l, struct worker *w);

int want_cmp(const struct want *a, const struct want *b);
int stake_cmp(const struct stake *a, const struct stake *b);
RB_PROTOTYPE(want_tree, want, ready_link, want_cmp)
RB_PROTOTYPE(stake_tree, stake, link, stake_cmp)

#endif
