/* ventilator watch: asks the ventilator once in a while how it goes, and shows the answer on a terminal, or as lines. */
#include "ventilator/cli_watch.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/output.h"
#include "ventilator/cli.h"

#define PAGE 256u
#define WORKERS_MOST 4096u               /* more are counted by the ventilator, but not listed here */
#define SLOWEST_MOST 64u
#define FOREVER (INT64_C(10) * 366 * 86400 * NS_PER_S)

struct watcher {
    struct cli cli;
    struct cli_options options;
    struct watch watch;
    struct terminal *terminal;           /* NULL: lines */
    struct loop_timer ask, draw;
    struct loop_watch keys;
    int64_t interval;
    mono_t answered;
    uint64_t asked[WATCH_PANELS];        /* requests without an answer */
    struct watch_worker *coming;         /* pages of workers, until the last one */
    size_t n_coming;
    char (*said)[32];                    /* lines: the batches whose end was told, or was before our time */
    size_t n_said;
    bool spoken;
};

static void show(struct watcher *self);

/* ---- what the ventilator says ---- */

static void open_screen(struct watcher *self);

/* Only now is the terminal taken over: that nobody answers is said in plain words, which stay. */
static void on_answer(struct watcher *self)
{
    self->answered = loop_now(self->cli.loop);
    if (!self->watch.heard)
        open_screen(self);
    self->watch.heard = true;
}

static void take_batch(struct watch_batch *to, const Wire__BatchStatus *s, uint64_t place)
{
    *to = (struct watch_batch){.state = s->state, .total = s->total, .queued = s->queued, .running = s->running, .place = place};
    watch_copy(to->id, sizeof to->id, s->short_id);
    watch_copy(to->name, sizeof to->name, s->name);
    watch_copy(to->note, sizeof to->note, s->note);
    to->counts[WIRE__VERDICT__OK] = s->ok;
    to->counts[WIRE__VERDICT__FAILED] = s->failed;
    to->counts[WIRE__VERDICT__DEADLINE_EXCEEDED] = s->deadline_exceeded;
    to->counts[WIRE__VERDICT__CANCELLED] = s->cancelled;
    to->counts[WIRE__VERDICT__LOST] = s->lost;
    to->counts[WIRE__VERDICT__REJECTED] = s->rejected;
    to->rate = (double)s->rate_milli / 1000;
    to->has_eta = s->eta != NULL;
    to->eta_us = s->eta ? (int64_t)s->eta->us : 0;
    to->has_deadline = s->deadline_left != NULL;
    to->deadline_us = s->deadline_left ? s->deadline_left->us : 0;
}

static void on_status(void *arg, const Wire__Reply *reply)
{
    struct watcher *self = arg;
    self->asked[WATCH_BATCHES] = 0;
    if (reply->what_case != WIRE__REPLY__WHAT_STATUS)
        return;
    const Wire__StatusReport *r = reply->status;
    struct watch_batch *batches = calloc(r->n_batches + 1, sizeof *batches);
    if (!batches)
        return;
    for (size_t i = 0; i < r->n_batches; i++)
        take_batch(&batches[i], r->batches[i], i);
    free(self->watch.batches);
    self->watch.batches = batches;
    self->watch.n_batches = r->n_batches;
    if (r->system)
        self->watch.system = (struct watch_system){
            .workers = r->system->workers, .slots = r->system->slots, .recovering = r->system->recovering, .sink = r->system->sink_present,
            .journal_full = r->system->journal_full, .sink_full = r->system->sink_full, .draining = r->system->draining,
        };
    on_answer(self);
}

