/* The worker's shell: slots with their keepers, whose ends become the agent's events, and the program around it. What
 * the sockets bring comes by way of its link. It decides nothing.
 *
 * The agent's ports must not call back into it: an attempt that can't even be started is written down
 * and ended at the end of the turn. */
#include "worker/shell.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>

#include "common/bug.h"
#include "common/net.h"
#include "common/notify.h"
#include "common/output.h"
#include "worker/agent.h"
#include "worker/cgroup.h"
#include "worker/command.h"
#include "worker/keeper.h"
#include "worker/link.h"
#include "worker/plugin_host.h"
#include "worker/shell_bundle.h"
#include "worker/shell_groups.h"

#define SOCKETS 32
#define KEEPERS_WAIT (3 * NS_PER_S)
#define STOOD_STILL (500 * NS_PER_MS)         /* shorter than any sensible heartbeat: it only puts a judgement off by a turn */
#define WAITING_FIRST NS_PER_S
#define WAITING_EVERY (10 * NS_PER_S)

struct shell_slot {
    struct worker_shell *shell;
    uint32_t number;
    struct keeper *keeper;                    /* of commands; opened when it is needed first */
    struct keeper **persistent;               /* one for each handler of that kind, likewise; NULL: none yet */
    struct keeper *current;                   /* of what runs */
    struct shell_bundle *bundles;             /* one for each handler that takes them, and one for commands; NULL: none yet */
    struct shell_bundle *bundle;              /* of what runs; NULL: it came alone */
    int handler;                              /* its place; -1: none of the operator's */
    bool running, stuck;
    char program[128];                        /* what runs, for people */
    struct limits limits;                     /* of what runs */
    char *failure;                            /* why it could not be started; ended at the end of the turn */
    struct shell_slot *next_failed;
};

struct worker_shell {
    const struct worker_config *config;
    struct loop *loop;
    struct net *net;
    struct worker_link *link;
    struct agent *agent;                      /* the link's */
    struct worker_command *command;
    struct cgroup_home groups;
    bool *said_faults;                        /* of each handler */
    struct shell_parts *parts;
    struct shell_slot *slots;
    struct shell_slot *failed;
    struct loop_hook hook;
    struct loop_timer tick, waiting;
    struct notify *notify;
    bool hooked, was_ready, draining, has_left;
    uint64_t unreleased;
};

/* ---- the agent's ports: attempts ---- */

static void fail_start(struct shell_slot *slot, const char *sentence)
{
    struct worker_shell *self = slot->shell;
    /* Without memory for it, the attempt fails all the same. */
    slot->failure = strdup(sentence);
    slot->next_failed = self->failed;
    self->failed = slot;
}

/* What a handler's operator has to put right is said once for each handler; the records have it each time. */
static void say_fault(struct shell_slot *slot, const char *sentence)
{
    struct worker_shell *self = slot->shell;
    bool known = slot->handler < 0 || self->said_faults[slot->handler];
    if (slot->handler >= 0)
        self->said_faults[slot->handler] = true;
    log_event(known ? LOG_DEBUG : LOG_WARN, "handler_fault", "handler", slot->handler < 0 ? "" : self->config->handlers.list[slot->handler].name,
              "slot", log_u64(slot->number + 1), "reason", sentence, NULL);
}

/* The sentence of an end, for its record; NULL: there is nothing to say. */
static const char *describe_end(struct shell_slot *slot, const struct keeper_end *end, char *out, size_t size)
{
    char limit[64];
    if (end->how == KEEPER_NOT_STARTED)
        snprintf(out, size, "worker %s can't start %s: %s%s", slot->shell->config->name,
                 end->sentence ? end->sentence : slot->program, strerror(end->code),
                 end->code == ENOENT ? "; it must be a program in the worker's PATH" : "");
    else if (end->limit >= 0)
        snprintf(out, size, "it reached its %s", limit_describe((enum limit_kind)end->limit, slot->limits.of[end->limit], limit, sizeof limit));
    else if (end->how == KEEPER_FAULT)
        snprintf(out, size, "handler %s (%s): %s", slot->handler < 0 ? "" : slot->shell->config->handlers.list[slot->handler].name,
                 slot->program, end->sentence ? end->sentence : "it broke its protocol");
    else if (end->sentence)
        snprintf(out, size, "%s", end->sentence);
    else
        return NULL;
    return out;
}

