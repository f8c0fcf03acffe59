/* Attempts per second through keepers, against a bare posix_spawn loop with as many at a time.
 * usage: bench_keeper [RUNS] [SLOTS] [CGROUP], the last as --cgroup of the worker (off). The two take turns, and the medians
 * are compared, so that what else the machine does meets both. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "worker/cgroup.h"
#include "worker/keeper.h"

#define ROUNDS 9
#define SLOTS_MOST 256

static char *const command[] = {"/bin/true", NULL};

struct bench {
    struct loop *loop;
    unsigned slots;
    uint64_t to_start, to_end;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_keeper: %s\n", what);
    exit(1);
}

static double rate(uint64_t runs, mono_t began)
{
    return (double)runs * (double)NS_PER_S / (double)mono_since(mono_now(), began);
}

static double bare(unsigned slots, uint64_t runs)
{
    uint64_t started = 0, ended = 0;
    pid_t pid;
    mono_t began = mono_now();
    while (ended < runs) {
        while (started < runs && started - ended < slots) {
            if (posix_spawn(&pid, command[0], NULL, NULL, command, environ) != 0)
                die("posix_spawn fails");
            started++;
        }
        if (waitpid(-1, NULL, 0) > 0)
            ended++;
    }
    return rate(runs, began);
}

static void start_one(struct bench *bench, struct keeper *keeper)
{
    struct keeper_run run = {.argv = command, .max_output = 1 << 20, .max_errors = 4096, .grace = NS_PER_S};
    if (bench->to_start == 0)
        return;
    bench->to_start--;
    if (keeper_run(keeper, &run) < 0)
        die("a keeper takes no run");
}

static void on_ended(void *arg, struct keeper *keeper, const struct keeper_end *end)
{
    struct bench *bench = arg;
    if (end->how != KEEPER_EXITED || end->code != 0)
        die("/bin/true didn't exit with 0");
    if (--bench->to_end == 0)
        loop_stop(bench->loop);
    start_one(bench, keeper);
}

static void on_died(void *arg, struct keeper *keeper, const char *sentence, bool lost)
{
    (void)arg;
    (void)lost;
    (void)keeper;
    die(sentence);
}

static double kept(struct bench *bench, struct keeper **keepers, uint64_t runs)
{
    bench->to_start = bench->to_end = runs;
    mono_t began = mono_now();
    for (unsigned i = 0; i < bench->slots; i++)
        start_one(bench, keepers[i]);
    if (loop_run(bench->loop) < 0)
        die("the loop fails");
    return rate(runs, began);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static uint64_t argument(int argc, char **argv, int i, uint64_t otherwise, uint64_t most)
{
    uint64_t value = otherwise;
    if (argc > i)
        value = strtoull(argv[i], NULL, 10);
    return value >= 1 && value <= most ? value : otherwise;
}

static void measure(struct bench *bench, struct keeper **keepers, uint64_t runs)
{
    double bare_rates[ROUNDS], kept_rates[ROUNDS];
    kept(bench, keepers, 10);
    bare(bench->slots, 10);
    for (int i = 0; i < ROUNDS; i++) {
        bare_rates[i] = bare(bench->slots, runs);
        kept_rates[i] = kept(bench, keepers, runs);
    }
    qsort(bare_rates, ROUNDS, sizeof *bare_rates, compare);
    qsort(kept_rates, ROUNDS, sizeof *kept_rates, compare);
    double b = bare_rates[ROUNDS / 2], k = kept_rates[ROUNDS / 2];
    printf("keeper: /bin/true, %u at a time: posix_spawn %.0f/s, keepers %.0f/s, %.1f%%\n", bench->slots, b, k, 100 * k / b);
}

int main(int argc, char **argv)
{
    if (keeper_is_asked_for(argc, argv))
        return keeper_main(argc, argv);
    struct bench bench = {.slots = (unsigned)argument(argc, argv, 2, 2, SLOTS_MOST), .loop = loop_new()};
    struct keeper_callbacks callbacks = {.ended = on_ended, .died = on_died, .arg = &bench};
    struct cgroup_home home;
    char group[PATH_MAX + 32];
    struct keeper *keepers[SLOTS_MOST] = {NULL};
    struct why why = {""};
    if (!bench.loop)
        die("there is no loop");
    if (cgroup_home_open(&home, argc > 3 ? argv[3] : "off", &why) < 0)
        die(why.text);
    for (unsigned i = 0; i < bench.slots; i++) {
        struct keeper_place place = {.slot = i + 1, .group = home.folder[0] != '\0' ? group : NULL};
        snprintf(group, sizeof group, "%s/slot-%u", home.folder, i + 1);
        keepers[i] = keeper_open(bench.loop, &place, &callbacks, &why);
        if (!keepers[i])
            die(why.text);
    }
    measure(&bench, keepers, argument(argc, argv, 1, 2000, 1000000));
    for (unsigned i = 0; i < bench.slots; i++)
        keeper_close(&keepers[i]);
    keepers_wait(bench.loop, NS_PER_S);
    cgroup_home_close(&home);
    loop_destroy(&bench.loop);
    return 0;
}