static void take_worker(struct watch_worker *to, const Wire__WorkerStatus *s)
{
    *to = (struct watch_worker){.slots = s->slots, .busy = s->busy, .held = s->held, .window = s->window, .finished = s->finished,
                                .silent_us = s->silent_us, .service_us = s->service_us};
    watch_copy(to->name, sizeof to->name, s->name);
    watch_copy(to->state, sizeof to->state, s->state);
    watch_copy(to->address, sizeof to->address, s->address);
    for (size_t i = 0, n = 0; i < s->n_handlers + (s->commands ? 1 : 0) && n + 2 < sizeof to->handlers; i++) {
        char name[WATCH_NAME];
        watch_copy(name, sizeof name, i < s->n_handlers ? s->handlers[i] : "(commands)");
        n += (size_t)snprintf(to->handlers + n, sizeof to->handlers - n, "%s%s", n > 0 ? "," : "", name);
    }
}

static void ask_workers(struct watcher *self, uint64_t after);

static void on_workers(void *arg, const Wire__Reply *reply)
{
    struct watcher *self = arg;
    self->asked[WATCH_WORKERS] = 0;
    if (reply->what_case != WIRE__REPLY__WHAT_WORKERS)
        return;
    const Wire__WorkersReport *r = reply->workers;
    struct watch_worker *all = reallocarray(self->coming, self->n_coming + r->n_workers + 1, sizeof *all);
    if (!all)
        return;
    self->coming = all;
    for (size_t i = 0; i < r->n_workers; i++)
        take_worker(&all[self->n_coming++], r->workers[i]);
    if (r->more && self->n_coming < WORKERS_MOST) {
        ask_workers(self, r->next);
        return;
    }
    free(self->watch.workers);
    self->watch.workers = self->coming;
    self->watch.n_workers = self->n_coming;
    self->coming = NULL;
    self->n_coming = 0;
    on_answer(self);
}

static void on_slowest(void *arg, const Wire__Reply *reply)
{
    struct watcher *self = arg;
    self->asked[WATCH_SLOWEST] = 0;
    if (reply->what_case != WIRE__REPLY__WHAT_SLOWEST)
        return;    /* An older ventilator doesn't know the question: the panel stays empty. */
    const Wire__SlowestReport *r = reply->slowest;
    struct watch_attempt *attempts = calloc(r->n_attempts + 1, sizeof *attempts);
    if (!attempts)
        return;
    for (size_t i = 0; i < r->n_attempts; i++) {
        const Wire__RunningAttempt *a = r->attempts[i];
        attempts[i] = (struct watch_attempt){.index = a->index, .attempt = a->attempt, .age_us = a->age_us, .has_left = a->left != NULL,
                                             .left_us = a->left ? a->left->us : 0};
        watch_copy(attempts[i].id, sizeof attempts[i].id, a->short_id);
        watch_copy(attempts[i].worker, sizeof attempts[i].worker, a->worker);
    }
    free(self->watch.attempts);
    self->watch.attempts = attempts;
    self->watch.n_attempts = r->n_attempts;
    on_answer(self);
    show(self);                          /* the last of the three that are asked for in a row */
}

/* ---- asking ---- */

static void ask_workers(struct watcher *self, uint64_t after)
{
    Wire__Workers workers = WIRE__WORKERS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    workers.most = PAGE;
    workers.after = after;
    m.what_case = WIRE__REQUEST__WHAT_WORKERS;
    m.workers = &workers;
    self->asked[WATCH_WORKERS] = client_request(self->cli.client, &m, on_workers, self);
}

static void ask_all(struct watcher *self)
{
    Wire__Status status = WIRE__STATUS__INIT;
    Wire__Slowest slowest = WIRE__SLOWEST__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &status;
    if (!self->asked[WATCH_BATCHES])
        self->asked[WATCH_BATCHES] = client_request(self->cli.client, &m, on_status, self);
    if (!self->asked[WATCH_WORKERS]) {
        self->n_coming = 0;
        ask_workers(self, 0);
    }
    slowest.most = SLOWEST_MOST;
    m.what_case = WIRE__REQUEST__WHAT_SLOWEST;
    m.slowest = &slowest;
    if (!self->asked[WATCH_SLOWEST])
        self->asked[WATCH_SLOWEST] = client_request(self->cli.client, &m, on_slowest, self);
}

