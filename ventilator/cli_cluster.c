/* Starts the three programs of a run, watches them, and ends them. */
#include "ventilator/cli_cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/remove_tree.h"
#include "common/spawn.h"
#include "ventilator/cli.h"

#define DIR_MOST 80                  /* a socket's path has at most 107 bytes, and lanes have names of their own */
#define STOP_TIME (5 * NS_PER_S)
#define LEAVE_WITH "3"               /* SPAWN_KEPT_FD */
_Static_assert(SPAWN_KEPT_FD == 3, "LEAVE_WITH is another descriptor");

enum { VENTILATOR, SINK, WORKER, PROCESSES };
static const char *const names[] = {[VENTILATOR] = "ventilator", [SINK] = "sink", [WORKER] = "worker"};

struct process {
    struct cluster *cluster;
    int which;
    pid_t pid;                       /* 0: not running */
    struct loop_watch gone;          /* its pidfd */
    int log;
    struct loop_watch ready;         /* its standard output, until the line that says so */
    char line[512];
    size_t line_len;
};

struct cluster {
    struct loop *loop;
    struct cluster_config config;
    char dir[DIR_MOST + 1], endpoint[DIR_MOST + 16];
    char folder[4096];               /* where our own executable lies */
    int leave[2];                    /* what holds the reading end leaves when the writing end closes */
    struct process processes[PROCESSES];
    struct loop_timer force;
    bool stopping, told;
};

/* ---- sentences ---- */

static void fail(struct cluster *self, const char *sentence)
{
    if (self->told || self->stopping)
        return;
    self->told = true;
    self->config.failed(self->config.arg, sentence);
}

/* The end of what a process has logged: the reason why it left is there. */
static void show_log(const struct process *process)
{
    char text[2001];
    struct stat st;
    if (process->log < 0 || fstat(process->log, &st) < 0)
        return;
    off_t from = st.st_size > 2000 ? st.st_size - 2000 : 0;
    ssize_t n = pread(process->log, text, sizeof text - 1, from);
    if (n > 0)
        fprintf(stderr, "%.*s%s", (int)n, text, text[n - 1] == '\n' ? "" : "\n");
}

/* ---- starting ---- */

static int make_dir(struct cluster *self, struct why *why)
{
    const char *base = getenv("TMPDIR");
    if (!base || !*base || strlen(base) + sizeof "/tarmac-XXXXXX" > sizeof self->dir)
        base = "/tmp";
    snprintf(self->dir, sizeof self->dir, "%s/tarmac-XXXXXX", base);
    if (!mkdtemp(self->dir)) {
        why_set(why, "no temporary folder can be made in %s: %s (TMPDIR)", base, strerror(errno));
        self->dir[0] = '\0';
        return -1;
    }
    snprintf(self->endpoint, sizeof self->endpoint, "ipc://%s/c", self->dir);
    return 0;
}

/* The other programs lie beside this one; else they are looked for in PATH. */
static void find_folder(struct cluster *self)
{
    ssize_t n = readlink("/proc/self/exe", self->folder, sizeof self->folder - 1);
    if (n < 0)
        n = 0;
    self->folder[n] = '\0';
    char *slash = strrchr(self->folder, '/');
    if (slash)
        slash[1] = '\0';
}

static void on_gone(void *arg, uint32_t events);