static void tell_ended(struct shell_slot *slot, struct agent_end *end)
{
    struct worker_shell *self = slot->shell;
    agent_ended(self->agent, loop_now(self->loop), slot->number, end);
    slot->bundle = NULL;
}

static void on_ended(void *arg, struct keeper *keeper, const struct keeper_end *end)
{
    struct shell_slot *slot = arg;
    (void)keeper;
    char sentence[WIRE_SENTENCE];
    struct agent_end how = {
        .how = end->how == KEEPER_EXITED ? AGENT_EXITED : end->how == KEEPER_SIGNALLED ? AGENT_SIGNALLED
             : end->how == KEEPER_FAULT ? AGENT_FAULT : AGENT_NOT_STARTED,
        .code = end->code, .term_sent = end->term_sent, .kill_sent = end->kill_sent,
        .output = end->output, .errors = end->errors,
        .output_truncated = end->output_truncated, .errors_truncated = end->errors_truncated, .swept = end->swept > 0,
        .run_ns = end->run_ns, .limit = end->limit >= 0, .sentence = describe_end(slot, end, sentence, sizeof sentence),
    };
    bool persistent = slot->handler >= 0 && slot->shell->config->handlers.list[slot->handler].kind != AGENT_COMMAND;
    struct shell_bundle *memory = slot->handler >= 0 && slot->bundles && slot->bundles[slot->handler].memory ? &slot->bundles[slot->handler] : NULL;
    struct slice shared = {0};
    if (memory && end->shared > 0) {
        shared = how.output = shell_bundle_take_large(memory, end->shared);
        how.output_truncated |= shared.len < end->shared;
    }
    if (end->how == KEEPER_FAULT || (persistent && end->how == KEEPER_NOT_STARTED))
        say_fault(slot, sentence);
    slot->running = false;
    if (slot->stuck)
        log_event(LOG_INFO, "slot_free", "slot", log_u64(slot->number + 1), "reason", "what could not be killed has ended", NULL);
    slot->stuck = false;
    tell_ended(slot, &how);
    slice_drop(&shared);
    if (memory)
        shell_bundle_let_large_go(memory);
}

static void on_said(void *arg, struct keeper *keeper, enum keeper_note note, const char *sentence)
{
    struct shell_slot *slot = arg;
    (void)keeper;
    slot->stuck |= note == KEEPER_NOTE_STUCK;
    log_event(LOG_WARN, note == KEEPER_NOTE_STUCK ? "slot_stuck" : "slot_without_group", "slot", log_u64(slot->number + 1),
              "reason", sentence, NULL);
}

static void on_died(void *arg, struct keeper *keeper, const char *sentence, bool lost)
{
    struct shell_slot *slot = arg;
    (void)keeper;
    log_event(LOG_ERROR, "keeper_died", "slot", log_u64(slot->number + 1), "reason", sentence, NULL);
    struct agent_end how = {.how = AGENT_KEEPER_DIED, .sentence = sentence};
    if (!lost)
        return;
    slot->running = slot->stuck = false;
    tell_ended(slot, &how);
}

static const char *slot_folder(const struct shell_slot *slot, int handler, const char *home, char *out, size_t size)
{
    if (handler < 0)
        snprintf(out, size, "%s/slot-%u", home, slot->number + 1);
    else
        snprintf(out, size, "%s/slot-%u.%d", home, slot->number + 1, handler + 1);
    return home[0] != '\0' ? out : NULL;
}

/* `handler`: of a persistent one; -1: for commands. */
static struct shell_bundle *bundle_of(const struct shell_slot *slot, int handler)
{
    return &slot->bundles[handler < 0 ? slot->shell->config->handlers.n : (size_t)handler];
}

static struct keeper *open_keeper(struct shell_slot *slot, int handler, struct why *why)
{
    struct worker_shell *self = slot->shell;
    const struct keeper_callbacks callbacks = {.ended = on_ended, .died = on_died, .said = on_said, .arg = slot};
    char group[1 + CONTROLS][PATH_MAX + 32];
    int error = slot->bundles ? shell_bundle_open(bundle_of(slot, handler)) : -ENOMEM;
    if (error < 0) {
        why_set(why, "no memory to share with the keeper of slot %u: %s", slot->number + 1, strerror(-error));
        return NULL;
    }
    struct keeper_place place = {.slot = slot->number + 1, .bundle = bundle_of(slot, handler)->fd,
                                 .group = slot_folder(slot, handler, self->groups.folder, group[0], sizeof group[0])};
    for (int i = 0; i < CONTROLS; i++)
        place.control[i] = slot_folder(slot, handler, self->groups.control[i], group[1 + i], sizeof group[1 + i]);
    return keeper_open(self->loop, &place, &callbacks, why);
}