/* While the ventilator is away the questions stay: they are asked again as soon as it is back. */
static void on_ask(void *arg)
{
    struct watcher *self = arg;
    ask_all(self);
    loop_timer_set(self->cli.loop, &self->ask, mono_add(loop_now(self->cli.loop), self->interval));
}

/* ---- acting ---- */

static void on_done(void *arg, const Wire__Reply *reply)
{
    struct watcher *self = arg;
    struct watch *w = &self->watch;
    w->message_bad = false;
    switch (reply->what_case) {
    case WIRE__REPLY__WHAT_CANCELLED: {
        const Wire__CancelReport *r = reply->cancelled;
        snprintf(w->message, sizeof w->message, "%s cancelled: %" PRIu64 " queued, %" PRIu64 " running, %" PRIu64 " finished already, %" PRIu64 " unreachable",
                 r->short_id, r->queued, r->running, r->finished, r->unreachable);
        break;
    }
    case WIRE__REPLY__WHAT_EXTENDED:
        snprintf(w->message, sizeof w->message, "%s: deadline in %" PRIu64 " s", reply->extended->short_id, reply->extended->deadline_left_us / 1000000);
        break;
    case WIRE__REPLY__WHAT_DRAINING: snprintf(w->message, sizeof w->message, "%s is draining", reply->draining->worker); break;
    case WIRE__REPLY__WHAT_EXPLANATION:
        w->story[0] = '\0';
        for (size_t i = 0, n = 0; i < reply->explanation->n_lines && n < sizeof w->story; i++) {
            char line[300];
            watch_copy(line, sizeof line, reply->explanation->lines[i]);
            n += (size_t)snprintf(w->story + n, sizeof w->story - n, "%s\n", line);
        }
        w->mode = WATCH_STORY;
        break;
    case WIRE__REPLY__WHAT_REFUSED:
        watch_copy(w->message, sizeof w->message, reply->refused->sentence);
        w->message_bad = true;
        break;
    default: break;
    }
    ask_all(self);
    show(self);
}

static void act(struct watcher *self, enum watch_action action)
{
    const struct watch_target *t = &self->watch.target;
    char name[WATCH_NAME];
    Wire__Cancel cancel = WIRE__CANCEL__INIT;
    Wire__Extend extend = WIRE__EXTEND__INIT;
    Wire__Drain drain = WIRE__DRAIN__INIT;
    Wire__Explain explain = WIRE__EXPLAIN__INIT;
    Wire__Number index = WIRE__NUMBER__INIT;
    Wire__Span span = WIRE__SPAN__INIT, *spans[] = {&span};
    Wire__Request m = WIRE__REQUEST__INIT;
    memcpy(name, t->name, sizeof name);
    cancel.ref = extend.ref = explain.ref = drain.worker = name;
    cancel.reason = (char *)(uintptr_t)"by the watcher";
    span.first = index.n = t->index;
    span.count = 1;
    cancel.tasks = spans;
    cancel.n_tasks = t->has_index;
    explain.index = t->has_index ? &index : NULL;
    extend.deadline_us = (uint64_t)(t->deadline / NS_PER_US);
    switch (action) {
    case WATCH_CANCEL:  m.what_case = WIRE__REQUEST__WHAT_CANCEL;  m.cancel = &cancel; break;
    case WATCH_EXTEND:  m.what_case = WIRE__REQUEST__WHAT_EXTEND;  m.extend = &extend; break;
    case WATCH_DRAIN:   m.what_case = WIRE__REQUEST__WHAT_DRAIN;   m.drain = &drain; break;
    case WATCH_EXPLAIN: m.what_case = WIRE__REQUEST__WHAT_EXPLAIN; m.explain = &explain; break;
    case WATCH_NOTHING: case WATCH_QUIT: return;
    }
    if (self->watch.stale) {
        snprintf(self->watch.message, sizeof self->watch.message, "the ventilator does not answer; nothing was changed");
        self->watch.message_bad = true;
    } else if (client_request(self->cli.client, &m, on_done, self) != 0 && action != WATCH_EXPLAIN) {
        snprintf(self->watch.message, sizeof self->watch.message, "asked the ventilator …");
    }
}

