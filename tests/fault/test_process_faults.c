/* Processes under faults: spawning, and the keeper on both sides of its socket. Every allocation, descriptor, clone,
 * send and receive fails in turn, is cut short, or interrupted. An attempt is reported with its end and all of its
 * output, or as not started with a reason, or as lost; then the slot runs the next one. No descriptor, no process and
 * no memory is left. */
#include "tests/support/fail.h"
#include "tests/unit/keeper_world.h"

#include "common/spawn.h"

#define WORKERS_CALLS (FAIL_MEMORY | FAIL_OPEN | FAIL_CONTROL | FAIL_PROCESS)

/* ---- spawning ---- */

static int spawn_true(pid_t *ret_pid, int *ret_pidfd)
{
    char *argv[] = {"true", NULL};
    struct spawn_request request = {
        .argv = argv, .env = environ, .in = SPAWN_NULL, .out = SPAWN_NULL, .err = SPAWN_NULL, .keep_fd = SPAWN_NOTHING, .new_session = true,
    };
    return spawn_process(&request, ret_pid, ret_pidfd);
}

static void assert_true_ran(pid_t pid, int pidfd)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(pidfd);
}

static uint64_t blocked_signals(void)
{
    sigset_t set;
    uint64_t bits = 0;
    sigprocmask(SIG_BLOCK, NULL, &set);
    for (int number = 1; number < 64; number++)
        bits |= (uint64_t)(sigismember(&set, number) == 1) << number;
    return bits;
}

static void a_clone_that_fails(void **state)
{
    static const int errors[] = {EAGAIN, ENOMEM, EMFILE};
    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        pid_t pid = -1;
        int pidfd = -1, before = fail_descriptors();
        uint64_t mask_before = 0, mask_after = 0;
        mask_before = blocked_signals();
        fail_arm(&(struct fail_plan){.kinds = FAIL_PROCESS, .times = 1, .error = errors[i]});
        assert_int_equal(spawn_true(&pid, &pidfd), -errors[i]);
        assert_int_equal(fail_disarm(), 1);
        assert_true(pid == -1 && pidfd == -1);
        mask_after = blocked_signals();
        assert_int_equal(mask_before, mask_after);
        assert_int_equal(fail_descriptors(), before);
        assert_false(fail_has_children());
        assert_int_equal(spawn_true(&pid, &pidfd), 0);
        assert_true_ran(pid, pidfd);
    }
}