static struct keeper *keeper_for(struct shell_slot *slot, const struct keeper_run *run, struct why *why)
{
    struct keeper **place = &slot->keeper;
    if (run->task && !slot->persistent && !(slot->persistent = calloc(slot->shell->config->handlers.n, sizeof(struct keeper *)))) {
        why_set(why, "no memory for the keeper of a handler");
        return NULL;
    }
    size_t n = slot->shell->config->handlers.n;
    if (!slot->bundles && (slot->bundles = calloc(n + 1, sizeof *slot->bundles)) != NULL)
        slot->bundles[n].commands = true;
    if (run->task)
        place = &slot->persistent[slot->handler];
    if (!*place)
        *place = open_keeper(slot, run->task ? slot->handler : -1, why);
    return *place;
}

/* Many tasks at once are in memory before their run is sent. */
static int put_bundle(struct shell_slot *slot, int handler, const struct agent_run *run, struct why *why)
{
    struct shell_bundle *bundle = slot->bundles ? bundle_of(slot, handler) : NULL;
    int error = !bundle || !bundle->memory ? -ENOMEM : shell_bundle_put(bundle, run);
    if (error < 0)
        return why_set(why, "no memory to share for %u tasks of slot %u: %s", run->count, slot->number + 1, strerror(-error));
    slot->bundle = bundle;
    return 0;
}

static int refuse_run(struct why *why, const struct keeper_run *how, int error)
{
    return why_set(why, "%s: %s", how->argv[0], error == -E2BIG ? "its arguments and environment are larger than the system takes"
                                                                : strerror(-error));
}

/* One of a bundle's commands. */
static int add_command(struct shell_slot *slot, const struct agent_run *one, struct why *why)
{
    struct keeper_run how;
    int error = worker_command_make(slot->shell->command, one, &how, why);
    if (error < 0)
        return error;
    how.limits = &slot->limits;
    snprintf(slot->program, sizeof slot->program, "%s", how.argv[0]);
    error = keeper_add(slot->current, &how);
    return error < 0 ? refuse_run(why, &how, error) : 0;
}

/* One that can't be made or sent ends the bundle before it: it comes again as the first of another one, and is refused then. */
static int start_commands(struct shell_slot *slot, const struct agent_run *run, struct why *why)
{
    const struct keeper_run command = {0};
    struct agent_run fits = *run;
    char number[WIRE_RANGE_ITEM];
    size_t at = 0;
    slot->current = keeper_for(slot, &command, why);
    if (!slot->current || put_bundle(slot, -1, run, why) < 0)
        return -1;
    for (fits.count = 0; fits.count < run->count; fits.count++) {
        struct agent_run one = shell_bundle_one(run, fits.count, at, number);
        if (add_command(slot, &one, why) < 0)
            break;
        at += run->options->range ? 0 : one.payload.len;
    }
    if (fits.count == 0 || (fits.count < run->count && shell_bundle_put(slot->bundle, &fits) < 0))
        return -1;
    keeper_run_added(slot->current);
    slot->running = true;
    return 0;
}

static int start(struct shell_slot *slot, const struct agent_run *run, struct why *why)
{
    struct worker_shell *self = slot->shell;
    struct keeper_run how;
    const char *name = run->handler ? run->handler->name : NULL;
    struct handler_setup setup = handlers_setup(&self->config->handlers, name);
    struct keeper_task task;
    bool is_plugin = run->handler && run->handler->kind == AGENT_PLUGIN;
    slot->bundle = NULL;
    slot->handler = handlers_find(&self->config->handlers, name);
    slot->limits = setup.limits;
    if (run->count > 1 && !is_plugin)
        return start_commands(slot, run, why);
    if (worker_command_make(self->command, run, &how, why) < 0)
        return -1;
    how.limits = &slot->limits;
    if (how.task) {
        task = *how.task;
        task.protobuf = setup.protobuf;
        task.recycle = setup.recycle;
        task.own_program = is_plugin;
        task.bundle = run->count > 1;
        how.task = &task;
    }
    slot->current = keeper_for(slot, &how, why);
    if (!slot->current || (run->count > 1 && put_bundle(slot, slot->handler, run, why) < 0))
        return -1;
    if (is_plugin && (task.shared = shell_bundle_put_large(slot->bundles ? &slot->bundles[slot->handler] : NULL, run)) > 0)
        how.input = (struct slice){0};
    int error = keeper_run(slot->current, &how);
    if (error < 0)
        return refuse_run(why, &how, error);
    snprintf(slot->program, sizeof slot->program, "%s", how.argv[is_plugin ? 1 : 0]);
    slot->running = true;
    return 0;
}

