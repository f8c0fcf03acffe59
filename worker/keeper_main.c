/* The keeper's own process: one attempt at a time, from its start until nothing of it is left.
 *
 * What must hold: `ended` is sent only when waitid says ECHILD. This process is a child subreaper, so
 * whatever an attempt forks ends up below it, and ECHILD proves that all of it is gone. While the
 * command hasn't been reaped its group may be signalled by number; afterwards that number may belong
 * to somebody else, and worker/sweep.h finds what is left.
 *
 * All signals are blocked for good: a Ctrl-C or a service manager's SIGTERM to the whole group is for
 * the worker, who then decides. What ends a keeper is the end of its socket. While no attempt runs it
 * may block on the socket, since there is nothing else to wait for. */
#include "worker/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/clock.h"
#include "common/spawn.h"
#include "worker/capture.h"
#include "worker/keeper_wire.h"
#include "worker/sweep.h"

#define NICE_BY 5                              /* heartbeats go on while commands burn every core */
#define PIPE_SURE 4096                         /* what an empty pipe takes under any limit, without blocking */
#define PIPE_ROOM 65536                        /* what one usually takes */
#define FIRST_LOOK (100 * NS_PER_MS)           /* looking again after a kill, in case a signal of ours got lost */
#define LAST_LOOK (5 * NS_PER_S)
#define TERM_PASSES 8
#define STRINGS_MOST (256 * 1024 * 1024)       /* far beyond what any system takes: more is a broken stream */

#define NO_MEMORY 1                            /* exit code */

enum phase {
    PHASE_IDLE,
    PHASE_RUNNING,       /* the command lives */
    PHASE_ENDING,        /* it has ended, what it left has been sent SIGTERM */
    PHASE_KILLING,       /* SIGKILL for all that is left, until nothing is */
};

struct process {
    int sock, signals, null;
    bool orphaned;                             /* the worker has closed its end */

    uint8_t *in;                               /* received and not used yet: in[in_at .. in_len) */
    size_t in_at, in_len, in_room;
    char **words;                              /* argv and environment of the run that starts */
    size_t words_room;

    enum phase phase;
    struct keeper_wire_run run;
    struct keeper_wire_ended report;
    pid_t command;
    bool command_ended;
    mono_t started, kill_at, look_at;
    int64_t look_again;                        /* the wait before the next look while killing */
    pid_t spared;                              /* the group that got SIGKILL as a whole while the command lived */
    struct capture output, errors;
    struct sweep sweep;
};

static void leave(int code) __attribute__((noreturn));
static void leave(int code)
{
    /* Not exit: nothing here is worth a destructor of some library's. */
    _exit(code);
}

/* ---- receiving ---- */

static bool in_reserve(struct process *self, size_t wanted)
{
    if (wanted <= self->in_room)
        return true;
    uint8_t *in = realloc(self->in, wanted);
    if (!in)
        return false;
    self->in = in;
    self->in_room = wanted;
    return true;
}

/* One receive; false at the end of the stream. Blocks unless told MSG_DONTWAIT. */
static bool receive(struct process *self, int flags)
{
    if (self->in_at > 0) {
        memmove(self->in, self->in + self->in_at, self->in_len - self->in_at);
        self->in_len -= self->in_at;
        self->in_at = 0;
    }
    ssize_t got;
    do
        got = recv(self->sock, self->in + self->in_len, self->in_room - self->in_len, flags);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        self->in_len += (size_t)got;
    return got > 0 || (got < 0 && errno == EAGAIN);
}

/* Blocks until `wanted` bytes are there; leaves when the worker does. Only while no attempt runs. */
static const uint8_t *need(struct process *self, size_t wanted)
{
    if (!in_reserve(self, wanted))
        leave(NO_MEMORY);                      /* the worker sees that its keeper died, and starts another one */
    while (self->in_len - self->in_at < wanted) {
        if (!receive(self, 0))
            leave(EXIT_STOPPED);
    }
    return self->in + self->in_at;
}

static uint32_t kind_of(const uint8_t *message)
{
    uint32_t kind;
    memcpy(&kind, message, sizeof kind);
    return kind;
}

