/* Persistent handlers: one process for many tasks, which come and go as frames on its standard input and output.
 *
 * A task in flight is the run of the keeper, as a command is: the phases and the proof of its end are the same. What is
 * different: when the result is there the run has ended although the process lives, idle, until the next task. A process that can't be
 * trusted any more (it talked out of turn, died, was recycled) is ended with everything that is left of it before another one starts. */
#include "worker/keeper_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bug.h"

#define READ_AT_ONCE (64u * 1024u)
#define KEPT_ROOM (1024u * 1024u)              /* memory that is not given back between tasks */
#define RETIRE_GRACE NS_PER_S                  /* from the end of its input to SIGKILL, when it is recycled */
#define SAMPLE 24                              /* bytes of rubbish that are shown */

/* ---- faults ---- */

/* The first one stands. The process is ended, and with it the run. */
static void fault(struct process *self, const char *sentence)
{
    struct persistent *handler = &self->handler;
    if (handler->sentence[0] == '\0')
        snprintf(handler->sentence, sizeof handler->sentence, "%s", sentence);
    handler->faulty = true;
    if (self->phase == PHASE_RUNNING)
        keeper_kill_everything(self);
}

static void bad_length(struct process *self, uint32_t len)
{
    const struct handler_bytes *in = &self->handler.in;
    char sample[SAMPLE + 1] = "", text[200];
    for (size_t i = 0; i < in->len && i < SAMPLE; i++)
        sample[i] = in->data[i] >= ' ' && in->data[i] < 0x7f ? (char)in->data[i] : '?';
    snprintf(text, sizeof text, "it wrote '%s' where a message of %u bytes would begin; each is four bytes of length, the most significant first, "
             "and then at most %u", sample, len, HANDLER_FRAME_MOST);
    fault(self, text);
}

/* ---- the process ---- */

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void shrink(struct handler_bytes *bytes)
{
    bytes->len = 0;
    if (bytes->room > KEPT_ROOM)
        handler_bytes_release(bytes);
}

