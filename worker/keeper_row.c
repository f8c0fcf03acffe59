/* Many commands in a row: the worker sends them as one run, and each is started as soon as nothing of the one before is left,
 * without the way to the worker and back.
 *
 * Which may still begin is decided in the bundle that both share: the worker closes it when nothing more may begin. A command that
 * ended in a usual way leaves its result there; whatever else happens to one (a stop, a limit, more output than there is room for)
 * makes it the last, and its end is told as if it had come alone. */
#include "worker/keeper_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

#define KEPT_ROOM (256u * 1024u)               /* memory that is not given back */

void keeper_row_take(struct process *self)
{
    struct keeper_wire_bundle head;
    struct row *row = &self->row;
    memcpy(&head, keeper_need(self, sizeof head), sizeof head);
    const uint8_t *bytes = keeper_need(self, sizeof head + (size_t)head.len) + sizeof head;
    if (head.len > row->room) {
        uint8_t *larger = realloc(row->bytes, (size_t)head.len);
        if (!larger)
            keeper_leave(self, KEEPER_NO_MEMORY);
        row->bytes = larger;
        row->room = (size_t)head.len;
    }
    memcpy(row->bytes, bytes, (size_t)head.len);
    row->at = 0;
    row->len = (size_t)head.len;
    self->in_at += sizeof head + (size_t)head.len;
    keeper_shrink(self);
    self->in_row = true;
    self->run.run = head.run;
}

/* Each command of a row may be of another program: which one could not be started only we know. */
static void name_program(struct process *self, const char *program)
{
    snprintf(self->handler.sentence, sizeof self->handler.sentence, "%s", program);
    self->report.sentence_len = (uint32_t)strlen(self->handler.sentence);
}

/* The next one is the command of this number. */
static void start_next(struct process *self, uint32_t number)
{
    struct row *row = &self->row;
    BUG_IF(row->len - row->at < sizeof self->run);
    memcpy(&self->run, row->bytes + row->at, sizeof self->run);
    uint8_t *at = row->bytes + row->at + sizeof self->run;
    row->at += sizeof self->run + (size_t)(self->run.strings_len + self->run.input_len);
    BUG_IF(row->at > row->len);
    row->number = number;
    keeper_begin_run(self);
    int result = keeper_start_from(self, at);
    if (result < 0)
        name_program(self, (const char *)at);
    keeper_run_begun(self, result);
}

static void end_row(struct process *self)
{
    struct row *row = &self->row;
    row->at = row->len = 0;
    if (row->room > KEPT_ROOM) {
        free(row->bytes);
        row->bytes = NULL;
        row->room = 0;
    }
}

void keeper_row_start(struct process *self)
{
    int64_t number = self->bundle ? bundle_claim(self->bundle, mono_now()) : -1;
    if (number >= 0) {
        start_next(self, (uint32_t)number);
        return;
    }
    /* Closed before anything could begin: there is nothing to tell but that. Without its memory nobody knows, and it can't begin either. */
    self->report = (struct keeper_wire_ended){.kind = KEEPER_WIRE_ENDED, .run = self->run.run, .how = KEEPER_EXITED};
    if (!self->bundle) {
        self->report.how = KEEPER_NOT_STARTED;
        self->report.code = ENOMEM;
    }
    end_row(self);
    keeper_send(self, NULL, NULL);
}

static bool is_usual(const struct process *self)
{
    const struct keeper_wire_ended *report = &self->report;
    return !self->orphaned && (report->how == KEEPER_EXITED || report->how == KEEPER_SIGNALLED) && report->flags == 0 && report->limit == 0
        && !self->output.cut && !self->errors.cut;
}

static bool leave_result(struct process *self)
{
    const struct keeper_wire_ended *report = &self->report;
    struct bundle_left left = {.code = report->code, .signalled = report->how == KEEPER_SIGNALLED, .swept = report->swept > 0, .sentence = "",
                               .run_ns = report->run_ns};
    left.output = capture_kept(&self->output, &left.output_len);
    left.errors = capture_kept(&self->errors, &left.errors_len);
    /* Of errors the last bytes are kept: when there were more, it is said with them. */
    return left.errors_len == self->errors.len && bundle_leave(self->bundle, self->row.number, &left);
}

bool keeper_row_goes_on(struct process *self)
{
    int64_t number = is_usual(self) && leave_result(self) ? bundle_claim(self->bundle, mono_now()) : -1;
    if (number < 0) {
        bundle_close(self->bundle, false);
        end_row(self);
        return false;
    }
    capture_reset(&self->output);
    capture_reset(&self->errors);
    sweep_reset(&self->sweep);
    start_next(self, (uint32_t)number);
    return true;
}