/* ---- the start of a run ---- */

static size_t count(char *const *list)
{
    size_t n = 0;
    while (list[n])
        n++;
    return n;
}

static bool overrides(char *const *added, size_t n, const char *inherited)
{
    size_t name = strcspn(inherited, "=");
    for (size_t i = 0; i < n; i++) {
        if (strncmp(added[i], inherited, name) == 0 && added[i][name] == '=')
            return true;
    }
    return false;
}

static char **split(char **to, char **text, const char *end, size_t n)
{
    for (; n > 0; n--) {
        size_t len = strnlen(*text, (size_t)(end - *text));
        BUG_IF(*text + len >= end);
        *to++ = *text;
        *text += len + 1;
    }
    return to;
}

/* argv, NULL, the run's variables, the keeper's own that they don't replace, NULL. */
static int make_words(struct process *self, char *strings, char ***ret_env)
{
    const struct keeper_wire_run *run = &self->run;
    size_t room = (size_t)run->argc + run->envc + count(environ) + 2;
    if (room > self->words_room) {
        char **words = reallocarray(self->words, room, sizeof(char *));
        if (!words)
            return -ENOMEM;
        self->words = words;
        self->words_room = room;
    }
    const char *end = strings + run->strings_len;
    char **at = split(self->words, &strings, end, run->argc);
    *at++ = NULL;
    char **env = at;
    at = split(at, &strings, end, run->envc);
    for (char **own = environ; *own; own++) {
        if (!overrides(env, run->envc, *own))
            *at++ = *own;
    }
    *at = NULL;
    *ret_env = env;
    return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t put = write(fd, data, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        data += put;
        len -= (size_t)put;
    }
    return 0;
}

/* A pipe that holds all of the input, its other end closed already; -EAGAIN when it doesn't fit. */
static int input_by_pipe(const uint8_t *data, size_t len)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int result = 0;
    if (len > PIPE_SURE && fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0)
        result = -errno;
    if (result == 0)
        result = write_all(ends[1], data, len);
    close(ends[1]);
    if (result < 0)
        close(ends[0]);
    return result < 0 ? result : ends[0];
}

/* Sealed, so that the command can't grow what we pay for, and opened anew, so that it starts at the
 * front and can only be read. */
static int input_by_memory(int fd, int error)
{
    char path[32];
    int opened = -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (error == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        error = -errno;
    if (error == 0) {
        opened = open(path, O_RDONLY | O_CLOEXEC);
        error = opened < 0 ? -errno : 0;
    }
    close(fd);
    return error < 0 ? error : opened;
}

/* Takes `left` bytes from the stream into memory, in pieces. They are taken from the stream also when there
 * is no memory for them, since the next message lies behind. */
static int input_by_stream(struct process *self, uint64_t left)
{
    int error = 0, fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        error = -errno;
    while (left > 0) {
        size_t there = self->in_len - self->in_at;
        if (there == 0) {
            need(self, 1);
            continue;
        }
        size_t len = there < left ? there : (size_t)left;
        if (error == 0)
            error = write_all(fd, self->in + self->in_at, len);
        self->in_at += len;
        left -= len;
    }
    return fd < 0 ? error : input_by_memory(fd, error);
}

/* What becomes the command's standard input, or -errno. Takes the input from the stream in any case. */
static int take_input(struct process *self, size_t strings_len, char **ret_strings)
{
    size_t len = (size_t)self->run.input_len;
    if (self->run.input_len > PIPE_ROOM) {
        /* The words stand in the buffer that the stream goes through, so they are copied out of it. */
        char *copy = malloc(strings_len);
        if (copy)
            memcpy(copy, self->in + self->in_at, strings_len);
        self->in_at += strings_len;
        int fd = input_by_stream(self, self->run.input_len);
        *ret_strings = copy;
        if (!copy && fd >= 0)
            close(fd);
        return copy ? fd : -ENOMEM;
    }
    need(self, strings_len + len);
    *ret_strings = (char *)self->in + self->in_at;
    const uint8_t *data = self->in + self->in_at + strings_len;
    self->in_at += strings_len + len;
    if (!self->run.has_input)
        return self->null;
    int fd = input_by_pipe(data, len);
    if (fd != -EAGAIN)
        return fd;
    fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : input_by_memory(fd, write_all(fd, data, len));
}

/* A pipe whose reading end never blocks us. */
static int open_capture(int ret_ends[2])
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
        int error = -errno;
        close(ends[0]);
        close(ends[1]);
        return error;
    }
    ret_ends[0] = ends[0];
    ret_ends[1] = ends[1];
    return 0;
}

