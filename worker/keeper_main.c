/* The keeper's own process: one attempt at a time, from its start until nothing of it is left.
 *
 * What must hold: `ended` is sent only when waitid says ECHILD and the slot's group, where there is one,
 * is empty. This process is a child subreaper, so whatever an attempt forks ends up below it, and ECHILD
 * proves that all of it is gone; the group also holds what got away from below. While the command hasn't
 * been reaped its group may be signalled by number; afterwards that number may belong to somebody else,
 * and worker/sweep.h finds what is left.
 *
 * All signals are blocked for good: a Ctrl-C or a service manager's SIGTERM to the whole group is for
 * the worker, who then decides. What ends a keeper is the end of its socket. While no attempt runs it
 * may block on the socket, since there is nothing else to wait for. */
#include "worker/keeper_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/spawn.h"
#include "worker/keeper.h"

#define FIRST_LOOK (100 * NS_PER_MS)           /* looking again after a kill, in case a signal of ours got lost */
#define LAST_LOOK (5 * NS_PER_S)
#define TERM_PASSES 8
#define STRINGS_MOST (256 * 1024 * 1024)       /* far beyond what any system takes: more is a broken stream */

void keeper_leave(struct process *self, int code)
{
    cgroup_slot_close(&self->group, true);
    for (int i = 0; i < CONTROLS; i++)
        cgroup_limit_close(&self->control[i]);
    /* Not exit: nothing here is worth a destructor of some library's. */
    _exit(code);
}

/* ---- what the worker is told ---- */