/* What the child itself needs in front of the program can't be wrapped: here the system really has none. */
static void too_few_descriptors(void **state)
{
    struct rlimit before;
    long points = 0;
    int occupied[30];
    (void)state;
    for (size_t i = 0; i < 30; i++)
        occupied[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int open_before = fail_descriptors();
    for (rlim_t most = 8; ; most++, points++) {
        pid_t pid = -1;
        int pidfd = -1;
        struct rlimit few = {most, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        int result = spawn_true(&pid, &pidfd);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(result == 0 || result == -EMFILE);
        if (result == 0) {
            assert_true_ran(pid, pidfd);
            break;
        }
        assert_int_equal(fail_descriptors(), open_before);
        assert_false(fail_has_children());
    }
    for (size_t i = 0; i < 30; i++)
        close(occupied[i]);
    fail_said("limits of open files that are too low to spawn", points);
    assert_true(points >= 20);
}

/* ---- a slot, its attempt and what came of it ---- */

enum { SMALL = 300, LARGE = 300 * 1000 };

static uint8_t input_bytes[LARGE];

static struct place *open_place(void)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->loop = loop_new();
    assert_non_null(place->loop);
    place->bound = (struct loop_timer){.fire = too_late, .arg = place};
    /* The loop's own memory is had before anything fails. */
    assert_int_equal(loop_timer_set(place->loop, &place->bound, mono_add(mono_now(), BOUND)), 0);
    return place;
}

static void close_place(struct place *place)
{
    keeper_close(&place->keeper);
    assert_true(keepers_wait(place->loop, BOUND));
    drop_end(place);
    loop_timer_clear(place->loop, &place->bound);
    loop_destroy(&place->loop);
    free(place);
}

static struct keeper *try_keeper(struct place *place, struct why *why)
{
    struct keeper_callbacks callbacks = {.ended = on_ended, .died = on_died, .said = on_said, .arg = place};
    return place->keeper = keeper_open(place->loop, &(struct keeper_place){.slot = 7}, &callbacks, why);
}

static void expected_sum(size_t len, char *text, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + input_bytes[i];
    snprintf(text, size, "%llu %llu", (unsigned long long)len, (unsigned long long)sum);
}

static int begin_sum(struct place *place, size_t len)
{
    char *argv[] = {SELF, "--play", "sum", NULL};
    struct keeper_run run = run_of(argv);
    run.input = (struct slice){.data = input_bytes, .len = len};
    run.has_input = true;
    return keeper_run(place->keeper, &run);
}

static void assert_sum(const struct place *place, size_t len)
{
    char text[64];
    expected_sum(len, text, sizeof text);
    assert_ended(place, KEEPER_EXITED, 0);
    assert_slice(place->end.output, text);
}

enum fate { ENDED, CUT, NOT_STARTED, LOST, REFUSED };

/* One attempt, and how it ended as far as one hears. */
static enum fate run_sum(struct place *place, size_t len, long (*faults)(void))
{
    int ends = place->ends, lost = place->lost;
    int result = begin_sum(place, len);
    if (result < 0) {
        assert_int_equal(result, -ENOMEM);
        assert_true(faults() > 0);
        return REFUSED;
    }
    while (place->ends == ends && place->lost == lost)
        run_loop(place);
    assert_int_equal(place->ends - ends + place->lost - lost, 1);     /* one end, and one only */
    if (place->lost > lost) {
        if (faults() == 0 || strlen(place->died) < 20)
            fail_msg("lost without a fault: %s", place->died);
        return LOST;
    }
    if (place->end.how == KEEPER_NOT_STARTED) {
        assert_true(place->end.code > 0 && faults() > 0);
        return NOT_STARTED;
    }
    if (place->end.output_truncated) {
        assert_true(faults() > 0);
        return CUT;
    }
    assert_sum(place, len);
    return ENDED;
}

static void run_two(struct place *place, unsigned *fates, long (*faults)(void))
{
    fates[run_sum(place, SMALL, faults)]++;
    fates[run_sum(place, LARGE, faults)]++;
}

static long no_fault(void) { return 0; }

/* The slot is as good as any. */
static void assert_usable(struct place *place)
{
    assert_int_equal(run_sum(place, LARGE, no_fault), ENDED);
    assert_int_equal(run_sum(place, SMALL, no_fault), ENDED);
}

static long some_fault(void) { return 1; }

/* The fault may have been the last thing that the keeper met, and nobody has heard of its end yet. */
static void assert_usable_soon(struct place *place)
{
    enum fate fate = run_sum(place, SMALL, some_fault);
    assert_true(fate == ENDED || fate == LOST);
    assert_usable(place);
}

static void say_fates(const char *what, long points, const unsigned *fates)
{
    char text[300];
    snprintf(text, sizeof text, "%s (attempts: %u whole, %u cut, %u not started, %u lost, %u refused)", what, fates[ENDED], fates[CUT],
             fates[NOT_STARTED], fates[LOST], fates[REFUSED]);
    fail_said(text, points);
}

/* ---- the worker's side ---- */

static void opening_a_keeper(void **state)
{
    (void)state;
    struct fail_sweep sweep = {.kinds = WORKERS_CALLS | FAIL_WRITE, .error = EMFILE, .stride = 1};
    while (fail_next(&sweep)) {
        struct why why = {""};
        fail_disarm();
        size_t blocks = fail_blocks();
        int descriptors = fail_descriptors();
        struct place *place = open_place();
        fail_again(&sweep);
        struct keeper *keeper = try_keeper(place, &why);
        long hits = fail_disarm();
        if (!keeper) {
            assert_true(hits > 0 && strstr(why.text, "slot 7 has no keeper"));
            assert_true(keepers_wait(place->loop, BOUND));
            assert_false(fail_has_children());
            assert_non_null(try_keeper(place, &why));
        }
        assert_usable(place);
        close_place(place);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
        assert_false(fail_has_children());
    }
    fail_said("calls while a keeper is opened", sweep.points);
    assert_true(sweep.points >= 5);
}

static void sweep_running(const char *what, struct fail_sweep sweep, long wanted)
{
    unsigned fates[5] = {0};
    size_t blocks = 0;
    while (fail_next(&sweep)) {
        struct why why = {""};
        fail_disarm();
        int descriptors = fail_descriptors();
        blocks = fail_blocks();
        struct place *place = open_place();
        assert_non_null(try_keeper(place, &why));
        fail_again(&sweep);
        run_two(place, fates, fail_hits);
        fail_disarm();
        assert_usable(place);
        close_place(place);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
        assert_false(fail_has_children());
    }
    say_fates(what, sweep.points, fates);
    assert_true(sweep.points >= wanted);
}

static void running_on_a_keeper(void **state)
{
    (void)state;
    sweep_running("calls of a worker that fail while attempts run", (struct fail_sweep){.kinds = WORKERS_CALLS, .error = ENOMEM, .stride = 1}, 2);
    sweep_running("sends of a worker that are cut short", (struct fail_sweep){.kinds = FAIL_WRITE, .error = FAIL_SHORT, .stride = 1}, 2);
    sweep_running("sends of a worker that are interrupted", (struct fail_sweep){.kinds = FAIL_WRITE, .error = EINTR, .stride = 1}, 2);
    sweep_running("sends of a worker that would block", (struct fail_sweep){.kinds = FAIL_WRITE, .error = EAGAIN, .stride = 1}, 2);
    sweep_running("receives of a worker that are cut short", (struct fail_sweep){.kinds = FAIL_READ, .error = FAIL_SHORT, .stride = 1}, 2);
    sweep_running("receives of a worker that are interrupted", (struct fail_sweep){.kinds = FAIL_READ, .error = EINTR, .stride = 1}, 2);
    sweep_running("receives of a worker that fail", (struct fail_sweep){.kinds = FAIL_READ, .error = ECONNRESET, .stride = 1}, 2);
}

/* ---- the keeper's side: its faults travel in the environment, what they hit comes back in a file ---- */

static char hits_file[] = "/tmp/test-process-faults-XXXXXX";

static long keepers_hits(void) { return fail_exported_hits(hits_file); }

static void sweep_keeper(const char *what, unsigned kinds, int error, long wanted)
{
    unsigned fates[5] = {0};
    long points = 0, stride = fail_is_sanitized() ? 3 : 1;
    for (long n = 0; ; n += stride, points++) {
        struct why why = {""};
        int descriptors = fail_descriptors();
        size_t blocks = fail_blocks();
        struct place *place = open_place();
        fail_export(&(struct fail_plan){.kinds = kinds, .after = n, .times = 1, .error = error}, hits_file);
        if (getenv("FAULT_TRACE"))
            printf("# kinds %#x, error %d, after %ld in the keeper\n", kinds, error, n), fflush(stdout);
        bool opened = try_keeper(place, &why) != NULL;
        if (opened)
            run_two(place, fates, keepers_hits);
        bool hit = keepers_hits() > 0;
        fail_export(NULL, hits_file);
        if (!opened) {
            /* It ended before it could be told its place. */
            assert_true(hit && strstr(why.text, "slot 7 has no keeper"));
            fates[REFUSED]++;
            assert_non_null(try_keeper(place, &why));
        }
        /* A point that was not reached yet must not be reached in what follows. */
        if (hit)
            assert_usable_soon(place);
        close_place(place);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
        assert_false(fail_has_children());
        if (!hit)
            break;
    }
    say_fates(what, points, fates);
    assert_true(points >= (fail_is_sanitized() ? wanted / 3 : wanted));
}

static void within_the_keeper(void **state)
{
    (void)state;
    sweep_keeper("allocations of a keeper", FAIL_MEMORY, ENOMEM, 4);
    sweep_keeper("descriptors that a keeper can't have", FAIL_OPEN, EMFILE, 6);
    sweep_keeper("settings of descriptors that fail in a keeper", FAIL_CONTROL, EINVAL, 4);
    sweep_keeper("clones that fail in a keeper", FAIL_PROCESS, EAGAIN, 2);
    sweep_keeper("writes of a keeper that are cut short", FAIL_WRITE, FAIL_SHORT, 2);
    sweep_keeper("writes of a keeper that are interrupted", FAIL_WRITE, EINTR, 2);
    sweep_keeper("writes of a keeper that find no room", FAIL_WRITE, ENOSPC, 2);
    sweep_keeper("reads of a keeper that are cut short", FAIL_READ, FAIL_SHORT, 4);
    sweep_keeper("reads and waits of a keeper that are interrupted", FAIL_READ, EINTR, 4);
    sweep_keeper("reads and waits of a keeper that fail", FAIL_READ, EIO, 4);
}

int main(int argc, char **argv)
{
    if (keeper_is_asked_for(argc, argv))
        fail_import();
    play_a_part(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clone_that_fails),
        cmocka_unit_test(too_few_descriptors),
        cmocka_unit_test(opening_a_keeper),
        cmocka_unit_test(running_on_a_keeper),
        cmocka_unit_test(within_the_keeper),
    };
    for (size_t i = 0; i < sizeof input_bytes; i++)
        input_bytes[i] = (uint8_t)(i * 131 >> 3);
    int fd = mkstemp(hits_file);
    if (fd < 0)
        return 1;
    close(fd);
    int result = cmocka_run_group_tests_name("processes and faults", tests, NULL, NULL);
    unlink(hits_file);
    return result;
}
