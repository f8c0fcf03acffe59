/* What a process tells of its own health to whoever watches over it: systemd, by the datagrams that sd_notify(3)
 * documents, and health checks of containers, by a small file that each beat of the loop writes anew. With neither a
 * NOTIFY_SOCKET in the environment nor a file, everything here is legal and does nothing. One thread. */
#ifndef COMMON_NOTIFY_H
#define COMMON_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/loop.h"
#include "common/why.h"

#define NOTIFY_TEXT 160

/* Asked at each beat: whether the process does now what it is there for, and a few words on it, without a line end. */
struct notify_source {
    bool (*serving)(void *arg, char text[NOTIFY_TEXT]);
    void *arg;
};

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child speaks in our name: call it
 * before any thread is started. `health_file` is copied; NULL or empty: none. Its folder should be in memory (a tmpfs), as
 * the loop writes to it. NULL with why: the file or the socket can't be had. The loop must outlive it. */
struct notify *notify_new(struct loop *loop, const char *health_file, const struct notify_source *source, struct why *why);
void notify_destroy(struct notify **self_p);         /* removes the file */

void notify_ready(struct notify *self);              /* once: READY=1, and the first beat */
void notify_stopping(struct notify *self);           /* STOPPING=1; beats go on, so that a long drain is no death. Idempotent */

/* What a health file says, for whoever looks from outside. HEALTH_DEAD: there is none, or its process has not beaten for
 * `HEALTH_STALE_S`; `why` says so in words, as it says for HEALTH_AWAY what the process waits for. */
#define HEALTH_STALE_S 20
enum health { HEALTH_SERVING, HEALTH_AWAY, HEALTH_DEAD };
enum health notify_health(const char *health_file, struct why *why);

#endif
