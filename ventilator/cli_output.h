/* What comes out: results as text, JSON or CSV, to standard output or into files. */
#ifndef VENTILATOR_CLI_OUTPUT_H
#define VENTILATOR_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tarmac/client.h"
#include "ventilator/cli.h"

/* ---- bytes that are put together (cli_render.c) ---- */

struct text {
    uint8_t *bytes;
    size_t len, room;
    bool broken;                         /* out of memory: what follows is dropped */
};
void text_add(struct text *self, const void *bytes, size_t len);
void text_say(struct text *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_release(struct text *self);

/* What all tasks of a batch have in common. */
struct render_batch {
    const char *short_id;
    const char *traceparent;
    Wire__Value *const *values;
    size_t n_values;
};

/* One line of JSON, one row of CSV (RFC 4180), and the row of its headers. Pure. */
void render_json(struct text *out, const struct render_batch *batch, const struct stream_task *task);
void render_csv(struct text *out, const struct render_batch *batch, const struct stream_task *task);
void render_csv_header(struct text *out);
/* How a task that didn't end well is told to people: "task 3 failed: exit code 7". */
void render_sentence(struct text *out, const struct stream_task *task);

/* The rule of docs/guide.md. */
int cli_exit_code(const Wire__StreamEnd *end);

/* ---- a descriptor that is never waited for (cli_writer.c) ---- */

struct writer {
    struct loop *loop;
    struct loop_watch watch;
    int fd;
    bool plain;                          /* writing never waits: a file */
    bool broken;                         /* nobody reads any more, or an error: `error` */
    int error;
    struct text pending;
    size_t from;
};
void writer_open(struct writer *self, struct loop *loop, int fd);
void writer_close(struct writer *self);
void writer_push(struct writer *self);       /* writes what it can now; goes on by itself when the descriptor is ready */
static inline size_t writer_pending(const struct writer *self) { return self->pending.len - self->from; }

/* ---- files of results (cli_files.c) ---- */

struct out_files;
struct out_files *out_files_new(const char *dir, const char *name_template, struct why *why);
void out_files_destroy(struct out_files **self_p);
/* The name of a task's file: one path component, whatever the template yields. */
int out_files_name(struct out_files *self, const struct stream_task *task, char out[256], struct why *why);
int out_files_put(struct out_files *self, const struct stream_task *task, struct why *why);

/* ---- the log of the jobs (cli_joblog.c) ---- */

struct joblog;
struct joblog_config {
    int fd;                              /* lent */
    int64_t admitted;                    /* of the batch: wall clock, ns */
    bool live;                           /* tasks are put when they have just ended */
    const char *const *items;            /* lent: those that are known, from the first on */
    size_t n_items;
};
/* The file, emptied; -1: why says what is wrong. */
int joblog_open(const char *path, struct why *why);
struct joblog *joblog_new(struct loop *loop, const struct joblog_config *config);      /* NULL: no memory */
void joblog_destroy(struct joblog **self_p);
void joblog_of_batch(struct joblog *self, const Wire__Options *options);      /* lent; before the first task */
void joblog_put(struct joblog *self, const struct stream_task *task, wall_t now);
struct writer *joblog_writer(struct joblog *self);      /* to push, and to ask for what is pending */

/* ---- progress (cli_bar.c) ---- */

struct bar_state {
    char short_id[64];
    uint64_t recorded, total, counts[WIRE_VERDICTS], running, queued;
    bool total_known;
    double rate;                         /* tasks a second; below 0: not known yet */
    int64_t deadline_left;               /* ns; below 0: none */
    bool cancelling;
};
/* One line of at most `width` columns, without an end. Pure. */
void bar_line(const struct bar_state *state, bool drawn, size_t width, char *out, size_t size);

struct bar *bar_new(struct cli *cli, const char *short_id, const uint8_t batch[WIRE_ID]);
void bar_destroy(struct bar **self_p);
void bar_progress(struct bar *self, uint64_t recorded, const uint64_t *counts, size_t n_counts, bool total_known, uint64_t total);
void bar_cancelling(struct bar *self);
void bar_clear(struct bar *self);        /* takes the line away; it is drawn again soon */

/* ---- following a batch to its end (cli_follow.c) ---- */

struct follow;
struct follow_config {
    struct cli *cli;
    const uint8_t *batch;
    const char *short_id;
    const Wire__SinkPlace *place;        /* may be NULL */
    bool follow;                         /* until it is complete */
    bool complete;                       /* it is: the sink must have its records */
    bool results;                        /* print them */
    bool code_by_end;                    /* the exit code tells how the batch ended; else 0 */
    int least_code;                      /* the exit code when every task is ok */
    struct out_files *files;             /* lent; may be NULL */
    int log;                             /* descriptor of the log of the jobs, lent; below 0: none. What follows is for it */
    int64_t admitted;                    /* of the batch: wall clock, ns */
    bool from_the_start;                 /* nothing of the batch had ended before we looked on */
    const char *const *items;            /* lent: those that are known, from the first on */
    size_t n_items;
};
struct follow *follow_new(const struct follow_config *config, struct why *why);
void follow_destroy(struct follow **self_p);
void follow_least_code(struct follow *self, int code);

/* The format that holds: with --out-dir and no --format nothing goes to standard output. */
enum cli_format cli_format_of(const struct cli_options *o);

#endif
