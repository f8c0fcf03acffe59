/* The worker's side of a keeper.
 *
 * What must hold: nothing here blocks, and nothing is lost on the way. A run is put into one block (the
 * head and the words; a small input too) and sent at once; what the socket doesn't take waits, and a
 * stop that comes meanwhile waits behind it. Its room is reserved with the run, so it can't fail. */
#include "worker/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/spawn.h"
#include "worker/keeper_wire.h"

#define COPIED_INPUT (16 * 1024)       /* inputs up to this size travel in the block of the run */
#define KEPT_ROOM (1024 * 1024)        /* memory for blocks that is not given back */
#define START_AGAIN (200 * NS_PER_MS)  /* after a replacement that could not be started, or died at once */
#define WORD_MOST (128 * 1024)         /* MAX_ARG_STRLEN of Linux on pages of 4 KiB: one word with its NUL */

/* A keeper that was closed and is not reaped yet. Made together with the keeper, so that closing can't fail. */
struct leaver {
    struct leaver *next;
    pid_t pid;
    struct loop *loop;
    struct loop_watch watch;           /* on the pidfd, which it owns */
};

struct keeper {
    struct loop *loop;
    struct keeper_callbacks callbacks;
    struct loop_watch watch;           /* on our end of the socket pair, which it owns */
    struct keeper_wire_setup setup;    /* what each process of this slot is told first */
    int bundle;                        /* a descriptor that comes along with it; 0: none */
    pid_t pid;
    struct leaver *leaver;             /* holds the pidfd from the start */

    size_t args_most, inherited;       /* bytes that the system takes for words and variables; those of the keeper's own */

    bool running, wants_to_send;
    bool replacing, lost;              /* a new process is on its way or cleans up; with `lost` it was an attempt that died */
    struct loop_timer again;
    char death[200];
    uint32_t run;
    uint64_t max_output, max_errors;
    bool stopped;
    mono_t kill_at;                    /* as far as the keeper has been told; only with `stopped` */

    uint8_t *out;                      /* what is to be sent; the input goes in between at input_after */
    size_t out_len, out_at, out_room, input_after, input_at, last_stop, bundle_at;
    uint32_t added;                    /* runs of a bundle that is not sent yet; its head is at bundle_at */
    struct slice input;

    uint8_t in[4096];                  /* a report, with the outputs when they are small */
    size_t in_len;
    bool has_report;
    struct keeper_wire_ended report;
    struct buf *body;                  /* both outputs and a sentence; NULL when there are none, or no memory for them */
    size_t body_len, body_got;
};

static struct leaver *leavers;
static struct rlimit files_at_start;

/* ---- closing and reaping ---- */

static void forget_leaver(struct leaver *leaver)
{
    struct leaver **link = &leavers;
    while (*link && *link != leaver)
        link = &(*link)->next;
    if (*link)
        *link = leaver->next;
    loop_unwatch(leaver->loop, &leaver->watch);
    close(leaver->watch.fd);
    free(leaver);
}

static bool has_left(const struct leaver *leaver)
{
    siginfo_t info = {0};
    int result;
    do
        result = waitid(P_PIDFD, (id_t)leaver->watch.fd, &info, WEXITED | WNOHANG);
    while (result < 0 && errno == EINTR);
    /* ECHILD: somebody ignores SIGCHLD, or has reaped it for us. */
    return result < 0 || info.si_pid != 0;
}

static void leaver_ready(void *arg, uint32_t events)
{
    struct leaver *leaver = arg;
    (void)events;
    if (has_left(leaver))
        forget_leaver(leaver);
}

static void see_off(struct leaver *leaver)
{
    leaver->next = leavers;
    leavers = leaver;
    if (has_left(leaver)) {
        forget_leaver(leaver);
        return;
    }
    /* Without a watch it is reaped by keepers_wait, or by init after us. */
    (void)loop_watch(leaver->loop, &leaver->watch, EPOLLIN);
}