/* ---- showing ---- */

static bool was_said(const struct watcher *self, const char *id)
{
    for (size_t i = 0; i < self->n_said; i++)
        if (strncmp(self->said[i], id, sizeof *self->said - 1) == 0)
            return true;
    return false;
}

/* A line for the system and one for each batch that is open, or has ended since we spoke last. */
static void print_lines(struct watcher *self)
{
    struct watch *w = &self->watch;
    char line[700];
    char (*said)[32] = calloc(w->n_batches + 1, sizeof *said);
    size_t n = 0;
    if (!said)
        return;
    watch_line_of_system(w, line, sizeof line);
    printf("%s\n", line);
    for (size_t i = 0; i < w->n_batches; i++) {
        const struct watch_batch *b = &w->batches[i];
        bool over = b->state == WIRE__STATE__COMPLETE;
        if (over)
            snprintf(said[n++], sizeof *said, "%.31s", b->id);
        if (over && (!self->spoken || was_said(self, b->id)))
            continue;
        watch_line_of_batch(b, w->age_us, line, sizeof line);
        printf("%s\n", line);
    }
    free(self->said);
    self->said = said;
    self->n_said = n;
    self->spoken = true;
}

static void show(struct watcher *self)
{
    struct watch *w = &self->watch;
    int64_t age = w->heard ? mono_since(loop_now(self->cli.loop), self->answered) : 0;
    bool was_stale = w->stale;
    w->age_us = age / NS_PER_US;
    w->stale = w->heard && age > 2 * self->interval + NS_PER_S;
    if (self->terminal) {
        terminal_draw(self->terminal, w);
        return;
    }
    if (w->stale && !was_stale)
        printf("no answer from the ventilator; trying again\n");
    else if (w->heard && !w->stale && age < NS_PER_S)
        print_lines(self);
    int error = output_flush();
    if (error == EPIPE)
        output_forget();    /* Whoever read has seen enough. */
    if (error != 0)
        cli_end(&self->cli, CLI_OK);
}

/* Countdowns go on between two answers, and so does the age of what is stale. */
static void on_draw(void *arg)
{
    struct watcher *self = arg;
    if (self->terminal || !client_is_up(self->cli.client))
        show(self);
    loop_timer_set(self->cli.loop, &self->draw, mono_add(loop_now(self->cli.loop), NS_PER_S / 2));
}

/* ---- keys and signals ---- */

static void on_keys(void *arg, uint32_t events)
{
    struct watcher *self = arg;
    unsigned key;
    bool any = false;
    while (terminal_key(self->terminal, &key)) {
        enum watch_action action = watch_key(&self->watch, key);
        any = true;
        if (action == WATCH_QUIT) {
            cli_end(&self->cli, CLI_OK);
            return;
        }
        act(self, action);
    }
    if (!any && (events & (EPOLLHUP | EPOLLERR)) != 0)
        cli_end(&self->cli, CLI_OK);     /* The terminal is gone. */
    else
        show(self);
}

static void on_signal(void *arg, int number)
{
    struct watcher *self = arg;
    if (number != SIGWINCH) {
        cli_end(&self->cli, CLI_OK);
    } else if (self->terminal) {
        terminal_resize(self->terminal);
        show(self);
    }
}

/* ---- all of it ---- */

#define AT(field) offsetof(struct cli_options, field)
static const struct option_spec watch_options[] = {
    {.name = "interval", .type = OPT_DURATION, .offset = AT(interval), .value = "D", .preset = "-1", .env = "",
     .help = "How often the ventilator is asked: 1s when not given, 5s for lines."},
    {.name = "lines", .type = OPT_FLAG, .offset = AT(lines), .env = "", .help = "Print lines, on a terminal too."},
    {.name = "no-colour", .type = OPT_FLAG, .offset = AT(no_colour), .env = "", .help = "Use no colours (so does the variable NO_COLOR)."},
    {.name = NULL},
};
static const struct option_spec *const watch_tables[] = {watch_options, cli_connection_options, NULL};