/* Two ends of a pipe, ours not blocking; `ours` is 0 to read, 1 to write. */
static int open_pipe(int ours, int *ret_ours, int *ret_theirs)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *ret_ours = ends[ours];
    *ret_theirs = ends[1 - ours];
    return fcntl(ends[ours], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int spawn_handler(struct process *self, char **env)
{
    struct persistent *handler = &self->handler;
    int theirs[3] = {-1, -1, -1};
    struct keeper_limits limits;
    int result = keeper_limits_begin(self, &limits);
    if (result == 0)
        result = open_pipe(1, &handler->to, &theirs[0]);
    if (result == 0)
        result = open_pipe(0, &handler->from, &theirs[1]);
    if (result == 0)
        result = open_pipe(0, &handler->errors, &theirs[2]);
    if (result == 0) {
        struct spawn_request request = {
            .argv = self->words, .env = env, .file = self->run.own_program ? "/proc/self/exe" : NULL, .in = theirs[0], .out = theirs[1], .err = theirs[2],
            .keep_fd = self->run.own_program && self->bundle_fd >= 0 ? self->bundle_fd : SPAWN_NOTHING,
            .nice_by = KEEPER_NICE_BY, .new_session = true, .dies_with_caller = true, .signals_are_default = true,
            .cgroups = limits.groups, .n_cgroups = limits.n_groups, .limits = limits.limits, .n_limits = limits.n_limits,
        };
        result = spawn_process(&request, &self->command, NULL);
    }
    for (int i = 0; i < 3; i++)
        close_one(&theirs[i]);
    handler->alive = result == 0;
    handler->served = 0;
    handler->unfit = false;
    handler->in.len = 0;
    if (result < 0)
        keeper_persistent_gone(self);
    return result;
}

/* Idle, it may have died, or said something that nobody asked for. Its errors of that time are nobody's. */
static bool is_fit(struct process *self)
{
    struct persistent *handler = &self->handler;
    siginfo_t info = {0};
    char dropped[4096];
    struct pollfd from = {.fd = handler->from, .events = POLLIN};
    if (handler->unfit || waitid(P_PID, (id_t)self->command, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0)
        return false;
    while (read(handler->errors, dropped, sizeof dropped) > 0)
        ;
    return poll(&from, 1, 0) == 0;
}

void keeper_persistent_gone(struct process *self)
{
    struct persistent *handler = &self->handler;
    handler->alive = false;
    close_one(&handler->to);
    close_one(&handler->from);
    close_one(&handler->errors);
}

void keeper_persistent_prepare(struct process *self)
{
    if (!self->handler.alive || is_fit(self))
        return;
    self->silent = true;
    self->command_ended = self->childless = false;
    keeper_kill_everything(self);
    keeper_finish_phases(self);
}

/* ---- a task ---- */

static void send_some(struct process *self)
{
    struct persistent *handler = &self->handler;
    while (handler->out_at < handler->out.len && !handler->deaf) {
        ssize_t put = write(handler->to, handler->out.data + handler->out_at, handler->out.len - handler->out_at);
        if (put < 0 && errno == EINTR)
            continue;
        /* It reads no more: either it is about to end, and that will be seen, or it answers without having read it all. */
        if (put < 0 && errno != EAGAIN)
            handler->deaf = true;
        if (put <= 0)
            break;
        handler->out_at += (size_t)put;
    }
}

/* The words lie in memory of their own, since the stream goes on. */
static int spawn_anew(struct process *self)
{
    char **env;
    int result = keeper_make_words(self, (char *)self->handler.strings.data, &env);
    return result < 0 ? result : spawn_handler(self, env);
}

static int keep_strings(struct persistent *handler, const uint8_t *strings, size_t len)
{
    handler->strings.len = 0;
    if (!handler_bytes_reserve(&handler->strings, len))
        return -ENOMEM;
    memcpy(handler->strings.data, strings, len);
    handler->strings.len = len;
    return 0;
}

/* The capture owns a descriptor of its own, since it closes what it has read. */
static void begin_task(struct process *self)
{
    capture_begin(&self->errors, fcntl(self->handler.errors, F_DUPFD_CLOEXEC, 0), self->run.max_errors);
    self->started = mono_now();
    self->handler.out_at = 0;
    self->handler.deaf = false;
    send_some(self);
}

int keeper_persistent_start(struct process *self)
{
    struct persistent *handler = &self->handler;
    const struct keeper_wire_run *run = &self->run;
    size_t strings_len = (size_t)run->strings_len, task_len = (size_t)run->task_len, input_len = (size_t)run->input_len;
    size_t total = sizeof *run + strings_len + task_len + input_len;
    const uint8_t *at = keeper_need(self, total) + sizeof *run;
    shrink(&handler->out);
    handler->sentence[0] = '\0';
    handler->faulty = handler->closed = handler->answered = handler->again = false;
    int result = handler_put_task(&handler->out, run->protobuf, run->run, at + strings_len, task_len, at + strings_len + task_len, input_len, run->shared_len);
    struct keeper_limits unused;
    if (result == 0)
        result = keep_strings(handler, at, strings_len);
    if (result == 0 && handler->alive)
        result = keeper_limits_begin(self, &unused);
    else if (result == 0)
        result = spawn_anew(self);
    self->in_at += total;
    keeper_shrink(self);
    if (result == 0)
        begin_task(self);
    return result;
}

static void take_result(struct process *self, const struct handler_result *result)
{
    struct persistent *handler = &self->handler;
    bool shared = result->shared > 0;
    uint64_t len = shared ? result->shared : result->output_len;
    bool cut = len > self->run.max_output;
    len = cut ? self->run.max_output : len;
    self->report.how = KEEPER_EXITED;
    self->report.code = result->code;
    self->report.run_ns = mono_since(mono_now(), self->started);
    self->report.flags |= cut ? KEEPER_WIRE_OUTPUT_CUT : 0U;
    *(shared ? &self->report.shared_len : &self->report.output_len) = len;
    snprintf(handler->sentence, sizeof handler->sentence, "%s", result->error);
    handler->served++;
    handler->answered = true;
    keeper_task_done(self, result->output);
    shrink(&handler->in);
}

/* Whole frames of what was read. */
static void take_frame(struct process *self)
{
    struct persistent *handler = &self->handler;
    struct handler_result result;
    struct why why;
    char text[500];
    if (handler->in.len < HANDLER_FRAME_HEAD)
        return;
    uint32_t len = handler_frame_length(handler->in.data);
    if (len == 0 || len > HANDLER_FRAME_MOST) {
        bad_length(self, len);
        return;
    }
    if (handler->in.len - HANDLER_FRAME_HEAD < len)
        return;
    if (handler_read_result(self->run.protobuf, handler->in.data + HANDLER_FRAME_HEAD, len, &result, &why) < 0) {
        fault(self, why.text);
        return;
    }
    handler->unfit = handler->in.len > HANDLER_FRAME_HEAD + len;
    if (result.shared > 0 && (!self->run.own_program || !self->bundle || result.output_len > 0 || result.shared > BUNDLE_LARGE_MOST)) {
        fault(self, "its result is said to be in memory where it can't be");
    } else if (result.id == self->run.run && result.fault) {
        fault(self, result.error[0] != '\0' ? result.error : "it says that it can't work");
    } else if (result.id == self->run.run) {
        take_result(self, &result);
    } else {
        snprintf(text, sizeof text, "its result is for task id %llu, and asked for was %u", (unsigned long long)result.id, self->run.run);
        fault(self, text);
    }
    handler_result_release(&result);
}

static void read_some(struct process *self)
{
    struct persistent *handler = &self->handler;
    size_t wanted = READ_AT_ONCE;
    if (handler->in.len >= HANDLER_FRAME_HEAD) {
        uint32_t len = handler_frame_length(handler->in.data);
        if (len <= HANDLER_FRAME_MOST && HANDLER_FRAME_HEAD + len > handler->in.len)
            wanted = HANDLER_FRAME_HEAD + len - handler->in.len;
    }
    if (!handler_bytes_reserve(&handler->in, wanted)) {
        fault(self, "there is no memory for its result");
        return;
    }
    ssize_t got = read(handler->from, handler->in.data + handler->in.len, wanted);
    if (got > 0) {
        handler->in.len += (size_t)got;
        take_frame(self);
    } else if (got == 0) {
        /* Usually it is ending, and its exit code will say more than this would. */
        close_one(&handler->from);
        handler->unfit = handler->closed = true;
        self->kill_at = mono_min(self->kill_at, mono_add(mono_now(), RETIRE_GRACE));
    }
}

void keeper_persistent_ready(struct process *self, short to, short from)
{
    if (to != 0)
        send_some(self);
    if (from != 0 && self->phase == PHASE_RUNNING)
        read_some(self);
}

void keeper_persistent_cancel(struct process *self)
{
    struct persistent *handler = &self->handler;
    /* Without memory for it there is still the end of the grace. */
    (void)handler_put_cancel(&handler->out, self->run.protobuf, self->run.run);
    send_some(self);
}

void keeper_persistent_retire(struct process *self)
{
    if (!self->handler.alive || self->run.recycle == 0 || self->handler.served < self->run.recycle)
        return;
    self->silent = true;
    self->command_ended = self->childless = false;
    self->handler.unfit = true;
    close_one(&self->handler.to);
    self->phase = PHASE_ENDING;
    self->kill_at = mono_add(mono_now(), RETIRE_GRACE);
    keeper_finish_phases(self);
}

static void read_last_words(struct process *self)
{
    struct persistent *handler = &self->handler;
    struct pollfd from = {.fd = handler->from, .events = POLLIN};
    while (handler->from >= 0 && !handler->answered && !handler->faulty && poll(&from, 1, 0) == 1 && from.revents & POLLIN)
        read_some(self);
}

/* Nothing of the task was read: the process was on its way out when the task came, and may have another one. */
static bool never_read(const struct process *self)
{
    const struct persistent *handler = &self->handler;
    int unread = -1;
    return ioctl(handler->to, FIONREAD, &unread) == 0 && unread >= 0 && (size_t)unread == handler->out_at;
}

bool keeper_persistent_again(struct process *self)
{
    struct persistent *handler = &self->handler;
    read_last_words(self);
    if (handler->answered) {
        self->silent = true;       /* what is to be told has been told */
        return false;
    }
    bool stopped = self->report.flags & (KEEPER_WIRE_TERM_SENT | KEEPER_WIRE_KILL_SENT);
    if (stopped || handler->faulty || handler->again || self->orphaned || handler->in.len > 0 || !never_read(self))
        return false;
    capture_end(&self->errors);
    keeper_persistent_gone(self);
    handler->again = true;
    handler->closed = false;
    int result = spawn_anew(self);
    if (result < 0) {
        self->report.how = KEEPER_NOT_STARTED;
        self->report.code = -result;
        return false;
    }
    self->phase = PHASE_RUNNING;
    self->command_ended = self->childless = false;
    self->kill_at = MONO_NEVER;
    self->report.how = KEEPER_EXITED;
    self->report.swept = 0;
    begin_task(self);
    return true;
}

/* A process that ended while it had a task: by its own fault, or because it was told to stop. */
void keeper_persistent_judge(struct process *self)
{
    struct persistent *handler = &self->handler;
    bool killed = self->report.flags & KEEPER_WIRE_KILL_SENT, told = self->report.flags & KEEPER_WIRE_TERM_SENT;
    if (self->report.how == KEEPER_NOT_STARTED || (!handler->faulty && (told || (killed && !handler->closed))))
        return;
    if (handler->sentence[0] == '\0' && killed)
        snprintf(handler->sentence, sizeof handler->sentence, "it closed its standard output before it had answered");
    else if (handler->sentence[0] == '\0' && self->report.how == KEEPER_EXITED)
        snprintf(handler->sentence, sizeof handler->sentence, "it exited with code %d before it had answered", self->report.code);
    else if (handler->sentence[0] == '\0')
        snprintf(handler->sentence, sizeof handler->sentence, "it was ended by signal %d before it had answered", self->report.code);
    self->report.how = KEEPER_FAULT;
}
