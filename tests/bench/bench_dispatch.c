/* Makespan over ideal, and what dispatch costs, for clusters and workloads beyond this machine: docs/dispatch.md.
 *
 * usage: bench_dispatch [--quick] [--json] [--list] [OPTION=VALUE...] [NAME...]
 *
 * Without names all sections. With workers=, one case of its own, of these values: times= mix= batches= workers= slots= tasks=
 * mean=MS round-trip=MS message=US seeds=; without it only seeds= may be given. All times are virtual, but for the column of the
 * ledger's own. What is none of this is refused, with exit code 2, before anything runs. */
#include "tests/support/dispatch.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define TASKS_MOST 200000u
#define RATE_MOST 1000000       /* tasks a second: more is beyond any ventilator */
#define LAN (NS_PER_MS / 5)

static bool as_json, quick, first_row = true;
static unsigned seeds;           /* 0: none were given */

/* ---- a row ---- */

static void head(const char *section, const char *about)
{
    if (as_json)
        return;
    printf("\n%s: %s\n\n", section, about);
    printf("| times | workers | batches | workers × slots | tasks | task | round trip | over ideal | lost | messages/task | ledger ns/task | "
           "bytes/worker |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
}

static void say_json(const char *section, const struct dispatch_case *c, double over, const struct dispatch_figures *f)
{
    printf("%s\n  {\"section\": \"%s\", \"times\": \"%s\", \"mix\": \"%s\", \"batches\": \"%s\", \"workers\": %u, \"slots\": %u, \"tasks\": %" PRIu64
           ", \"mean_ms\": %g, \"round_trip_ms\": %g, \"message_us\": %g, \"over_ideal\": %.4f, \"lost\": %.5f, \"messages_per_task\": %.4f"
           ", \"looked_per_task\": %.2f, \"ledger_ns_per_task\": %.0f, \"bytes_per_worker\": %.0f, \"complete\": %s}", first_row ? "[" : ",", section,
           dispatch_times_names[c->times], dispatch_mix_names[c->mix], dispatch_batches_names[c->batches], c->workers, c->slots, c->tasks,
           (double)c->mean / 1e6, (double)c->round_trip / 1e6, (double)c->message / 1e3, over, f->lost,
           (double)f->messages / (double)c->tasks, (double)f->looked / (double)c->tasks, f->ledger_ns, f->worker_bytes,
           f->complete ? "true" : "false");
    first_row = false;
}

/* The mean of some seeds: where task times differ much, luck decides which one is last. */
static void row(const char *section, struct dispatch_case c)
{
    struct dispatch_figures f, sum = {.complete = true};
    double over = 0;
    if (c.slots == 0)
        c.slots = 4;
    if (c.tasks == 0)
        c.tasks = (uint64_t)c.workers * c.slots * (quick ? 20 : 50) < TASKS_MOST ? (uint64_t)c.workers * c.slots * (quick ? 20 : 50) : TASKS_MOST;
    unsigned n = c.workers >= 1000 || (quick && seeds == 0) ? 1 : seeds > 0 ? seeds : 3;
    for (c.seed = 1; c.seed <= n; c.seed++) {
        dispatch_run(&c, &f);
        over += (double)f.makespan / (double)f.ideal / n;
        sum.lost += f.lost / n;
        sum.messages += f.messages / n;
        sum.looked += f.looked / n;
        sum.ledger_ns += f.ledger_ns / n;
        sum.worker_bytes += f.worker_bytes / n;
        sum.complete = sum.complete && f.complete;
    }
    if (as_json)
        say_json(section, &c, over, &sum);
    else
        printf("| %s | %s | %s | %u × %u | %" PRIu64 " | %g ms | %g ms | %s%.3f | %.2f%% | %.2f | %.0f | %.0f |\n", dispatch_times_names[c.times],
               dispatch_mix_names[c.mix], dispatch_batches_names[c.batches], c.workers, c.slots, c.tasks, (double)c.mean / 1e6,
               (double)c.round_trip / 1e6, sum.complete ? "" : "not complete: ", over, sum.lost * 100, (double)sum.messages / (double)c.tasks,
               sum.ledger_ns, sum.worker_bytes);
    fflush(stdout);
}

/* ---- sections ---- */

static const uint32_t sizes[] = {4, 100, 1000, 10000};
static size_t n_sizes(void) { return quick ? 3 : sizeof sizes / sizeof *sizes; }

static void times_section(const char *name)
{
    head(name, "how task times are distributed");
    for (unsigned t = 0; t < TIMES_KINDS; t++)
        for (size_t i = 0; i < n_sizes(); i++)
            row(name, (struct dispatch_case){.times = (enum dispatch_times)t, .workers = sizes[i], .mean = 100 * NS_PER_MS, .round_trip = LAN});
}

static void mixes_section(const char *name)
{
    head(name, "workers that differ, come and go");
    for (unsigned m = 1; m < MIX_KINDS; m++)
        for (size_t i = 0; i < n_sizes(); i++)
            row(name, (struct dispatch_case){.times = TIMES_UNIFORM, .mix = (enum dispatch_mix)m, .workers = sizes[i] < 10 ? 10 : sizes[i],
                                             .mean = m == MIX_LOST ? NS_PER_S : 100 * NS_PER_MS, .round_trip = LAN});
}

static void batches_section(const char *name)
{
    head(name, "many batches");
    for (unsigned b = 1; b < BATCHES_KINDS; b++)
        for (size_t i = 0; i < n_sizes(); i++)
            row(name, (struct dispatch_case){.times = TIMES_UNIFORM, .batches = (enum dispatch_batches)b, .workers = sizes[i],
                                             .mean = 100 * NS_PER_MS, .round_trip = LAN});
}

static void distance_section(const char *name)
{
    static const int64_t trips[] = {LAN, 2 * NS_PER_MS, 50 * NS_PER_MS};
    static const int64_t means[] = {NS_PER_MS, 10 * NS_PER_MS, 100 * NS_PER_MS, NS_PER_S};
    head(name, "task times and round trips, 100 workers, ten seconds and more of work");
    for (size_t t = 0; t < 3; t++)
        for (size_t m = quick; m < 4; m++)
            row(name, (struct dispatch_case){.times = TIMES_UNIFORM, .workers = quick ? 20 : 100, .mean = means[m], .round_trip = trips[t],
                                             .tasks = m == 0 ? 2000000 : quick ? 8000 : m == 1 ? 200000 : 20000});
}

/* A ventilator whose messages take time: each takes some, and more of them than there is time for are the limit. */
static void limit_section(const char *name)
{
    static const int64_t means[] = {NS_PER_MS, 10 * NS_PER_MS, 100 * NS_PER_MS, NS_PER_S, 10 * NS_PER_S};
    head(name, "the same with 5 µs of the ventilator's time for each message");
    for (size_t m = quick; m < 5; m++)
        for (size_t i = 0; i < n_sizes() && 4 * sizes[i] * NS_PER_S / means[m] <= RATE_MOST; i++)
            row(name, (struct dispatch_case){.times = TIMES_UNIFORM, .workers = sizes[i], .mean = means[m], .round_trip = LAN,
                                             .message = 5 * NS_PER_US});
}

static const struct section {
    const char *name;
    void (*run)(const char *name);
} sections[] = {
    {"times", times_section}, {"mixes", mixes_section}, {"batches", batches_section}, {"distance", distance_section}, {"limit", limit_section},
};
#define SECTIONS (sizeof sections / sizeof *sections)

/* ---- arguments ---- */

static void refuse(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void refuse(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "bench_dispatch: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(2);
}

static unsigned kind_of(const char *what, const char *const *names, unsigned n, const char *word)
{
    char all[200] = "";
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(names[i], word) == 0)
            return i;
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    refuse("%s=%s: there is %s", what, word, all);
}

enum number { WORKERS, SLOTS, TASKS, MEAN, ROUND_TRIP, MESSAGE, SEEDS, NUMBERS };
static const struct {
    const char *name, *what;
    double least, most;
    bool whole;
} numbers[NUMBERS] = {
    [WORKERS] = {"workers", "a whole number", 1, 100000, true},
    [SLOTS] = {"slots", "a whole number", 1, 1000, true},
    [TASKS] = {"tasks", "a whole number", 1, 100000000, true},
    [MEAN] = {"mean", "a number of ms", 0.001, 1000000, false},
    [ROUND_TRIP] = {"round-trip", "a number of ms", 0, 1000000, false},
    [MESSAGE] = {"message", "a number of µs", 0, 1000000, false},
    [SEEDS] = {"seeds", "a whole number", 1, 1000, true},
};

static double number_of(enum number which, const char *text)
{
    char *end;
    double n = strtod(text, &end);
    bool in_range = n >= numbers[which].least && n <= numbers[which].most;      /* what is no number is in none */
    bool is_whole = in_range && n - floor(n) <= 0;
    if (end == text || *end != '\0' || !in_range || (numbers[which].whole && !is_whole))
        refuse("%s=%s: it is %s from %.10g to %.10g", numbers[which].name, text, numbers[which].what, numbers[which].least, numbers[which].most);
    return n;
}

static void set_number(struct dispatch_case *c, enum number which, double n)
{
    switch (which) {
    case WORKERS:    c->workers = (uint32_t)n; break;
    case SLOTS:      c->slots = (uint32_t)n; break;
    case TASKS:      c->tasks = (uint64_t)n; break;
    case MEAN:       c->mean = (int64_t)(n * 1e6); break;
    case ROUND_TRIP: c->round_trip = (int64_t)(n * 1e6); break;
    case MESSAGE:    c->message = (int64_t)(n * 1e3); break;
    case SEEDS:      seeds = (unsigned)n; break;
    case NUMBERS:    break;
    }
}

/* NAME=VALUE. Returns whether it is of a case of one's own: seeds are of the tables, too. */
static bool take_value(struct dispatch_case *c, const char *word, const char *value)
{
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)(value - word), word);
    value++;
    for (unsigned i = 0; i < NUMBERS; i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        set_number(c, (enum number)i, number_of((enum number)i, value));
        return i != SEEDS;
    }
    if (strcmp(name, "times") == 0)
        c->times = (enum dispatch_times)kind_of(name, dispatch_times_names, TIMES_KINDS, value);
    else if (strcmp(name, "mix") == 0)
        c->mix = (enum dispatch_mix)kind_of(name, dispatch_mix_names, MIX_KINDS, value);
    else if (strcmp(name, "batches") == 0)
        c->batches = (enum dispatch_batches)kind_of(name, dispatch_batches_names, BATCHES_KINDS, value);
    else
        refuse("there is no '%s='; there is times=, mix=, batches=, workers=, slots=, tasks=, mean=, round-trip=, message=, seeds=", name);
    return true;
}