static int spawn_command(struct process *self, char **env, int input)
{
    int out[2], err[2];
    int result = open_capture(out);
    if (result < 0)
        return result;
    result = open_capture(err);
    if (result < 0) {
        close(out[0]);
        close(out[1]);
        return result;
    }
    struct spawn_request request = {
        .argv = self->words, .env = env, .in = input, .out = out[1], .err = err[1], .keep_fd = SPAWN_NOTHING,
        .nice_by = NICE_BY, .new_session = true, .dies_with_caller = true, .signals_are_default = true,
    };
    self->started = mono_now();
    result = spawn_process(&request, &self->command, NULL);
    close(out[1]);
    close(err[1]);
    capture_begin(&self->output, out[0], self->run.max_output);
    capture_begin(&self->errors, err[0], self->run.max_errors);
    return result;
}

static void finish(struct process *self);

static void start_run(struct process *self)
{
    memcpy(&self->run, need(self, sizeof self->run), sizeof self->run);
    BUG_IF(self->run.strings_len == 0 || self->run.strings_len > STRINGS_MOST || self->run.argc == 0);
    size_t strings_len = (size_t)self->run.strings_len;
    self->in_at += sizeof self->run;
    need(self, strings_len);

    self->report = (struct keeper_wire_ended){.kind = KEEPER_WIRE_ENDED, .run = self->run.run};
    self->command_ended = false;
    self->kill_at = self->look_at = MONO_NEVER;
    self->spared = 0;
    capture_begin(&self->output, -1, 0);
    capture_begin(&self->errors, -1, 0);

    char *strings = NULL, **env;
    int input = take_input(self, strings_len, &strings);
    int result = input < 0 ? input : make_words(self, strings, &env);
    if (result == 0)
        result = spawn_command(self, env, input);
    if (input >= 0 && input != self->null)
        close(input);
    if (self->run.input_len > PIPE_ROOM)
        free(strings);
    self->phase = PHASE_RUNNING;
    if (result < 0) {
        self->report.how = KEEPER_NOT_STARTED;
        self->report.code = -result;
        finish(self);
    }
}

/* ---- the end of a run ---- */

