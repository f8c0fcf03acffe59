/* Runs the seeds, then the mutants, and prints TAP.
 *   SEEDS=1000    how many seeds, from FROM=1 on; MUTANTS=0: no mutants after them
 *   SEED=17       only this one, with its whole trace
 *   MUTANT=name   with SEED: break this rule */
#include "tests/sim/sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST_LINES   70u
#define MUTANT_SEEDS 20000u
#define COVER_SEEDS  5000u             /* so many reach everything that can happen */

static void report_bug(void)
{
    if (running_seed != 0) {
        printf("not ok - seed %" PRIu64 " ended the program; replay: SEED=%" PRIu64 " build/tests/sim\n", running_seed, running_seed);
        fflush(stdout);
    }
}

/* Not safe in a handler in general; here the program is in an endless loop of its own, and about to end. */
static void on_alarm(int number)
{
    (void)number;
    report_bug();
    abort();
}

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* A failing seed is run again with a trace: nothing else changes. */
static void tell_failure(uint64_t seed, enum mutant mutant)
{
    struct world *w = world_make(seed, mutant);
    w->tracing = true;
    world_run(w);
    size_t most = 400, from = w->n_lines > LAST_LINES ? w->n_lines - LAST_LINES : 0;
    for (size_t i = from; i < w->n_lines; i++)
        printf("# %s\n", w->lines[i % most]);
    printf("# seed %" PRIu64 " violates %s: %s\n# replay: %s%s%sSEED=%" PRIu64 " build/tests/sim\n", seed, w->invariant, w->reason,
           mutant ? "MUTANT=" : "", mutant ? mutants[mutant].name : "", mutant ? " " : "", seed);
    world_free(&w);
}

static int replay(uint64_t seed, enum mutant mutant)
{
    struct world *w = world_make(seed, mutant);
    w->tracing = w->loud = true;
    world_run(w);
    bool failed = w->failed;
    printf("# %" PRIu64 " events, %.1f s of virtual time\n", w->n_events, (double)(w->now - WORLD_BEGIN) / 1e9);
    if (failed)
        printf("not ok 1 - seed %" PRIu64 ": %s: %s\n", seed, w->invariant, w->reason);
    else
        printf("ok 1 - seed %" PRIu64 "\n", seed);
    puts("1..1");
    world_free(&w);
    return failed;
}

/* Seeds go into TAP by the hundred, or more: a line for each would hide the one that matters. */
static unsigned run_seeds(uint64_t from, uint64_t to, unsigned test)
{
    unsigned failures = 0;
    uint64_t events = 0;
    for (uint64_t seed = from; seed < to; seed++) {
        struct world *w = world_make(seed, MUTANT_NONE);
        world_run(w);
        bool failed = w->failed;
        events += w->n_events;
        if (failed)
            printf("# seed %" PRIu64 " violates %s: %s\n", seed, w->invariant, w->reason);
        world_free(&w);
        if (failed && failures++ == 0)
            tell_failure(seed, MUTANT_NONE);
    }
    printf("%s %u - seeds %" PRIu64 " to %" PRIu64 "%s (%" PRIu64 " events", failures ? "not ok" : "ok", test, from, to - 1,
           failures ? ": some violate an invariant" : "", events);
    printf(failures ? ", %u seeds fail)\n" : ")\n", failures);
    fflush(stdout);
    return failures;
}

static unsigned run_mutant(enum mutant mutant, unsigned test)
{
    const struct mutant_spec *m = &mutants[mutant];
    char others[160] = "";
    for (uint64_t seed = 1; seed <= MUTANT_SEEDS; seed++) {
        struct world *w = world_make(seed, mutant);
        world_run(w);
        bool caught = w->failed && strstr(m->caught_by, w->invariant) != NULL;
        if (w->failed && !caught && strstr(others, w->invariant) == NULL)
            snprintf(others + strlen(others), sizeof others - strlen(others), " %s", w->invariant);
        world_free(&w);
        if (caught) {
            printf("ok %u - mutant %s: %s; %s notices (seed %" PRIu64 ")\n", test, m->name, m->what, m->caught_by, seed);
            return 0;
        }
    }
    printf("not ok %u - mutant %s: %s; %s should notice and did not in %u seeds%s%s\n", test, m->name, m->what, m->caught_by, MUTANT_SEEDS,
           others[0] ? "; others did:" : "", others);
    return 1;
}

/* Few seeds need not reach everything. */
static unsigned judge_cover(uint64_t seeds, unsigned test)
{
    char missing[800];
    cover_show();
    unsigned n = cover_missing(missing, sizeof missing);
    if (n > 0 && seeds >= COVER_SEEDS)
        printf("not ok %u - never reached by these seeds:%s\n", test, missing);
    else
        printf("ok %u - of what can happen, %u kinds of %u were reached\n", test, (unsigned)COVER_N - n, (unsigned)COVER_N);
    return n > 0 && seeds >= COVER_SEEDS;
}

static uint64_t number_of(const char *name, uint64_t preset)
{
    const char *text = getenv(name);
    char *end;
    if (text == NULL || *text == '\0')
        return preset;
    unsigned long long n = strtoull(text, &end, 10);
    if (*end == '\0')
        return n;
    fprintf(stderr, "sim: %s=%s is not a number\n", name, text);
    exit(2);
}

static enum mutant mutant_of(void)
{
    const char *name = getenv("MUTANT");
    if (name == NULL || *name == '\0')
        return MUTANT_NONE;
    for (int i = 0; i < MUTANTS; i++)
        if (strcmp(mutants[i].name, name) == 0)
            return (enum mutant)i;
    fprintf(stderr, "sim: there is no mutant '%s'; there are:", name);
    for (int i = 1; i < MUTANTS; i++)
        fprintf(stderr, " %s", mutants[i].name);
    fputc('\n', stderr);
    exit(2);
}

int main(void)
{
    uint64_t only = number_of("SEED", 0), seeds = number_of("SEEDS", 1000);
    enum mutant mutant = mutant_of();
    unsigned test = 0, failures = 0;
    atexit(report_bug);
    signal(SIGALRM, on_alarm);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(report_bug);
    if (only != 0)
        return replay(only, mutant);
    if (mutant != MUTANT_NONE)
        return (int)run_mutant(mutant, 1);
    uint64_t from = number_of("FROM", 1), to = from + seeds, step = seeds > 20000 ? seeds / 200 : 100;
    for (; from < to; from += step)
        failures += run_seeds(from, from + step < to ? from + step : to, ++test) > 0;
    for (int i = 1; i < MUTANTS && number_of("MUTANTS", 1) > 0; i++)
        failures += run_mutant((enum mutant)i, ++test);
    failures += judge_cover(seeds, ++test);
    printf("1..%u\n", test);
    return failures > 0;
}
