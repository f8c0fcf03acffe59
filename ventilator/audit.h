/* The audit: one line for each state change of a batch or a worker, and for each action of a person with who did it and what
 * came of it. docs/audit.md is the grammar. State changes are made of the ledger's notes; actions are noted when they
 * are asked and written when they are answered. Writing is done by a thread (common/linefile.h). */
#ifndef VENTILATOR_AUDIT_H
#define VENTILATOR_AUDIT_H

#include "common/clock.h"
#include "common/linefile.h"
#include "proto/wire.h"

#define AUDIT_MOST    ((size_t)8 * 1024 * 1024)    /* bytes that may wait for the file */
#define AUDIT_ASKED   4096u                        /* actions that may wait for their answer; the oldest is written as unanswered */
#define AUDIT_LINE    4096u

struct audit;

/* path NULL: actions go to the log only. NULL: why. */
struct audit *audit_open(const char *path, struct why *why);
void audit_close(struct audit **self_p);           /* waits a few seconds at most for what is on its way to the file */

/* A note of the ledger: `text` is key=value pairs. What is no state change is passed over. */
void audit_note(struct audit *self, wall_t now, const char *event, const char *text);

/* A request; what is no action is passed over. by: "client:10.0.0.7", "key:alice", "http:127.0.0.1". */
void audit_asked(struct audit *self, wall_t now, uint32_t peer, const char *by, const Wire__Request *request);
void audit_answered(struct audit *self, wall_t now, uint32_t peer, const Wire__Reply *reply);

void audit_reopen(struct audit *self);             /* for who rotates the file */
/* false: there is no file. */
bool audit_count(struct audit *self, struct linefile_counts *ret);

#endif