static bool leaver_waited_for(struct leaver *leaver, mono_t until)
{
    for (;;) {
        int64_t left = mono_since(until, mono_now());
        struct pollfd fd = {.fd = leaver->watch.fd, .events = POLLIN};
        struct timespec wait = {.tv_sec = left > 0 ? left / NS_PER_S : 0, .tv_nsec = left > 0 ? left % NS_PER_S : 0};
        int n = ppoll(&fd, 1, &wait, NULL);
        if (n != 0 && has_left(leaver))
            return true;
        if (left <= 0)
            return false;
    }
}

bool keepers_wait(struct loop *loop, int64_t ns)
{
    mono_t until = mono_add(mono_now(), ns);
    bool all = true;
    for (struct leaver *leaver = leavers, *next; leaver; leaver = next) {
        next = leaver->next;
        if (leaver->loop != loop)
            continue;
        all = leaver_waited_for(leaver, until) && all;
        forget_leaver(leaver);
    }
    return all;
}

static void close_process(struct keeper *self)
{
    loop_unwatch(self->loop, &self->watch);
    if (self->watch.fd >= 0)
        close(self->watch.fd);
    self->watch.fd = -1;
    if (self->leaver && self->leaver->watch.fd >= 0)
        see_off(self->leaver);
    else
        free(self->leaver);
    self->leaver = NULL;
}

void keeper_close(struct keeper **self_p)
{
    struct keeper *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    loop_timer_clear(self->loop, &self->again);
    close_process(self);
    slice_drop(&self->input);
    buf_unref(&self->body);
    free(self->out);
    free(self);
}

/* ---- the keeper's death ---- */

static const char *death_of(const struct keeper *self, char *text, size_t size)
{
    siginfo_t info = {0};
    /* It stays to be reaped by keeper_close. It may still be on its way out: then only its silence is known. */
    int result = waitid(P_PIDFD, (id_t)self->leaver->watch.fd, &info, WEXITED | WNOHANG | WNOWAIT);
    if (result == 0 && info.si_pid != 0 && info.si_code == CLD_EXITED)
        snprintf(text, size, "the keeper of slot %u (pid %d) exited with code %d", self->setup.slot, (int)self->pid, info.si_status);
    else if (result == 0 && info.si_pid != 0)
        snprintf(text, size, "the keeper of slot %u (pid %d) was ended by signal %d", self->setup.slot, (int)self->pid, info.si_status);
    else
        snprintf(text, size, "the keeper of slot %u (pid %d) closed its end", self->setup.slot, (int)self->pid);
    return text;
}

/* Orphans of a killed keeper fall to the worker when it is a child subreaper, and are dead by now: nobody else reaps them. A
 * keeper among the dead is left to its own pidfd. */
static bool is_own_process(const struct keeper *self, pid_t pid)
{
    for (const struct leaver *leaver = leavers; leaver; leaver = leaver->next)
        if (leaver->pid == pid)
            return true;
    return self->pid == pid;
}