static int open_log(struct cluster *self, int which)
{
    char path[DIR_MOST + 32];
    snprintf(path, sizeof path, "%s/%s.log", self->dir, names[which]);
    return open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int spawn(struct cluster *self, struct process *p, char *const *argv, int out, struct why *why)
{
    char path[sizeof self->folder + 16];
    int which = p->which, pidfd;
    snprintf(path, sizeof path, "%s%s", self->folder, names[which]);
    struct spawn_request request = {
        .argv = argv, .env = environ, .in = SPAWN_NULL, .out = out, .err = p->log,
        .file = which == VENTILATOR ? "/proc/self/exe" : access(path, X_OK) == 0 ? path : NULL,
        .keep_fd = self->leave[0], .new_session = true,
    };
    int r = spawn_process(&request, &p->pid, &pidfd);
    if (r < 0) {
        p->pid = 0;
        return why_set(why, "the program '%s' can't be started: %s; it belongs beside this one, in %.200s", names[which], strerror(-r),
                       self->folder);
    }
    p->gone = (struct loop_watch){.fd = pidfd, .ready = on_gone, .arg = p};
    return loop_watch(self->loop, &p->gone, EPOLLIN) < 0 ? why_set(why, "the program '%s' can't be watched", names[which]) : 0;
}

static void on_ready_line(void *arg, uint32_t events);

static int start(struct cluster *self, int which, char *const *argv, struct why *why)
{
    struct process *p = &self->processes[which];
    int out[2];
    p->log = open_log(self, which);
    if (p->log < 0)
        return why_set(why, "no log can be made in %s: %s", self->dir, strerror(errno));
    if (pipe2(out, O_CLOEXEC) < 0)
        return why_set(why, "no pipe can be made: %s", strerror(errno));
    p->ready = (struct loop_watch){.fd = out[0], .ready = on_ready_line, .arg = p};
    int r = spawn(self, p, argv, out[1], why);
    close(out[1]);
    if (r == 0 && loop_watch(self->loop, &p->ready, EPOLLIN) < 0)
        r = why_set(why, "the program '%s' can't be watched", names[which]);
    return r;
}

#define TEXT(s) ((char *)(uintptr_t)(s))

static int start_ventilator(struct cluster *self, struct why *why)
{
    char data[DIR_MOST + 16], workers[DIR_MOST + 16], lanes[DIR_MOST + 16];
    snprintf(data, sizeof data, "%s/ventilator", self->dir);
    snprintf(workers, sizeof workers, "ipc://%s/w", self->dir);
    snprintf(lanes, sizeof lanes, "ipc://%s/lane-", self->dir);
    char *argv[] = {TEXT("ventilator"), TEXT("serve"), TEXT("--data"), data, TEXT("--listen"), self->endpoint,
                    TEXT("--workers-listen"), workers, TEXT("--lanes"), lanes, TEXT("--http"), TEXT("off"),
                    TEXT("--log-level"), TEXT("warn"), TEXT("--log-format"), TEXT("text"), TEXT("--shutdown-timeout"), TEXT("3s"),
                    TEXT("--leave-with"), TEXT(LEAVE_WITH), TEXT("--remove-dir"), self->dir, NULL};
    return start(self, VENTILATOR, argv, why);
}

static int start_sink(struct cluster *self, struct why *why)
{
    char data[DIR_MOST + 16], workers[DIR_MOST + 16], results[DIR_MOST + 16], query[DIR_MOST + 16];
    snprintf(data, sizeof data, "%s/sink", self->dir);
    snprintf(workers, sizeof workers, "ipc://%s/w", self->dir);
    snprintf(results, sizeof results, "ipc://%s/r", self->dir);
    snprintf(query, sizeof query, "ipc://%s/q", self->dir);
    char *argv[] = {TEXT("sink"), TEXT("--ventilator"), workers, TEXT("--data"), data, TEXT("--results-listen"), results,
                    TEXT("--query-listen"), query, TEXT("--log-level"), TEXT("warn"), TEXT("--log-format"), TEXT("text"),
                    TEXT("--leave-with"), TEXT(LEAVE_WITH), NULL};
    return start(self, SINK, argv, why);
}

/* Told where the sink is, the worker doesn't have to wait for a heartbeat that says so; started when the sink
 * listens, it doesn't have to dial twice. */
static int start_worker(struct cluster *self, struct why *why)
{
    char workers[DIR_MOST + 16], results[DIR_MOST + 16], slots[24] = "auto";
    snprintf(workers, sizeof workers, "ipc://%s/w", self->dir);
    snprintf(results, sizeof results, "ipc://%s/r", self->dir);
    if (self->config.slots > 0)
        snprintf(slots, sizeof slots, "%" PRIu64, self->config.slots);
    char *argv[] = {TEXT("worker"), TEXT("--ventilator"), workers, TEXT("--sink"), results, TEXT("--submit-to"), self->endpoint,
                    TEXT("--name"), TEXT("local"), TEXT("--slots"), slots, TEXT("--allow-commands"), TEXT("--shutdown-timeout"),
                    TEXT("1s"), TEXT("--log-level"), TEXT("warn"), TEXT("--log-format"), TEXT("text"), TEXT("--leave-with"),
                    TEXT(LEAVE_WITH), NULL};
    return start(self, WORKER, argv, why);
}

/* ---- what they say ---- */

static void close_ready(struct process *p)
{
    loop_unwatch(p->cluster->loop, &p->ready);
    if (p->ready.fd >= 0)
        close(p->ready.fd);
    p->ready.fd = -1;
}

static void on_ready_line(void *arg, uint32_t events)
{
    struct process *p = arg;
    struct cluster *self = p->cluster;
    struct why why;
    (void)events;
    ssize_t n = read(p->ready.fd, p->line + p->line_len, sizeof p->line - 1 - p->line_len);
    if (n > 0)
        p->line_len += (size_t)n;
    p->line[p->line_len] = '\0';
    if (n > 0 && !strchr(p->line, '\n') && p->line_len < sizeof p->line - 1)
        return;
    close_ready(p);
    if (strncmp(p->line, "ready", 5) != 0 || self->stopping)
        return;    /* It leaves, and says why in its log. */
    int r = p->which == VENTILATOR ? start_sink(self, &why) : p->which == SINK ? start_worker(self, &why) : 0;
    if (r < 0)
        fail(self, why.text);
    else if (p->which == VENTILATOR)
        self->config.ready(self->config.arg);
}

static bool any_left(const struct cluster *self)
{
    for (int i = 0; i < PROCESSES; i++)
        if (self->processes[i].pid != 0)
            return true;
    return false;
}

static void on_gone(void *arg, uint32_t events)
{
    struct process *p = arg;
    struct cluster *self = p->cluster;
    struct why why;
    int status = 0;
    (void)events;
    if (waitpid(p->pid, &status, WNOHANG) != p->pid)
        return;
    loop_unwatch(self->loop, &p->gone);
    close(p->gone.fd);
    p->pid = 0;
    if (!self->stopping) {
        if (WIFSIGNALED(status))
            why_set(&why, "the %s of this run was ended by signal %d", names[p->which], WTERMSIG(status));
        else
            why_set(&why, "the %s of this run has ended with exit code %d", names[p->which], WEXITSTATUS(status));
        show_log(p);
        fail(self, why.text);
    } else if (!any_left(self)) {
        loop_stop(self->loop);
    }
}

static void use_force(void *arg)
{
    struct cluster *self = arg;
    for (int i = 0; i < PROCESSES; i++) {
        if (self->processes[i].pid == 0)
            continue;
        show_log(&self->processes[i]);
        kill(self->processes[i].pid, SIGKILL);
    }
}

/* ---- all of it ---- */

struct cluster *cluster_new(struct loop *loop, const struct cluster_config *config, struct why *why)
{
    struct cluster *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "there is no memory left");
        return NULL;
    }
    self->loop = loop;
    self->config = *config;
    self->leave[0] = self->leave[1] = -1;
    self->force = (struct loop_timer){.fire = use_force, .arg = self};
    for (int i = 0; i < PROCESSES; i++)
        self->processes[i] = (struct process){.cluster = self, .which = i, .log = -1, .ready = {.fd = -1}};
    find_folder(self);
    /* Its sockets are private files: the keys of some other system are not for these three. */
    unsetenv("TARMAC_KEYS");
    unsetenv("TARMAC_HANDLER_KEYS");
    if (make_dir(self, why) < 0)
        goto fail;
    if (pipe2(self->leave, O_CLOEXEC) < 0)
        why_set(why, "no pipe can be made: %s", strerror(errno));
    else if (start_ventilator(self, why) == 0)
        return self;
