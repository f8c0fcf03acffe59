/* Private to tarmac/api*.c: how calls that wait are made of a loop that doesn't. */
#ifndef TARMAC_API_PRIVATE_H
#define TARMAC_API_PRIVATE_H

#include "tarmac/client.h"
#include "tarmac/context_private.h"

struct tarmac_client {
    struct loop *loop;
    struct net *net;
    struct client *client;
    struct loop_timer turn;              /* for a turn that doesn't wait */
    tarmac_failure failure;              /* for good, once its code is set */
};

/* How a batch is described to the ventilator; what it points to lives until api_options_release. */
struct api_options {
    Wire__Options options;
    Wire__RetryRule retry;
    Wire__HaltRule halt;
    Wire__Micros deadline, timeout;
    Wire__Range range;
    Wire__Fence parent;
    uint8_t parent_id[WIRE_ID];
    Wire__Value *values, *require;
    Wire__Value **value_list, **require_list;
    char *keys;                          /* of the labels, cut at their = */
    size_t n_values;
};

int failed(tarmac_failure *failure, enum tarmac_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int failed_with(tarmac_failure *failure, const tarmac_failure *from);
int failed_as(tarmac_failure *failure, enum client_end end, const char *sentence);

/* Runs the loop until `is_done` says so, the context ends or the client fails: TARMAC_OK or the code, said in failure. */
int api_wait(tarmac_context *context, tarmac_client *client, bool (*is_done)(void *arg), void *arg, tarmac_failure *failure);
void api_turn(tarmac_client *client);    /* one turn that doesn't wait */

/* One request and its answer: `reply` is called before this returns TARMAC_OK, and not otherwise. A refusal is one. */
int api_ask(tarmac_context *context, tarmac_client *client, Wire__Request *request, client_reply *reply, void *arg,
            tarmac_failure *failure);

/* ---- api_options.c ---- */
int api_options_make(tarmac_context *context, const struct tarmac_options *from, struct api_options *ret, tarmac_failure *failure);
void api_options_release(struct api_options *self);

#endif