static void list(void)
{
    for (size_t i = 0; i < SECTIONS; i++)
        printf("%s\n", sections[i].name);
}

static size_t section_of(const char *word)
{
    char all[200] = "";
    for (size_t i = 0; i < SECTIONS; i++) {
        if (strcmp(sections[i].name, word) == 0)
            return i;
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i > 0 ? ", " : "", sections[i].name);
    }
    refuse("there is no table '%s'; there is %s", word, all);
}

struct wanted {
    struct dispatch_case own;
    const char *own_word;           /* one of those that are of such a case; NULL: none was given */
    bool sections[SECTIONS], some_sections, list;
};

static void take_word(struct wanted *w, const char *word)
{
    const char *value = strchr(word, '=');
    if (strcmp(word, "--list") == 0)
        w->list = true;
    else if (strcmp(word, "--json") == 0)
        as_json = true;
    else if (strcmp(word, "--quick") == 0)
        quick = true;
    else if (word[0] == '-')
        refuse("there is no %s; there is --quick, --json, --list", word);
    else if (value == NULL)
        w->sections[section_of(word)] = w->some_sections = true;
    else if (take_value(&w->own, word, value))
        w->own_word = word;
}

int main(int argc, char **argv)
{
    struct wanted w = {.own = {.mean = 100 * NS_PER_MS, .round_trip = LAN}};
    for (int i = 1; i < argc; i++)
        take_word(&w, argv[i]);
    if (w.own_word != NULL && w.own.workers == 0)
        refuse("%s is of a case of your own, which needs workers=N, too", w.own_word);
    if (w.own_word != NULL && w.some_sections)
        refuse("%s is of a case of your own: give it without the name of a table", w.own_word);
    if (w.own.mix == MIX_LOST && w.own.workers == 1)
        refuse("mix=lost workers=1: one worker of ten is lost, and that would be the only one; it needs 2 at least");
    if (w.list) {
        list();
        return 0;
    }
    if (w.own_word != NULL) {
        head("own", "one case");
        row("own", w.own);
    }
    for (size_t i = 0; i < SECTIONS && w.own_word == NULL; i++)
        if (w.sections[i] || !w.some_sections)
            sections[i].run(sections[i].name);
    if (as_json)
        printf("\n]\n");
    return 0;
}