fail:
    cluster_destroy(&self);
    return NULL;
}

const char *cluster_endpoint(const struct cluster *self) { return self->endpoint; }

void cluster_stop(struct cluster *self)
{
    self->stopping = true;
    if (!any_left(self))
        return;
    /* All three leave at once: everything is printed, and what they keep goes with the folder. */
    close(self->leave[1]);
    self->leave[1] = -1;
    loop_timer_set(self->loop, &self->force, mono_add(mono_now(), STOP_TIME));
    loop_run(self->loop);
    loop_timer_clear(self->loop, &self->force);
}

void cluster_destroy(struct cluster **self_p)
{
    struct cluster *self = *self_p;
    if (!self)
        return;
    loop_timer_clear(self->loop, &self->force);
    bool left = any_left(self);
    for (int i = 0; i < PROCESSES; i++) {
        struct process *p = &self->processes[i];
        close_ready(p);
        if (p->pid != 0) {
            loop_unwatch(self->loop, &p->gone);
            close(p->gone.fd);
        }
        if (p->log >= 0)
            close(p->log);
    }
    if (self->dir[0] != '\0' && !left)
        remove_tree(self->dir);
    for (int i = 0; i < 2; i++)
        if (self->leave[i] >= 0)
            close(self->leave[i]);
    free(self);
    *self_p = NULL;
}