static void reap_orphans(const struct keeper *self)
{
    siginfo_t info;
    for (;;) {
        info = (siginfo_t){0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 || is_own_process(self, info.si_pid))
            return;
        /* Another slot's keeper may have died just now: it is told by its socket, and only its exit code is lost. */
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

static void replaced(struct keeper *self)
{
    bool lost = self->lost;
    self->replacing = self->lost = false;
    if (self->setup.adopted)
        reap_orphans(self);
    if (!lost)
        return;
    self->running = false;
    self->callbacks.died(self->callbacks.arg, self, self->death, true);
}

static int start_process(struct keeper *self);

static void start_again(void *arg)
{
    struct keeper *self = arg;
    self->setup.clean = 1;
    /* The system is out of something: the slot stays taken until there is some of it again. */
    if (start_process(self) < 0)
        loop_timer_set(self->loop, &self->again, mono_add(loop_now(self->loop), START_AGAIN));
}

static void die(struct keeper *self, const char *what)
{
    char text[100];
    bool at_once = !self->replacing, lost_now = self->running && !self->lost, idle = !self->running && at_once;
    if (!self->lost)
        snprintf(self->death, sizeof self->death, "%s%s", what ? what : death_of(self, text, sizeof text),
                 self->running ? "; what it ran is unknown, and has been ended" : "");
    self->replacing = true;
    self->lost |= lost_now;
    close_process(self);
    slice_drop(&self->input);
    buf_unref(&self->body);
    self->out_len = self->out_at = self->input_after = self->input_at = self->last_stop = 0;
    self->in_len = self->body_len = self->body_got = 0;
    self->has_report = self->wants_to_send = false;
    if (at_once)
        start_again(self);
    else
        loop_timer_set(self->loop, &self->again, mono_add(loop_now(self->loop), START_AGAIN));
    if (idle)
        self->callbacks.died(self->callbacks.arg, self, self->death, false);
}

/* ---- sending ---- */

static size_t add_part(struct iovec *parts, size_t n, const void *data, size_t len)
{
    if (len == 0)
        return n;
    parts[n] = (struct iovec){.iov_base = (void *)data, .iov_len = len};
    return n + 1;
}

static size_t unsent_parts(const struct keeper *self, struct iovec parts[3])
{
    size_t n = 0, behind = self->input_after;
    if (self->out_at < self->input_after)
        n = add_part(parts, n, self->out + self->out_at, self->input_after - self->out_at);
    else
        behind = self->out_at;
    n = add_part(parts, n, self->input.data + self->input_at, self->input.len - self->input_at);
    return add_part(parts, n, self->out + behind, self->out_len - behind);
}

static void note_sent(struct keeper *self, size_t sent)
{
    if (self->out_at < self->input_after) {
        size_t front = self->input_after - self->out_at;
        size_t done = sent < front ? sent : front;
        self->out_at += done;
        sent -= done;
    }
    size_t left = self->input.len - self->input_at;
    size_t done = sent < left ? sent : left;
    self->input_at += done;
    self->out_at += sent - done;
}

static void all_sent(struct keeper *self)
{
    slice_drop(&self->input);
    self->out_len = self->out_at = self->input_after = self->input_at = self->last_stop = 0;
    /* What stays is room enough for a stop. */
    uint8_t *less = self->out_room > KEPT_ROOM ? realloc(self->out, COPIED_INPUT) : NULL;
    if (less) {
        self->out = less;
        self->out_room = COPIED_INPUT;
    }
}

/* Sends what the socket takes. An error is left to the loop, which reports the hang-up that goes with it:
 * so `died` never comes out of a call of the owner. */
static void flush(struct keeper *self)
{
    struct iovec parts[3];
    bool blocked = false;
    if (self->watch.fd < 0)
        return;                        /* it waits for the next process */
    while (!blocked) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = unsent_parts(self, parts)};
        if (message.msg_iovlen == 0)
            break;
        ssize_t sent = sendmsg(self->watch.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0)
            note_sent(self, (size_t)sent);
        else
            blocked = errno != EINTR;
    }
    if (!blocked)
        all_sent(self);
    if (blocked != self->wants_to_send &&
        loop_rewatch(self->loop, &self->watch, EPOLLIN | (blocked ? EPOLLOUT : 0U)) == 0)
        self->wants_to_send = blocked;
}

/* ---- a run ---- */

/* Counts words; 0 or -E2BIG when one of them is longer than the system takes. */
static int measure(char *const *list, uint32_t *ret_n, size_t *total)
{
    uint32_t n = 0;
    size_t sum = 0;
    for (; list && list[n]; n++) {
        size_t size = strlen(list[n]) + 1;
        if (size > WORD_MOST)
            return -E2BIG;
        sum += size;
    }
    *ret_n = n;
    *total += sum;
    return 0;
}