static void send_report(struct process *self)
{
    size_t output_len, errors_len;
    const uint8_t *output = capture_kept(&self->output, &output_len);
    const uint8_t *errors = capture_kept(&self->errors, &errors_len);
    self->report.output_len = output_len;
    self->report.errors_len = errors_len;
    self->report.flags |= (self->output.cut ? KEEPER_WIRE_OUTPUT_CUT : 0U) |
                          (self->errors.cut || self->errors.len > errors_len ? KEEPER_WIRE_ERRORS_CUT : 0U);
    struct iovec parts[3] = {
        {&self->report, sizeof self->report}, {(void *)output, output_len}, {(void *)errors, errors_len},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    while (message.msg_iovlen > 0) {
        /* Blocks when the worker is slow: nothing runs now, and its end would be noticed here too. */
        ssize_t put = sendmsg(self->sock, &message, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            leave(EXIT_STOPPED);
        for (size_t sent = (size_t)put; message.msg_iovlen > 0; message.msg_iov++, message.msg_iovlen--) {
            struct iovec *part = message.msg_iov;
            size_t done = sent < part->iov_len ? sent : part->iov_len;
            part->iov_len -= done;
            sent -= done;
            if (part->iov_len > 0) {
                part->iov_base = (uint8_t *)part->iov_base + done;
                break;
            }
        }
    }
}

static void finish(struct process *self)
{
    capture_end(&self->output);
    capture_end(&self->errors);
    self->phase = PHASE_IDLE;
    if (self->orphaned)
        leave(EXIT_STOPPED);
    send_report(self);
    capture_reset(&self->output);
    capture_reset(&self->errors);
    sweep_reset(&self->sweep);
}

static void kill_again(struct process *self)
{
    size_t n_new = sweep_signal(&self->sweep, SIGKILL, self->spared);
    self->report.swept += (uint32_t)n_new;
    if (n_new > 0)
        self->look_again = 0;
    else if (self->look_again == 0)
        self->look_again = FIRST_LOOK;
    else if (self->look_again < LAST_LOOK)
        self->look_again *= 2;
    self->look_at = mono_add(mono_now(), self->look_again);
}

static void kill_everything(struct process *self)
{
    self->phase = PHASE_KILLING;
    self->kill_at = MONO_NEVER;
    self->look_again = 0;
    if (!self->command_ended) {
        kill(-self->command, SIGKILL);
        self->report.flags |= KEEPER_WIRE_KILL_SENT;
        self->spared = self->command;
    }
    kill_again(self);
}

/* The command has ended by itself, or by its SIGTERM, and something of it still lives. */
static void end_the_rest(struct process *self)
{
    self->kill_at = mono_min(self->kill_at, mono_add(mono_now(), self->run.grace));
    if (self->run.grace <= 0) {
        kill_everything(self);
        return;
    }
    self->phase = PHASE_ENDING;
    /* A second SIGTERM means "at once" to many programs: those in the group have had theirs. */
    pid_t had_it = self->report.flags & KEEPER_WIRE_TERM_SENT ? self->command : 0;
    size_t n_new = 1;
    for (int pass = 0; pass < TERM_PASSES && n_new > 0; pass++) {
        n_new = sweep_signal(&self->sweep, SIGTERM, had_it);
        self->report.swept += (uint32_t)n_new;
    }
}

static void note_command_end(struct process *self, const siginfo_t *info)
{
    self->command_ended = true;
    self->report.how = info->si_code == CLD_EXITED ? KEEPER_EXITED : KEEPER_SIGNALLED;
    self->report.code = info->si_status;
    self->report.run_ns = mono_since(mono_now(), self->started);
}

/* Reaps all that has ended, and goes on to what that makes possible. */
static void reap(struct process *self)
{
    bool any = false;
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) < 0) {
            if (errno == EINTR)
                continue;
            BUG_IF(errno != ECHILD || !self->command_ended);
            finish(self);
            return;
        }
        if (info.si_pid == 0)
            break;
        any = true;
        if (info.si_pid == self->command && !self->command_ended)
            note_command_end(self, &info);
    }
    if (self->command_ended && self->phase == PHASE_RUNNING)
        end_the_rest(self);
    else if (any && self->phase == PHASE_KILLING)
        kill_again(self);
}

static void stop(struct process *self, int64_t grace)
{
    if (self->phase == PHASE_KILLING)
        return;
    if (grace <= 0) {
        kill_everything(self);
        return;
    }
    self->kill_at = mono_min(self->kill_at, mono_add(mono_now(), grace));
    if (self->command_ended || self->report.flags & KEEPER_WIRE_TERM_SENT)
        return;
    kill(-self->command, SIGTERM);
    kill(-self->command, SIGCONT);             /* what is stopped could not end */
    self->report.flags |= KEEPER_WIRE_TERM_SENT;
}

/* ---- the loop ---- */

static void take_stops(struct process *self)
{
    struct keeper_wire_stop message;
    while (self->phase != PHASE_IDLE && self->in_len - self->in_at >= sizeof message) {
        memcpy(&message, self->in + self->in_at, sizeof message);
        BUG_IF(message.kind != KEEPER_WIRE_STOP);
        self->in_at += sizeof message;
        if (message.run == self->run.run)
            stop(self, message.grace);
    }
}

static void socket_ready(struct process *self)
{
    if (receive(self, MSG_DONTWAIT)) {
        take_stops(self);
        return;
    }
    self->orphaned = true;
    kill_everything(self);
}

