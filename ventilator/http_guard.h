/* Who may ask over HTTP, and how often: the Host header, the token, the origin of an action, and a bucket for each
 * address. Pure: text and time in, yes or no out. */
#ifndef VENTILATOR_HTTP_GUARD_H
#define VENTILATOR_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/clock.h"
#include "common/options.h"

#define GUARD_PER_S 100.0         /* requests a second from one address … */
#define GUARD_BURST 400.0         /* … and so many at once */
#define GUARD_FAILURE 20.0        /* a wrong token costs as much as so many requests */
#define GUARD_ADDRESSES 1024u     /* that are told apart at once */

struct guard {
    bool needs_token;
    char token[257];
    const struct string_list *names;      /* hosts by which it may be called, beside the usual ones; may be NULL */
    struct guard_bucket *buckets;
};

/* "TOKEN", or a file's path when it has a slash. 0 or why_set. */
int guard_set_token(struct guard *self, const char *text, struct why *why);
void guard_release(struct guard *self);

bool guard_host_ok(const struct guard *self, const char *host);          /* the header; NULL: none */
/* authorization: "Bearer …"; the others as they are. NULL: not given. Any one of them is enough. */
bool guard_token_ok(const struct guard *self, const char *authorization, const char *cookie, const char *query);
/* An action: `custom` is the value of X-Tarmac. */
bool guard_origin_ok(const char *host, const char *origin, const char *fetch_site, const char *custom);

/* Takes so many requests out of the bucket of this address; false: it is empty. */
bool guard_take(struct guard *self, mono_t now, const char *address, double cost);

#endif