/* The kernel counts the bytes and the pointers. */
static size_t weight(size_t bytes, size_t words)
{
    return bytes + (words + 1) * sizeof(char *);
}

static void measure_system(struct keeper *self)
{
    long most = sysconf(_SC_ARG_MAX);
    uint32_t n;
    size_t bytes = 0;
    self->args_most = most > 0 ? (size_t)most : SIZE_MAX;
    if (measure(environ, &n, &bytes) == 0)
        self->inherited = weight(bytes, n) + sizeof KEEPER_MARK + sizeof self->setup.mark;
}

static int measure_run(const struct keeper *self, const struct keeper_run *run, struct keeper_wire_run *ret_head)
{
    struct keeper_wire_run head = {.kind = KEEPER_WIRE_RUN};
    size_t bytes = 0;
    if (measure(run->argv, &head.argc, &bytes) < 0 || measure(run->env, &head.envc, &bytes) < 0 ||
        self->inherited + weight(bytes, (size_t)head.argc + head.envc) > self->args_most)
        return -E2BIG;
    head.strings_len = bytes;
    head.task_len = run->task ? run->task->head.len : 0;
    *ret_head = head;
    return 0;
}

static uint8_t *put_words(uint8_t *to, char *const *list)
{
    for (; list && *list; list++) {
        size_t size = strlen(*list) + 1;
        memcpy(to, *list, size);
        to += size;
    }
    return to;
}

/* Room for a run's block, and for the two stops that can wait behind it. */
static int reserve_out(struct keeper *self, size_t wanted)
{
    wanted += self->out_len + 2 * sizeof(struct keeper_wire_stop);
    if (wanted <= self->out_room)
        return 0;
    uint8_t *out = realloc(self->out, wanted);
    if (!out)
        return -ENOMEM;
    self->out = out;
    self->out_room = wanted;
    return 0;
}

static void fill_head(const struct keeper *self, const struct keeper_run *run, struct keeper_wire_run *head)
{
    head->run = self->run;
    head->input_len = run->input.len;
    head->has_input = run->has_input || run->input.len > 0;
    head->max_output = run->max_output;
    head->max_errors = run->max_errors;
    head->grace = run->grace;
    if (run->task) {
        head->persistent = 1;
        head->protobuf = run->task->protobuf;
        head->own_program = run->task->own_program;
        head->recycle = run->task->recycle;
        head->bundle = run->task->bundle;
        head->shared_len = run->task->shared;
    }
    if (run->limits)
        memcpy(head->limits, run->limits->of, sizeof head->limits);
}

static void put(struct keeper *self, const void *data, size_t len)
{
    if (len > 0)
        memcpy(self->out + self->out_len, data, len);
    self->out_len += len;
}

/* Behind what waits already; the input only if it is to be copied. */
static int put_run(struct keeper *self, const struct keeper_run *run, bool copied)
{
    struct keeper_wire_run head;
    BUG_IF(self->running || !run->argv || !run->argv[0]);
    int result = measure_run(self, run, &head);
    if (result == 0)
        result = reserve_out(self, sizeof head + (size_t)(head.strings_len + head.task_len) + (copied ? run->input.len : 0));
    if (result < 0)
        return result;
    fill_head(self, run, &head);
    put(self, &head, sizeof head);
    self->out_len = (size_t)(put_words(put_words(self->out + self->out_len, run->argv), run->env) - self->out);
    if (head.task_len > 0)
        put(self, run->task->head.data, (size_t)head.task_len);
    if (copied)
        put(self, run->input.data, run->input.len);
    self->max_output = run->max_output;
    self->max_errors = run->max_errors;
    return 0;
}

static void send_run(struct keeper *self, struct slice input)
{
    self->input_after = self->out_len;
    self->input = input;
    self->input_at = 0;
    self->last_stop = 0;
    self->running = true;
    self->stopped = false;
    flush(self);
}