static void port_run(void *arg, const struct agent_run *run)
{
    struct worker_shell *self = arg;
    struct shell_slot *slot = &self->slots[run->slot];
    struct why why;
    if (start(slot, run, &why) < 0)
        fail_start(slot, why.text);
}

static void port_stop(void *arg, uint32_t number, int64_t grace)
{
    struct worker_shell *self = arg;
    if (self->slots[number].running)
        keeper_stop(self->slots[number].current, grace);
}

static void port_split(void *arg, uint32_t number, bool keep_first, struct agent_split *ret)
{
    struct worker_shell *self = arg;
    struct shell_bundle *bundle = self->slots[number].bundle;
    if (bundle)
        shell_bundle_split(bundle, self->parts, keep_first, ret);
}

static void port_leave(void *arg, uint64_t unreleased)
{
    struct worker_shell *self = arg;
    self->has_left = true;
    self->unreleased = unreleased;
    loop_stop(self->loop);
}

/* ---- turns ---- */

static void end_failed(struct worker_shell *self)
{
    while (self->failed) {
        struct shell_slot *slot = self->failed;
        self->failed = slot->next_failed;
        struct agent_end end = {.how = AGENT_NOT_STARTED, .sentence = slot->failure};
        agent_ended(self->agent, loop_now(self->loop), slot->number, &end);
        free(slot->failure);
        slot->failure = NULL;
    }
}

static void look_ready(struct worker_shell *self)
{
    struct agent_counts counts;
    if (self->was_ready)
        return;
    agent_count(self->agent, loop_now(self->loop), &counts);
    if (!counts.lane_open)
        return;
    self->was_ready = true;
    loop_timer_clear(self->loop, &self->waiting);
    printf("ready name=%s slots=%u\n", self->config->name, self->config->slots);
    fflush(stdout);
}

static bool on_turn(void *arg)
{
    struct worker_shell *self = arg;
    end_failed(self);
    bool caught_up = loop_stood_still(self->loop) < STOOD_STILL;
    mono_t next = agent_tick(self->agent, loop_now(self->loop), caught_up);
    look_ready(self);
    /* What could not be started during this tick is ended in the next turn; and one that finds no memory for its timer
     * goes round without. */
    return self->failed != NULL || loop_timer_set(self->loop, &self->tick, next) < 0;
}

static void wake(void *arg) { (void)arg; }    /* the hook does the work of every turn */

static void say_waiting(void *arg)
{
    struct worker_shell *self = arg;
    const char *at, *refusal, *what = worker_link_waits_for(self->link, &at, &refusal);
    log_event(LOG_WARN, "waiting", "for", what, "at", at, refusal[0] != '\0' ? "refused" : NULL, refusal, NULL);
    loop_timer_set(self->loop, &self->waiting, mono_add(loop_now(self->loop), WAITING_EVERY));
}

void worker_shell_signal(struct worker_shell *self)
{
    if (self->draining)
        agent_leave_now(self->agent, loop_now(self->loop));
    else
        agent_drain(self->agent, loop_now(self->loop));
    self->draining = true;
    notify_stopping(self->notify);
}

int worker_shell_exit_code(const struct worker_shell *self)
{
    return !self->has_left ? EXIT_BUG : self->unreleased > 0 ? EXIT_UNRELEASED : EXIT_STOPPED;
}

/* ---- beginning and ending ---- */

static int make_slots(struct worker_shell *self, struct why *why)
{
    self->command = worker_command_new(self->config->handlers.list, self->config->handlers.n, self->config->submit_to);
    self->slots = calloc(self->config->slots, sizeof *self->slots);
    self->said_faults = calloc(self->config->handlers.n + 1, sizeof *self->said_faults);
    self->parts = shell_parts_new();
    if (!self->said_faults || !self->parts || !self->command || !self->slots)
        return why_set(why, "no memory for %u slots", self->config->slots);
    for (uint32_t i = 0; i < self->config->slots; i++)
        self->slots[i] = (struct shell_slot){.shell = self, .number = i};
    return 0;
}