const struct command_spec watch_command = {
    .program = "ventilator", .name = "watch", .arguments = "[options]",
    .summary = "The control tower in the terminal: batches, workers, and the attempts that have run longest.",
    .details = "Shows the newest 256 batches. Keys cancel, extend and drain, and each asks first; ? lists them. When the ventilator is away, what is "
               "shown is marked as stale until it is back. Where standard output is no terminal, or a dumb one, it prints lines.",
    .tables = watch_tables,
};

static bool wants_terminal(const struct watcher *self)
{
    const char *term = getenv("TERM");
    bool dumb = !term || term[0] == '\0' || strcmp(term, "dumb") == 0;
    return !dumb && !self->options.lines && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
}

static void close_screen(void *arg)
{
    struct watcher *self = arg;
    loop_unwatch(self->cli.loop, &self->keys);
    terminal_close(&self->terminal);
}

static void open_screen(struct watcher *self)
{
    const char *no_colour = getenv("NO_COLOR");
    if (!wants_terminal(self))
        return;
    self->terminal = terminal_open(!self->options.no_colour && (!no_colour || no_colour[0] == '\0'));
    self->keys = (struct loop_watch){.fd = STDIN_FILENO, .ready = on_keys, .arg = self};
    if (self->terminal && loop_watch(self->cli.loop, &self->keys, EPOLLIN) < 0)
        terminal_close(&self->terminal);
}

/* Before the sockets make threads: the signals must be blocked in all of them. */
static void block_signals(const int *signals, size_t n)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < n; i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int begin(struct watcher *self)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
    block_signals(signals, sizeof signals / sizeof *signals);
    if (cli_open(&self->cli, &self->options, NULL, NULL) < 0)
        return -1;
    self->cli.clear = close_screen;
    self->cli.clear_arg = self;
    if (loop_signals(self->cli.loop, signals, sizeof signals / sizeof *signals, on_signal, self) < 0 || cli_connect(&self->cli) < 0)
        return -1;
    self->interval = self->options.interval > 0 ? self->options.interval : wants_terminal(self) ? NS_PER_S : 5 * NS_PER_S;
    self->ask = (struct loop_timer){.fire = on_ask, .arg = self};
    self->draw = (struct loop_timer){.fire = on_draw, .arg = self};
    loop_timer_set(self->cli.loop, &self->ask, mono_now());
    loop_timer_set(self->cli.loop, &self->draw, mono_now());
    return 0;
}

static void end(struct watcher *self)
{
    if (self->cli.loop) {
        close_screen(self);
        loop_timer_clear(self->cli.loop, &self->ask);
        loop_timer_clear(self->cli.loop, &self->draw);
    }
    cli_close(&self->cli);
    free(self->watch.batches);
    free(self->watch.workers);
    free(self->watch.attempts);
    free(self->coming);
    free(self->said);
}

int watch_main(int argc, char **argv)
{
    static struct watcher self;
    int rest, code;
    bool dashes;
    self = (struct watcher){0};
    if (!cli_parse(&watch_command, argc, argv, &self.options, &rest, &dashes, &code))
        return code;
    if (rest < argc) {
        fprintf(stderr, "ventilator: usage: ventilator watch %s\n", watch_command.arguments);
        options_release(&watch_command, &self.options);
        return EXIT_USAGE;
    }
    setlocale(LC_CTYPE, "");
    self.options.reconnect_timeout = FOREVER;
    snprintf(self.watch.endpoint, sizeof self.watch.endpoint, "%s", self.options.endpoint);
    code = begin(&self) == 0 ? cli_run_loop(&self.cli) : self.cli.code ? self.cli.code : CLI_NOT_OK;
    end(&self);
    options_release(&watch_command, &self.options);
    return code;
}