int keeper_run(struct keeper *self, const struct keeper_run *run)
{
    bool copied = run->input.len <= COPIED_INPUT;
    struct slice input = copied ? (struct slice){0} : slice_keep(run->input);
    if (!copied && !input.data)
        return -ENOMEM;
    self->run++;
    int result = put_run(self, run, copied);
    if (result < 0)
        slice_drop(&input);
    else
        send_run(self, input);
    return result;
}

int keeper_add(struct keeper *self, const struct keeper_run *run)
{
    bool is_first = self->added == 0;
    BUG_IF(run->task);
    if (is_first) {
        int result = reserve_out(self, sizeof(struct keeper_wire_bundle));
        if (result < 0)
            return result;
        self->run++;
        self->bundle_at = self->out_len;
        self->out_len += sizeof(struct keeper_wire_bundle);
    }
    int result = put_run(self, run, true);
    if (result < 0 && is_first)
        self->out_len = self->bundle_at;
    self->added += result == 0;
    return result;
}

void keeper_run_added(struct keeper *self)
{
    BUG_IF(self->added == 0);
    const struct keeper_wire_bundle head = {
        .kind = KEEPER_WIRE_BUNDLE, .run = self->run, .count = self->added, .len = self->out_len - self->bundle_at - sizeof head,
    };
    memcpy(self->out + self->bundle_at, &head, sizeof head);
    self->added = 0;
    send_run(self, (struct slice){0});
}

void keeper_stop(struct keeper *self, int64_t grace_ns)
{
    if (!self->running || self->lost)
        return;
    mono_t at = mono_add(mono_now(), grace_ns > 0 ? grace_ns : 0);
    if (self->stopped && !mono_before(at, self->kill_at))
        return;
    self->stopped = true;
    self->kill_at = at;
    struct keeper_wire_stop stop = {.kind = KEEPER_WIRE_STOP, .run = self->run, .grace = grace_ns};
    /* A stop that has not begun to leave is replaced, so that there are never more than two. */
    if (self->last_stop > 0 && self->out_at <= self->last_stop)
        self->out_len = self->last_stop;
    if (reserve_out(self, 0) < 0 && self->out_len + sizeof stop > self->out_room)
        return;
    self->last_stop = self->out_len;
    memcpy(self->out + self->out_len, &stop, sizeof stop);
    self->out_len += sizeof stop;
    flush(self);
}

/* ---- the report ---- */

static void deliver(struct keeper *self)
{
    const struct keeper_wire_ended *report = &self->report;
    struct buf *body = self->body;
    struct slice whole = slice_of(body);
    bool lost = !body && self->body_len > 0;
    char sentence[KEEPER_SENTENCE_MOST] = "";
    if (body && report->sentence_len > 0)
        memcpy(sentence, whole.data + report->output_len + report->errors_len, report->sentence_len);
    struct keeper_end end = {
        .sentence = report->sentence_len > 0 ? sentence : NULL,
        .how = (enum keeper_how)report->how,
        .code = report->code,
        .term_sent = report->flags & KEEPER_WIRE_TERM_SENT,
        .kill_sent = report->flags & KEEPER_WIRE_KILL_SENT,
        .output = body ? slice_cut(whole, 0, (size_t)report->output_len) : whole,
        .errors = body ? slice_cut(whole, (size_t)report->output_len, (size_t)report->errors_len) : whole,
        .output_truncated = report->flags & KEEPER_WIRE_OUTPUT_CUT || (lost && report->output_len > 0),
        .errors_truncated = report->flags & KEEPER_WIRE_ERRORS_CUT || (lost && report->errors_len > 0),
        .shared = (size_t)report->shared_len,
        .run_ns = report->run_ns,
        .limit = (int)report->limit - 1,
        .swept = report->swept,
    };
    self->body = NULL;
    self->body_len = self->body_got = self->in_len = 0;
    self->has_report = false;
    self->running = false;
    /* The owner may close us in here: nothing of us is touched afterwards. */
    self->callbacks.ended(self->callbacks.arg, self, &end);
    buf_unref(&body);
}