/* One that can't be loaded is no reason to leave: its tasks fail with the same sentence, and it may be put right meanwhile. */
static void try_plugins(struct worker_shell *self)
{
    const struct handlers *handlers = &self->config->handlers;
    struct why why;
    for (size_t i = 0; i < handlers->n; i++) {
        if (handlers->list[i].kind != AGENT_PLUGIN || plugin_host_try(handlers->list[i].command[1], &why) == 0)
            continue;
        log_event(LOG_WARN, "handler_fault", "handler", handlers->list[i].name, "reason", why.text, NULL);
        self->said_faults[i] = true;
    }
}

static bool is_serving(void *arg, char text[NOTIFY_TEXT])
{
    struct worker_shell *self = arg;
    struct agent_counts counts;
    agent_count(self->agent, loop_now(self->loop), &counts);
    bool serving = counts.lane_open && counts.lease_valid;
    if (serving)
        snprintf(text, NOTIFY_TEXT, "%.60s: with its ventilator, %u slots", self->config->name, self->config->slots);
    else
        snprintf(text, NOTIFY_TEXT, "%.60s: waiting for the ventilator at %.60s", self->config->name, self->config->ventilator);
    return serving;
}

/* 0, or the exit code with why. */
static int dial(struct worker_shell *self, struct why *why)
{
    const struct net_config config = {.max_sockets = SOCKETS, .max_message = WIRE_MESSAGE,
                                      .keys = self->config->keys[0] != '\0' ? net_keys_read(self->config->keys, ROLE_WORKER, why) : NULL};
    const struct link_places places = {.ventilator = self->config->ventilator, .sink = self->config->sink};
    const struct link_slots slots = {.arg = self, .run = port_run, .stop = port_stop, .split = port_split, .leave = port_leave};
    if (self->config->keys[0] != '\0' && !config.keys)
        return EXIT_USAGE;
    self->net = net_new(self->loop, &config, why);
    if (!self->net)
        return EXIT_BUSY;
    uint64_t session = 0;
    while (session == 0)
        BUG_IF(getrandom(&session, sizeof session, 0) != (ssize_t)sizeof session);     /* so few bytes come whole */
    const struct agent_config agent = worker_config_of_agent(self->config, session);
    self->link = worker_link_new(self->loop, self->net, &places, &agent, &slots, why);
    if (!self->link)
        return EXIT_BUSY;
    self->agent = worker_link_agent(self->link);
    return 0;
}

/* 0, or the exit code with why. */
static int prepare(struct worker_shell *self, struct why *why)
{
    const struct notify_source source = {.serving = is_serving, .arg = self};
    self->notify = notify_new(self->loop, self->config->health_file, &source, why);
    if (!self->notify || shell_groups_open(&self->groups, self->config, why) < 0)
        return EXIT_USAGE;
    if (make_slots(self, why) < 0)
        return EXIT_BUSY;
    try_plugins(self);
    return dial(self, why);
}

struct worker_shell *worker_shell_new(struct loop *loop, const struct worker_config *config, int *ret_code, struct why *why)
{
    struct worker_shell *self = calloc(1, sizeof *self);
    *ret_code = EXIT_BUSY;
    if (!self) {
        why_set(why, "no memory to begin with");
        return NULL;
    }
    self->config = config;
    self->loop = loop;
    self->tick.fire = wake;
    self->waiting = (struct loop_timer){.fire = say_waiting, .arg = self};
    self->hook = (struct loop_hook){.turn = on_turn, .arg = self};
    self->groups = (struct cgroup_home){.lock = -1, .control_lock = {-1, -1}};
    if ((*ret_code = prepare(self, why)) != 0) {
        worker_shell_destroy(&self);
        return NULL;
    }
    loop_timer_set(loop, &self->waiting, mono_add(mono_now(), WAITING_FIRST));
    loop_add_hook(loop, &self->hook);
    self->hooked = true;
    /* Without a ventilator too: to wait for it is what a worker is started for. */
    notify_ready(self->notify);
    return self;
}