static void signal_ready(struct process *self)
{
    struct signalfd_siginfo info;
    if (read(self->signals, &info, sizeof info) < 0 && errno != EAGAIN && errno != EINTR)
        leave(EXIT_BUG);
    reap(self);
}

static void output_ready(struct capture *capture, short events)
{
    if (events & POLLIN)
        capture_read(capture);
    else if (events & (POLLHUP | POLLERR))
        capture_close(capture);
}

static void check_time(struct process *self)
{
    mono_t next = mono_min(self->kill_at, self->look_at);
    if (mono_is_never(next) || self->phase == PHASE_IDLE)
        return;
    mono_t now = mono_now();
    if (mono_reached(now, self->kill_at))
        kill_everything(self);
    else if (mono_reached(now, self->look_at))
        kill_again(self);
}

static void wait_and_serve(struct process *self)
{
    enum { SOCKET, SIGNALS, OUTPUT, ERRORS, COUNT };
    struct pollfd fds[COUNT] = {
        [SOCKET] = {.fd = self->orphaned ? -1 : self->sock, .events = POLLIN},
        [SIGNALS] = {.fd = self->signals, .events = POLLIN},
        [OUTPUT] = {.fd = self->output.fd, .events = POLLIN},
        [ERRORS] = {.fd = self->errors.fd, .events = POLLIN},
    };
    mono_t next = mono_min(self->kill_at, self->look_at);
    struct timespec wait, *wait_p = NULL;
    if (!mono_is_never(next)) {
        int64_t ns = mono_since(next, mono_now());
        ns = ns > 0 ? ns : 0;
        wait = (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
        wait_p = &wait;
    }
    int n = ppoll(fds, COUNT, wait_p, NULL);
    if (n < 0 && errno != EINTR)
        leave(EXIT_BUG);
    if (n > 0) {
        output_ready(&self->output, fds[OUTPUT].revents);
        output_ready(&self->errors, fds[ERRORS].revents);
        if (fds[SOCKET].revents)
            socket_ready(self);
        if (fds[SIGNALS].revents && self->phase != PHASE_IDLE)
            signal_ready(self);
    }
    check_time(self);
}

static void serve_next(struct process *self)
{
    uint32_t kind = kind_of(need(self, sizeof kind));
    if (kind == KEEPER_WIRE_STOP) {
        need(self, sizeof(struct keeper_wire_stop));
        self->in_at += sizeof(struct keeper_wire_stop);    /* its run has ended already */
        return;
    }
    BUG_IF(kind != KEEPER_WIRE_RUN);
    start_run(self);
    take_stops(self);
    while (self->phase != PHASE_IDLE)
        wait_and_serve(self);
}

/* ---- the process ---- */

/* Sets what every child is to find, once, so that it costs nothing at each start. */
static int set_signals(void)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t set;
    for (int number = 1; number <= SIGRTMAX; number++)
        sigaction(number, &by_default, NULL);
    sigfillset(&set);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return -1;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int open_process(struct process *self, const char *slot)
{
    char name[16];
    snprintf(name, sizeof name, "keeper-%s", slot);
    prctl(PR_SET_NAME, name);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return -1;
    if (fcntl(self->sock, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    self->signals = set_signals();
    self->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (self->signals < 0 || self->null < 0 || !in_reserve(self, PIPE_ROOM))
        return -1;
    return 0;
}

bool keeper_is_asked_for(int argc, char **argv)
{
    return argc == 2 && strcmp(argv[0], KEEPER_NAME) == 0;
}

int keeper_main(int argc, char **argv)
{
    static struct process process = {.sock = SPAWN_KEPT_FD, .output.fd = -1, .errors = {.fd = -1, .tail = true}};
    if (!keeper_is_asked_for(argc, argv) || open_process(&process, argv[1]) < 0) {
        fprintf(stderr, "%s: cannot start: %s; it is started by a worker only\n", KEEPER_NAME, strerror(errno));
        leave(EXIT_USAGE);
    }
    for (;;)
        serve_next(&process);
}
