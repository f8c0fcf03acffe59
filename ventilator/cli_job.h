/* One submission from the command line: `submit`, and `run` with a ventilator of its own. */
#ifndef VENTILATOR_CLI_JOB_H
#define VENTILATOR_CLI_JOB_H

#include "ventilator/cli.h"
#include "ventilator/cli_output.h"

struct job {
    struct cli cli;
    struct cli_options options;
    const struct command_spec *command;
    char **argv;
    struct cli_words words;
    struct items_spec spec;
    struct cli_batch batch;
    struct out_files *files;
    int log;                             /* of the jobs; below 0: none */
    struct items *items;
    struct submission *submission;
    struct follow *follow;
    bool prepared, wait, say_id, known, cancelled;
    bool continued;                      /* its --key is that of a batch that was there */
    bool waiting;                        /* the ventilator took nothing for a while, and that was said */
    uint8_t id[WIRE_ID];
    char short_id[256];
    int signals;
    char failed[512];                    /* the sentence that is said once the cancel was answered */
    int failed_code;
    char advice[2 * WIRE_SENTENCE];         /* for cli.advice */
};

/* Reads the command line. True: go on, and call job_release in the end; false: *ret_code is the exit code. */
bool job_parse(struct job *self, const struct command_spec *command, int argc, char **argv, int *ret_code);
/* Prints what would be run. The exit code. */
int job_dry_run(struct job *self);
/* Opens the loop and the items. 0, or the code is in self->cli.code and a sentence was said. */
int job_open(struct job *self, void (*on_signal)(void *arg, int number), void *arg);
/* Connects and begins to submit. */
int job_start(struct job *self);
/* The first cancels the batch and goes on to its end, the second leaves at once. */
void job_signal(struct job *self);
void job_close(struct job *self);        /* everything that needs the loop */
void job_release(struct job *self);

#endif