void worker_shell_destroy(struct worker_shell **self_p)
{
    struct worker_shell *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    if (self->hooked)
        loop_remove_hook(self->loop, &self->hook);
    loop_timer_clear(self->loop, &self->tick);
    loop_timer_clear(self->loop, &self->waiting);
    notify_destroy(&self->notify);
    for (uint32_t i = 0; self->slots && i < self->config->slots; i++) {
        keeper_close(&self->slots[i].keeper);
        for (size_t h = 0; self->slots[i].persistent && h < self->config->handlers.n; h++)
            keeper_close(&self->slots[i].persistent[h]);
        free(self->slots[i].persistent);
        for (size_t h = 0; self->slots[i].bundles && h <= self->config->handlers.n; h++)
            shell_bundle_close(&self->slots[i].bundles[h]);
        free(self->slots[i].bundles);
        free(self->slots[i].failure);
    }
    if (!keepers_wait(self->loop, KEEPERS_WAIT))
        log_event(LOG_WARN, "keepers_left", "reason", "a process can't be killed", NULL);
    cgroup_home_close(&self->groups);
    worker_link_destroy(&self->link);
    if (self->net)
        net_destroy(&self->net);
    worker_command_destroy(&self->command);
    free(self->slots);
    free(self->said_faults);
    shell_parts_destroy(&self->parts);
    free(self);
}

/* ---- the program ---- */

static void on_signal(void *arg, int number)
{
    struct worker_shell **self = arg;
    log_event(LOG_INFO, "signal", "name", number == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    if (*self)
        worker_shell_signal(*self);
}

/* --leave-with: whoever started us is gone. As two signals: nobody waits for what runs. */
struct leave {
    struct loop *loop;
    struct worker_shell **shell;
    struct loop_watch watch;
};

static void on_left(void *arg, uint32_t events)
{
    struct leave *self = arg;
    (void)events;
    loop_unwatch(self->loop, &self->watch);
    for (int i = 0; i < 2 && *self->shell; i++)
        worker_shell_signal(*self->shell);
}

static int watch_leave(struct leave *self, int fd, struct why *why)
{
    self->watch = (struct loop_watch){.fd = fd, .ready = on_left, .arg = self};
    if (fd < 0 || (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && loop_watch(self->loop, &self->watch, EPOLLIN) == 0))
        return 0;
    return why_set(why, "--leave-with %d: this descriptor can't be watched", fd);
}

static int work(const struct worker_config *config, struct why *why)
{
    static const int signals[] = {SIGTERM, SIGINT};
    struct worker_shell *shell = NULL;
    struct loop *loop = loop_new();
    struct leave leave = {.loop = loop, .shell = &shell};
    int code = EXIT_BUSY, error;
    if (!loop || (error = loop_signals(loop, signals, sizeof signals / sizeof *signals, on_signal, &shell)) < 0) {
        why_set(why, "no event loop: %s", strerror(loop ? -error : errno));
        goto end;
    }
    if (watch_leave(&leave, config->leave_with, why) < 0) {
        code = EXIT_USAGE;
        goto end;
    }
    if (!(shell = worker_shell_new(loop, config, &code, why)))
        goto end;
    error = loop_run(loop);
    code = worker_shell_exit_code(shell);
    if (error < 0)
        why_set(why, "the event loop failed: %s", strerror(-error));
    else
        log_event(LOG_INFO, "stopped", "unreleased", log_u64(shell->unreleased), NULL);
end:
    worker_shell_destroy(&shell);
    if (loop)
        loop_unwatch(loop, &leave.watch);
    loop_destroy(&loop);
    return code;
}

int worker_main(int argc, char **argv)
{
    struct worker_config config;
    struct why why = {""};
    switch (worker_config_read(argc, argv, stdout, &config, &why)) {
    case CONFIG_DONE:
        return output_end("worker", EXIT_STOPPED);
    case CONFIG_BAD:
        fprintf(stderr, "worker: %s\n", why.text);
        return EXIT_USAGE;
    case CONFIG_OK:
        break;
    }
    worker_config_clean_environment(&config);
    signal(SIGPIPE, SIG_IGN);
    /* What a killed keeper leaves behind comes to us, where its replacement finds it. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    log_setup("worker", config.log_format, config.log_level);
    int code = work(&config, &why);
    if (why.text[0] != '\0')
        fprintf(stderr, "worker: %s\n", why.text);
    worker_config_release(&config);
    return code;
}