void keeper_send(struct process *self, const uint8_t *output, const uint8_t *errors)
{
    struct iovec parts[4] = {
        {&self->report, sizeof self->report},
        {(void *)(uintptr_t)output, (size_t)self->report.output_len},
        {(void *)(uintptr_t)errors, (size_t)self->report.errors_len},
        {self->handler.sentence, self->report.sentence_len},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 4};
    while (message.msg_iovlen > 0) {
        /* Blocks when the worker is slow: nothing runs now, and its end would be noticed here too. */
        ssize_t put = sendmsg(self->sock, &message, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            keeper_leave(self, EXIT_STOPPED);
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

void keeper_say(struct process *self, enum keeper_note note, const char *format, ...)
{
    char text[KEEPER_NOTE_MOST];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    struct keeper_wire_ended head = {.kind = KEEPER_WIRE_NOTE, .run = self->run.run, .code = (int32_t)note, .errors_len = len};
    struct iovec parts[2] = {{&head, sizeof head}, {text, len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    /* So little always fits; if not, it was only words. */
    if (!self->orphaned && sendmsg(self->sock, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE)
        self->orphaned = true;
}

static const struct sweep_process *first_alive(const struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->n_found; i++)
        if (!sweep->found[i].dead)
            return &sweep->found[i];
    return NULL;
}

void keeper_say_stuck(struct process *self)
{
    const struct sweep_process *process = first_alive(&self->sweep);
    char name[SWEEP_NAME] = "?", state = '?';
    if (self->stuck_told || mono_since(mono_now(), self->killed_at) < KEEPER_STUCK_AFTER)
        return;
    self->stuck_told = true;
    if (!process) {
        keeper_say(self, KEEPER_NOTE_STUCK, "its group %s is not empty after SIGKILL; the slot stays taken until it is", self->group.folder);
        return;
    }
    sweep_describe(process->pid, name, &state);
    keeper_say(self, KEEPER_NOTE_STUCK, "process %d (%s) has not ended after SIGKILL, its state is %c%s; the slot stays taken until it ends",
               (int)process->pid, name, state, state == 'D' ? ", uninterruptible sleep" : "");
}

/* ---- the start of a run ---- */

static void finish(struct process *self);

void keeper_begin_run(struct process *self)
{
    BUG_IF(self->run.strings_len == 0 || self->run.strings_len > STRINGS_MOST || self->run.argc == 0);
    self->silent = false;
    self->report = (struct keeper_wire_ended){.kind = KEEPER_WIRE_ENDED};
    self->command_ended = self->childless = self->stuck_told = false;
    self->kill_at = self->look_at = self->cpu_at = MONO_NEVER;
    self->spared = 0;
    capture_begin(&self->output, -1, 0);
    capture_begin(&self->errors, -1, 0);
}

void keeper_run_begun(struct process *self, int result)
{
    self->report.run = self->run.run;
    self->phase = PHASE_RUNNING;
    if (result < 0) {
        self->report.how = KEEPER_NOT_STARTED;
        self->report.code = -result;
        if (self->handler.alive) {
            self->handler.unfit = true;
            keeper_task_done(self, NULL);
        } else {
            finish(self);
        }
    }
}

static void start_run(struct process *self)
{
    memcpy(&self->run, keeper_need(self, sizeof self->run), sizeof self->run);
    self->in_row = false;
    if (self->run.persistent)
        keeper_persistent_prepare(self);
    keeper_begin_run(self);
    keeper_run_begun(self, self->run.persistent ? keeper_persistent_start(self) : keeper_start(self));
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
    keeper_send(self, output, errors);
}

static void end_persistent(struct process *self)
{
    keeper_persistent_gone(self);
    keeper_persistent_judge(self);
    self->report.sentence_len = (uint32_t)strlen(self->handler.sentence);
}

static void finish(struct process *self)
{
    if (self->run.persistent && self->handler.alive && !self->silent && keeper_persistent_again(self))
        return;
    capture_end(&self->output);
    capture_end(&self->errors);
    cgroup_slot_tidy(&self->group);
    keeper_limits_end(self);
    if (self->run.persistent)
        end_persistent(self);
    if (self->in_row && keeper_row_goes_on(self))
        return;
    self->phase = PHASE_IDLE;
    self->kill_at = self->look_at = MONO_NEVER;
    if (self->orphaned)
        keeper_leave(self, EXIT_STOPPED);
    if (!self->silent)
        send_report(self);
    capture_reset(&self->output);
    capture_reset(&self->errors);
    sweep_reset(&self->sweep);
}

void keeper_task_done(struct process *self, const uint8_t *output)
{
    size_t errors_len;
    capture_end(&self->errors);
    const uint8_t *errors = capture_kept(&self->errors, &errors_len);
    keeper_limits_end(self);
    self->phase = PHASE_IDLE;
    self->kill_at = self->look_at = MONO_NEVER;
    self->report.errors_len = errors_len;
    self->report.sentence_len = (uint32_t)strlen(self->handler.sentence);
    self->report.flags |= self->errors.cut || self->errors.len > errors_len ? KEEPER_WIRE_ERRORS_CUT : 0U;
    keeper_send(self, output, errors);
    capture_reset(&self->errors);
}

static void kill_again(struct process *self)
{
    size_t n_new = sweep_signal(&self->sweep, SIGKILL, self->spared);
    if (cgroup_slot_lives(&self->group))
        cgroup_slot_kill(&self->group);
    self->report.swept += (uint32_t)n_new;
    if (n_new > 0)
        self->look_again = 0;
    else if (self->look_again == 0)
        self->look_again = FIRST_LOOK;
    else if (self->look_again < LAST_LOOK)
        self->look_again *= 2;
    self->look_at = mono_add(mono_now(), self->look_again);
    keeper_say_stuck(self);
}

/* What the group's kill ends is counted before; the sweep would find it dead. */
static void count_in_group(void *arg, pid_t pid)
{
    struct process *self = arg;
    if (pid != self->command && (self->spared == 0 || getpgid(pid) != self->spared) && sweep_learn(&self->sweep, pid))
        self->report.swept++;
}

void keeper_kill_everything(struct process *self)
{
    self->phase = PHASE_KILLING;
    self->kill_at = self->cpu_at = MONO_NEVER;
    self->killed_at = mono_now();
    self->look_again = 0;
    if (!self->command_ended) {
        self->report.flags |= KEEPER_WIRE_KILL_SENT;
        self->spared = self->command;
    }
    cgroup_slot_each(&self->group, count_in_group, self);
    cgroup_slot_kill(&self->group);
    if (!self->command_ended)
        kill(-self->command, SIGKILL);
    kill_again(self);
}

/* One that is in the group and no longer below us, for which the sweep was blind. */
static void term_in_group(void *arg, pid_t pid)
{
    struct process *self = arg;
    bool had_it = self->report.flags & KEEPER_WIRE_TERM_SENT && getpgid(pid) == self->command;
    int pidfd = had_it || !sweep_learn(&self->sweep, pid) ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return;
    self->report.swept++;
    syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0);
    close(pidfd);
}

/* The command has ended by itself, or by its SIGTERM, and something of it still lives. */
static void end_the_rest(struct process *self)
{
    self->kill_at = mono_min(self->kill_at, mono_add(mono_now(), self->run.grace));
    if (self->run.grace <= 0) {
        keeper_kill_everything(self);
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
    cgroup_slot_each(&self->group, term_in_group, self);
}

static void note_command_end(struct process *self, const siginfo_t *info)
{
    self->command_ended = true;
    self->report.how = info->si_code == CLD_EXITED ? KEEPER_EXITED : KEEPER_SIGNALLED;
    self->report.code = info->si_status;
    self->report.run_ns = mono_since(mono_now(), self->started);
}

/* No child is left. What the group still holds got away from below us: it is waited for, and killed, all the same. */
static void no_child_left(struct process *self)
{
    self->childless = true;
    if (!cgroup_slot_lives(&self->group))
        finish(self);
    else if (self->phase == PHASE_RUNNING)
        end_the_rest(self);
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
            no_child_left(self);
            return;
        }
        if (info.si_pid == 0)
            break;
        any = true;
        if (info.si_pid == self->command && !self->command_ended)
            note_command_end(self, &info);
    }
    self->childless = false;
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
        keeper_kill_everything(self);
        return;
    }
    self->kill_at = mono_min(self->kill_at, mono_add(mono_now(), grace));
    if (self->command_ended || self->report.flags & KEEPER_WIRE_TERM_SENT)
        return;
    self->report.flags |= KEEPER_WIRE_TERM_SENT;
    if (self->run.persistent) {
        keeper_persistent_cancel(self);
        return;
    }
    kill(-self->command, SIGTERM);
    kill(-self->command, SIGCONT);             /* what is stopped could not end */
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
    if (!self->silent && keeper_receive(self, MSG_DONTWAIT)) {
        take_stops(self);
        return;
    }
    self->orphaned = true;
    keeper_kill_everything(self);
}

static void signal_ready(struct process *self)
{
    struct signalfd_siginfo info;
    if (read(self->signals, &info, sizeof info) < 0 && errno != EAGAIN && errno != EINTR)
        keeper_leave(self, EXIT_BUG);
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
    mono_t next = mono_min(self->cpu_at, mono_min(self->kill_at, self->look_at));
    if (mono_is_never(next) || self->phase == PHASE_IDLE)
        return;
    mono_t now = mono_now();
    if (mono_reached(now, self->kill_at) || (mono_reached(now, self->cpu_at) && keeper_limits_spent(self)))
        keeper_kill_everything(self);
    else if (mono_reached(now, self->look_at))
        kill_again(self);
}

static void wait_and_serve(struct process *self)
{
    enum { SOCKET, SIGNALS, OUTPUT, ERRORS, GROUP, TO, FROM, COUNT };
    const struct persistent *handler = &self->handler;
    bool in_flight = self->run.persistent && self->phase == PHASE_RUNNING;
    struct pollfd fds[COUNT] = {
        [SOCKET] = {.fd = self->orphaned ? -1 : self->sock, .events = self->silent ? POLLRDHUP : POLLIN},
        [SIGNALS] = {.fd = self->signals, .events = POLLIN},
        [OUTPUT] = {.fd = self->output.fd, .events = POLLIN},
        [ERRORS] = {.fd = self->errors.fd, .events = POLLIN},
        [TO] = {.fd = in_flight && !handler->deaf && handler->out_at < handler->out.len ? handler->to : -1, .events = POLLOUT},
        [FROM] = {.fd = in_flight ? handler->from : -1, .events = POLLIN},
        [GROUP] = {.fd = self->childless ? self->group.events : -1, .events = POLLPRI},
    };
    mono_t next = mono_min(self->cpu_at, mono_min(self->kill_at, self->look_at));
    struct timespec wait, *wait_p = NULL;
    if (!mono_is_never(next)) {
        int64_t ns = mono_since(next, mono_now());
        ns = ns > 0 ? ns : 0;
        wait = (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
        wait_p = &wait;
    }
    int n = ppoll(fds, COUNT, wait_p, NULL);
    if (n < 0 && errno != EINTR)
        keeper_leave(self, EXIT_BUG);
    if (n > 0) {
        output_ready(&self->output, fds[OUTPUT].revents);
        /* What is read here is of the task that runs: no other may begin before. */
        if (fds[ERRORS].revents & POLLIN && self->run.persistent && self->run.bundle && self->bundle)
            bundle_close(self->bundle, true);
        output_ready(&self->errors, fds[ERRORS].revents);
        if (fds[TO].revents || fds[FROM].revents)
            keeper_persistent_ready(self, fds[TO].revents, fds[FROM].revents);
        if (fds[SOCKET].revents && self->phase != PHASE_IDLE)
            socket_ready(self);
        if (fds[SIGNALS].revents && self->phase != PHASE_IDLE)
            signal_ready(self);
        if (fds[GROUP].revents && self->phase != PHASE_IDLE && self->childless && !cgroup_slot_lives(&self->group))
            finish(self);
    }
    check_time(self);
}

static void serve_next(struct process *self)
{
    uint32_t kind;
    memcpy(&kind, keeper_need(self, sizeof kind), sizeof kind);
    if (kind == KEEPER_WIRE_STOP) {
        keeper_need(self, sizeof(struct keeper_wire_stop));
        self->in_at += sizeof(struct keeper_wire_stop);    /* its run has ended already */
        return;
    }
    BUG_IF(kind != KEEPER_WIRE_RUN && kind != KEEPER_WIRE_BUNDLE);
    if (kind == KEEPER_WIRE_BUNDLE) {
        keeper_row_take(self);
        keeper_row_start(self);
    } else {
        start_run(self);
    }
    take_stops(self);
    keeper_finish_phases(self);
    keeper_persistent_retire(self);
}

void keeper_finish_phases(struct process *self)
{
    while (self->phase != PHASE_IDLE)
        wait_and_serve(self);
}

void keeper_orphaned(struct process *self)
{
    self->orphaned = true;
    if (self->handler.alive) {
        self->silent = true;
        self->command_ended = self->childless = false;
        keeper_kill_everything(self);
        keeper_finish_phases(self);
    }
    keeper_leave(self, EXIT_STOPPED);
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

static int open_process(struct process *self)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return -1;
    if (fcntl(self->sock, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    self->signals = set_signals();
    self->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (self->signals < 0 || self->null < 0 || !keeper_reserve(self, KEEPER_PIPE_ROOM))
        return -1;
    return 0;
}

static void set_up(struct process *self)
{
    struct keeper_wire_setup setup;
    char name[16];
    memcpy(&setup, keeper_need(self, sizeof setup), sizeof setup);
    BUG_IF(setup.kind != KEEPER_WIRE_SETUP);
    self->in_at += sizeof setup;
    snprintf(name, sizeof name, "keeper-%u", setup.slot);
    prctl(PR_SET_NAME, name);
    /* The worker raised its own limits for its sockets; its commands find what the worker found. */
    const struct rlimit files = {.rlim_cur = setup.files_soft, .rlim_max = setup.files_hard};
    if (setup.files_hard > 0)
        setrlimit(RLIMIT_NOFILE, &files);
    if (setenv(KEEPER_MARK, setup.mark, 1) < 0)
        keeper_leave(self, KEEPER_NO_MEMORY);
    int error = setup.folder[0] != '\0' ? cgroup_slot_open(&self->group, setup.folder) : 0;
    if (error < 0)
        keeper_say(self, KEEPER_NOTE_NO_GROUP, "the group %s can't be used: %s; the slot's attempts are ended by session and /proc",
                   setup.folder, strerror(-error));
    for (int i = 0; i < CONTROLS; i++) {
        error = setup.control[i][0] != '\0' ? cgroup_limit_open(&self->control[i], (enum cgroup_control)i, setup.control[i], setup.folder) : 0;
        if (error < 0)
            keeper_say(self, KEEPER_NOTE_NO_GROUP, "the group %s can't be used: %s; what is limited by it will not be started",
                       setup.control[i], strerror(-error));
    }
    keeper_clean(self, &setup);
}

bool keeper_is_asked_for(int argc, char **argv)
{
    /* Before anything raises it: what commands are to find. */
    keeper_remember_limits();
    return argc == 2 && strcmp(argv[0], KEEPER_NAME) == 0;
}

int keeper_main(int argc, char **argv)
{
    static struct process process = {
        .sock = SPAWN_KEPT_FD, .bundle_fd = -1, .output.fd = -1, .errors = {.fd = -1, .tail = true}, .group = {.dir = -1, .procs = -1, .events = -1},
        .handler = {.to = -1, .from = -1, .errors = -1}, .control = {{.dir = -1, .procs = -1}, {.dir = -1, .procs = -1}},
    };
    if (!keeper_is_asked_for(argc, argv) || open_process(&process) < 0) {
        fprintf(stderr, "%s: cannot start: %s; it is started by a worker only\n", KEEPER_NAME, strerror(errno));
        _exit(EXIT_USAGE);
    }
    set_up(&process);
    for (;;)
        serve_next(&process);
}
