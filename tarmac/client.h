/* A client's side of the wire: a connection to the ventilator, submissions that stream, and streams of
 * results from the sink. Everything is asynchronous over the loop; nothing blocks, nothing logs.
 *
 * Connections come and go: what is unanswered is asked again, a submission goes on at the index that the
 * ventilator names, a stream behind the last row that came. Only when a peer stays away for longer than
 * the timeouts allow does the client give up, and says so once.
 *
 * Callbacks are called from the loop, never from within a call to this module. Legal in them is everything
 * but destroying the client; submissions and streams may be destroyed anywhere but in their own callbacks. */
#ifndef TARMAC_CLIENT_H
#define TARMAC_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "common/net.h"
#include "common/why.h"
#include "proto/wire.h"
#include "tarmac/items.h"

struct client;

enum client_end {
    CLIENT_REFUSED,          /* by the ventilator or the sink: `sentence` is theirs */
    CLIENT_UNREACHABLE,      /* nobody there, for too long */
    CLIENT_BAD_INPUT,        /* an item can't be read, or is too large */
};

struct client_config {
    const char *ventilator;              /* an endpoint as of net_endpoint_parse */
    const char *program;                 /* for people: "ventilator 0.1.0" */
    int64_t connect_timeout;             /* ns, first contact */
    int64_t reconnect_timeout;           /* ns, each later absence */
    /* Once: the ventilator is out of reach while something is asked of it, or refuses to talk. Then
     * nothing more comes from the ventilator. */
    void (*failed)(void *arg, enum client_end end, const char *sentence);
    void *arg;
};

/* Starts to connect. Copies the config. NULL: why says what is wrong. */
struct client *client_new(struct loop *loop, struct net *net, const struct client_config *config, struct why *why);
void client_destroy(struct client **self_p);     /* submissions and streams must be destroyed before */

/* A request, sent as soon as it can be and again after each reconnect, until its reply came: `reply` is
 * lent, and may be a refusal. The message's id is set here. Returns the id, or 0 without memory. */
typedef void client_reply(void *arg, const Wire__Reply *reply);
uint64_t client_request(struct client *self, Wire__Request *request, client_reply *reply, void *arg);
void client_forget(struct client *self, uint64_t id);    /* its reply is no longer wanted; idempotent */
bool client_is_up(const struct client *self);            /* requests would be sent at once */

/* ---- submissions ---- */

struct submission;

enum submission_end {
    SUBMISSION_DONE,         /* all items are admitted, the batch is sealed */
    SUBMISSION_CLOSED,       /* the batch takes no more: its deadline, a cancel, a halt or a seal came first */
    SUBMISSION_FAILED,       /* see `why_ended` */
};

struct submission_config {
    const Wire__Options *options;        /* copied */
    const char *key;                     /* NULL: none, a random submission id */
    struct items *items;                 /* lent; NULL for a batch whose options have a range */
    /* The batch is there (told again after a reconnect); nothing of the input needs to be admitted yet. */
    void (*known)(void *arg, const Wire__Submitted *submitted);
    /* The ventilator takes nothing now, and `sentence` says why; told once until it takes something again. May be NULL. */
    void (*waiting)(void *arg, const char *sentence);
    /* Once: the first items were admitted, or there are none, or they are those that the batch had already. */
    void (*accepted)(void *arg);
    /* Once; nothing is called afterwards. `end` and `sentence` are those of a failure. */
    void (*ended)(void *arg, enum submission_end how, enum client_end end, const char *sentence);
    void *arg;
};

struct submission *submission_new(struct client *client, const struct submission_config *config, struct why *why);
void submission_destroy(struct submission **self_p);
void submission_ready(struct submission *self);          /* for the items' ready() */
void submission_stop(struct submission *self);           /* takes and sends nothing more; `ended` is not called */
uint64_t submission_admitted(const struct submission *self);     /* items on the ventilator's disk */
uint64_t submission_taken(const struct submission *self);        /* items read from the input */

/* ---- streams of results ---- */

struct stream;

/* One task's verdict. Everything is lent until the next call of stream_next. */
struct stream_task {
    uint64_t index;
    Wire__Verdict verdict;
    Wire__Reason reason;
    uint32_t attempts;                   /* number of the attempt that settled it; 0: none did */
    const char *worker;                  /* "" when none ran it */
    bool has_code;
    int32_t code;                        /* exit code */
    uint32_t signal;                     /* 0: none */
    bool output_cut, errors_cut;
    uint64_t queued_us, run_us;
    uint32_t slot;                       /* from 1; 0: none */
    uint64_t bytes;                      /* of output and errors that are kept, also when they aren't here */
    const uint8_t *output, *errors;
    size_t output_len, errors_len;
    Wire__Value *const *values;          /* its own */
    size_t n_values;
    const char *sentence;                /* the reason for people, or "" */
};

struct stream_config {
    const uint8_t *batch;                /* WIRE_ID bytes, copied */
    bool ordered, follow;
    bool heads_only;                     /* no output and errors */
    bool end_only;                       /* no tasks either, just how it ends */
    /* The batch's short id, when some of it is on record for certain: a sink that doesn't know it is none to wait for, but
     * one with other records, and the stream fails. NULL: the sink may hear of it yet. Copied. */
    const char *recorded_as;
    uint64_t credit;                     /* bytes that may be on their way or waiting here */
    uint64_t from_index;                 /* ordered: begin here */
    const Wire__SinkPlace *place;        /* where the sink was last known; NULL: asked for. Copied */
    void (*begun)(void *arg, const Wire__StreamBegin *begin);          /* first, and once */
    void (*ready)(void *arg);            /* stream_next has something to say */
    void (*progress)(void *arg, const Wire__StreamProgress *progress); /* may be NULL */
    void (*failed)(void *arg, enum client_end end, const char *sentence);
    void *arg;
};

struct stream *stream_new(struct client *client, const struct stream_config *config, struct why *why);
void stream_destroy(struct stream **self_p);

enum stream_result {
    STREAM_TASK,             /* *ret is one */
    STREAM_WAIT,             /* nothing now; ready() will be called */
    STREAM_END,              /* all was handed out: see stream_end */
};
/* The next task in the order of the stream. Credit is given back as rows are used up, so whoever
 * doesn't take holds the sink back. */
enum stream_result stream_next(struct stream *self, struct stream_task *ret);
/* The counts at the end: valid once stream_next has said STREAM_END. A batch of which the sink has heard nothing
 * yet, unless it is followed or known to be on record, ends so at once. `sentence`: why it ended early, if it did. */
const Wire__StreamEnd *stream_end(const struct stream *self);

#endif
