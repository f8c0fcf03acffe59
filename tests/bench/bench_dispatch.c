/* Makespan over ideal, and what dispatch costs, for clusters and workloads beyond this machine: docs/dispatch.md.
 *
 * usage: bench_dispatch [--quick] [--json] [--list] [OPTION=VALUE...] [NAME...]
 *
 * Without names all sections. With workers=, one case of its own, of these values: times= mix= batches= workers= slots= tasks=
 * mean=MS round-trip=MS message=US seeds=. All times are virtual, but for the column of the ledger's own. */
#include "tests/support/dispatch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define TASKS_MOST 200000u
#define RATE_MOST 1000000       /* tasks a second: more is beyond any ventilator */
#define LAN (NS_PER_MS / 5)

static bool as_json, quick, first_row = true;
static unsigned seeds = 3;

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
    unsigned n = c.workers >= 1000 ? 1 : seeds;
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

static unsigned kind_of(const char *const *names, unsigned n, const char *word)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(names[i], word) == 0)
            return i;
    fprintf(stderr, "bench_dispatch: there is no '%s'; there is", word);
    for (unsigned i = 0; i < n; i++)
        fprintf(stderr, " %s", names[i]);
    fprintf(stderr, "\n");
    exit(2);
}

/* NAME=VALUE of a case; false: it is none. */
static bool take_value(struct dispatch_case *c, const char *word)
{
    const char *value = strchr(word, '=');
    if (value == NULL)
        return false;
    size_t n = (size_t)(value++ - word);
    double number = strtod(value, NULL);
    if (strncmp(word, "times", n) == 0)
        c->times = (enum dispatch_times)kind_of(dispatch_times_names, TIMES_KINDS, value);
    else if (strncmp(word, "mix", n) == 0)
        c->mix = (enum dispatch_mix)kind_of(dispatch_mix_names, MIX_KINDS, value);
    else if (strncmp(word, "batches", n) == 0)
        c->batches = (enum dispatch_batches)kind_of(dispatch_batches_names, BATCHES_KINDS, value);
    else if (strncmp(word, "workers", n) == 0)
        c->workers = (uint32_t)number;
    else if (strncmp(word, "slots", n) == 0)
        c->slots = (uint32_t)number;
    else if (strncmp(word, "tasks", n) == 0)
        c->tasks = (uint64_t)number;
    else if (strncmp(word, "mean", n) == 0)
        c->mean = (int64_t)(number * 1e6);
    else if (strncmp(word, "round-trip", n) == 0)
        c->round_trip = (int64_t)(number * 1e6);
    else if (strncmp(word, "message", n) == 0)
        c->message = (int64_t)(number * 1e3);
    else if (strncmp(word, "seeds", n) == 0)
        seeds = (unsigned)number;
    else
        return false;
    return true;
}

static void list(void)
{
    for (size_t i = 0; i < SECTIONS; i++)
        printf("%s\n", sections[i].name);
}

static bool is_named(int argc, char **argv, const char *name)
{
    bool any = false, named = false;
    for (int i = 1; i < argc; i++) {
        bool is_name = strncmp(argv[i], "--", 2) != 0 && strchr(argv[i], '=') == NULL;
        any = any || is_name;
        named = named || (is_name && strcmp(argv[i], name) == 0);
    }
    return named || !any;
}

int main(int argc, char **argv)
{
    struct dispatch_case own = {.mean = 100 * NS_PER_MS, .round_trip = LAN};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0) {
            list();
            return 0;
        }
        if (strcmp(argv[i], "--json") == 0)
            as_json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            quick = true, seeds = 1;
        else if (strchr(argv[i], '=') != NULL && !take_value(&own, argv[i])) {
            fprintf(stderr, "bench_dispatch: what is '%s'? See the beginning of tests/bench/bench_dispatch.c\n", argv[i]);
            return 2;
        }
    }
    if (own.workers > 0) {
        head("own", "one case");
        row("own", own);
    }
    for (size_t i = 0; i < SECTIONS && own.workers == 0; i++)
        if (is_named(argc, argv, sections[i].name))
            sections[i].run(sections[i].name);
    if (as_json)
        printf("\n]\n");
    return 0;
}