/* Takes the head of a report out of `in`; false when it is none that we could have asked for. */
static bool begin_report(struct keeper *self)
{
    memcpy(&self->report, self->in, sizeof self->report);
    const struct keeper_wire_ended *report = &self->report;
    if (report->kind != KEEPER_WIRE_ENDED || !self->running || self->replacing || report->run != self->run ||
        report->how > KEEPER_FAULT || report->sentence_len >= KEEPER_SENTENCE_MOST || report->limit > LIMIT_KINDS ||
        report->output_len > self->max_output || report->errors_len > self->max_errors ||
        report->shared_len > self->max_output || (report->shared_len > 0 && report->output_len > 0))
        return false;
    size_t there = self->in_len - sizeof self->report;
    self->body_len = (size_t)(report->output_len + report->errors_len + report->sentence_len);
    if (there > self->body_len)
        return false;
    self->has_report = true;
    /* Without memory the outputs are read and dropped: the end itself is never lost. */
    self->body = self->body_len > 0 ? buf_new(self->body_len) : NULL;
    if (self->body)
        memcpy(buf_data(self->body), self->in + sizeof self->report, there);
    self->body_got = there;
    return true;
}

static ssize_t receive_some(struct keeper *self)
{
    size_t left = self->body_len - self->body_got;
    if (!self->has_report)
        return recv(self->watch.fd, self->in + self->in_len, sizeof self->in - self->in_len, MSG_DONTWAIT);
    if (self->body)
        return recv(self->watch.fd, buf_data(self->body) + self->body_got, left, MSG_DONTWAIT);
    return recv(self->watch.fd, self->in, left < sizeof self->in ? left : sizeof self->in, MSG_DONTWAIT);
}

/* Notes and the word that it is ready stand before a report. False: not all of it is there yet, or it is a report. */
static bool take_word(struct keeper *self)
{
    struct keeper_wire_ended head;
    char sentence[KEEPER_NOTE_MOST + 1];
    if (self->in_len < sizeof head)
        return false;
    memcpy(&head, self->in, sizeof head);
    size_t size = sizeof head + (size_t)head.errors_len;
    if (head.kind == KEEPER_WIRE_ENDED || head.errors_len > KEEPER_NOTE_MOST || self->in_len < size)
        return false;
    memcpy(sentence, self->in + sizeof head, (size_t)head.errors_len);
    sentence[head.errors_len] = '\0';
    self->in_len -= size;
    memmove(self->in, self->in + size, self->in_len);
    if (head.kind == KEEPER_WIRE_READY)
        replaced(self);
    else if (self->callbacks.said)
        self->callbacks.said(self->callbacks.arg, self, (enum keeper_note)head.code, sentence);
    return true;
}

static void receive(struct keeper *self)
{
    ssize_t got = receive_some(self);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        die(self, NULL);
        return;
    }
    if (self->has_report) {
        self->body_got += (size_t)got;
    } else {
        self->in_len += (size_t)got;
        while (take_word(self))
            ;
        struct keeper_wire_ended head;
        if (self->in_len < sizeof head)
            return;
        memcpy(&head, self->in, sizeof head);
        if (head.kind == KEEPER_WIRE_NOTE && head.errors_len <= KEEPER_NOTE_MOST)
            return;
        if (!begin_report(self)) {
            die(self, "a keeper sent what is no report of its run");
            return;
        }
    }
    if (self->body_got == self->body_len)
        deliver(self);
}

static void socket_ready(void *arg, uint32_t events)
{
    struct keeper *self = arg;
    if (events & EPOLLOUT)
        flush(self);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(self);
}

/* ---- opening ---- */

void keeper_remember_limits(void)
{
    if (files_at_start.rlim_max == 0)
        (void)getrlimit(RLIMIT_NOFILE, &files_at_start);
}

static int spawn_keeper(struct keeper *self, int theirs)
{
    char slot[12], name[] = KEEPER_NAME;
    snprintf(slot, sizeof slot, "%u", self->setup.slot);
    char *argv[] = {name, slot, NULL};
    /* A session of its own: a Ctrl-C at the worker's terminal is the worker's to understand. */
    struct spawn_request request = {
        .argv = argv, .env = environ, .file = "/proc/self/exe", .in = SPAWN_NULL, .out = SPAWN_NULL, .err = 2,
        .keep_fd = theirs, .new_session = true,
    };
    return spawn_process(&request, &self->pid, &self->leaver->watch.fd);
}

/* So little fits into an empty socket. */
static int send_setup(const struct keeper *self, int to)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {(void *)(uintptr_t)&self->setup, sizeof self->setup};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (self->bundle > 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &self->bundle, sizeof(int));
    }
    return sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof self->setup ? 0 : -EPIPE;
}

/* On failure there is no process and no descriptor. */
static int start_process(struct keeper *self)
{
    int pair[2], adopts = 0;
    self->leaver = calloc(1, sizeof *self->leaver);
    if (!self->leaver)
        return -ENOMEM;
    self->leaver->loop = self->loop;
    self->leaver->watch = (struct loop_watch){.fd = -1, .ready = leaver_ready, .arg = self->leaver};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        int error = -errno;
        close_process(self);
        return error;
    }
    self->watch.fd = pair[0];
    prctl(PR_GET_CHILD_SUBREAPER, &adopts);
    self->setup.adopted = adopts || getpid() == 1;
    int result = spawn_keeper(self, pair[1]);
    close(pair[1]);
    self->leaver->pid = self->pid;
    if (result == 0)
        result = send_setup(self, pair[0]);
    if (result == 0)
        result = loop_watch(self->loop, &self->watch, EPOLLIN);
    if (result < 0)
        close_process(self);
    else
        flush(self);                   /* a run may have come while there was no process */
    return result;
}

static bool put_path(char to[PATH_MAX], const char *path)
{
    int n = snprintf(to, PATH_MAX, "%s", path ? path : "");
    return n >= 0 && n < PATH_MAX;
}

static int make_setup(struct keeper *self, const struct keeper_place *place)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -EIO;
    self->setup = (struct keeper_wire_setup){
        .kind = KEEPER_WIRE_SETUP, .slot = place->slot, .files_soft = files_at_start.rlim_cur, .files_hard = files_at_start.rlim_max,
    };
    snprintf(self->setup.mark, sizeof self->setup.mark, "%016" PRIx64, random);
    bool fits = put_path(self->setup.folder, place->group);
    for (int i = 0; i < CONTROLS; i++)
        fits &= put_path(self->setup.control[i], place->control[i]);
    return fits ? 0 : -ENAMETOOLONG;
}

struct keeper *keeper_open(struct loop *loop, const struct keeper_place *place, const struct keeper_callbacks *callbacks, struct why *why)
{
    int result = -ENOMEM;
    struct keeper *self = calloc(1, sizeof *self);
    if (!self)
        goto fail;
    self->loop = loop;
    self->callbacks = *callbacks;
    self->watch = (struct loop_watch){.fd = -1, .ready = socket_ready, .arg = self};
    self->again = (struct loop_timer){.fire = start_again, .arg = self};
    self->bundle = place->bundle;
    measure_system(self);
    result = make_setup(self, place);
    if (result == 0)
        result = start_process(self);
    if (result == 0)
        return self;
fail:
    why_set(why, "slot %u has no keeper: %s; a slot needs one process, its memory and eight descriptors", place->slot, strerror(-result));
    keeper_close(&self);
    return NULL;
}
