/* The ledger without memory: a small cluster works through batches, retries, cancels, a lost worker and a restart,
 * and each allocation fails in turn. Either the event is refused, and when it is repeated everything is as if nothing
 * had been; or the process ends with the sentence that says so, as the ledger's header has it: the journal has
 * everything. Nothing is lost, nothing is counted twice, nothing leaks.
 *
 * Each point is a process of its own (this program with --play), since it may end in the middle. */
#include "tests/support/fail.h"
#include "tests/unit/ledger_world.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define THE_END "out of memory; the journal has everything"

/* ---- the small cluster ---- */

struct cluster {
    struct world world;
    ledger_peer worker;                  /* the last that came */
    unsigned lane;                       /* its lane; 0: it has none (any more) */
    bool fails_first;                    /* index 1 fails at its first attempt */
    bool silent;                         /* the worker takes what it gets and says no more; and no other comes */
    char heard[BYTES];                   /* what was said since the present step began */
    long refusals;
};

static void die_of(const char *what, const struct cluster *c)
{
    fprintf(stderr, "%s; heard was:\n%s%s\n", what, c->heard, c->world.trace);
    _exit(99);
}

#define MUST(condition, c) ((condition) ? (void)0 : die_of(#condition, c))

static bool heard(const struct cluster *c, const char *text) { return strstr(c->heard, text) != NULL; }

/* A result, and the sink's word for it. */
static void do_task(struct cluster *c, uint64_t first, uint32_t count, uint32_t attempt, uint32_t left)
{
    struct world *w = &c->world;
    finished(w, c->worker, c->lane, first, count, attempt);
    for (uint64_t i = first; i < first + count; i++) {
        bool fails = c->fails_first && i == 1 && attempt == 1 && left > 0;
        recorded(w, c->worker, i, 1, attempt, fails ? WIRE__RESULT_KIND__IS_ATTEMPT : WIRE__RESULT_KIND__IS_VERDICT,
                 fails ? WIRE__VERDICT__FAILED : WIRE__VERDICT__OK, true);
    }
}

/* What the journal has of the last batch that was submitted. */
static void answer_load(struct world *w, uint64_t batch_number)
{
    uint32_t one = 1;
    Wire__Tasks t = WIRE__TASKS__INIT;
    struct wire_writer writer = {0};
    t.count = (uint32_t)strlen(w->items);
    t.n_lengths = 1;
    t.lengths = &one;
    fail_pause();
    assert_int_equal(wire_write(&writer, &t.base), 0);
    fail_resume();
    struct ledger_frame f = {.count = t.count, .head = {.data = writer.bytes, .len = writer.len},
                             .body = {.data = (const uint8_t *)w->items, .len = t.count}};
    w->loading = false;
    ledger_loaded(w->ledger, w->now, batch_number, &f, 1, NULL);
    wire_writer_release(&writer);
    tick(w);
}

static void do_line(struct cluster *c, const char *line)
{
    struct world *w = &c->world;
    unsigned lane, attempt, left;
    char letter;
    uint64_t first, count, number;
    if (sscanf(line, "L%u assign %" SCNu64 "+%" SCNu64 " #%u left=%u", &lane, &first, &count, &attempt, &left) == 5) {
        if (lane == c->lane && !c->silent)
            do_task(c, first, (uint32_t)count, attempt, left);
    } else if (sscanf(line, "closing #%" SCNu64 " %" SCNu64 "+%" SCNu64, &number, &first, &count) == 3) {
        recorded_closing(w, number, count);
    } else if (sscanf(line, "L%u clos%c", &lane, &letter) == 2) {
        c->lane = lane == c->lane ? 0 : c->lane;
    } else if (strcmp(line, "say hello") == 0) {
        client_hello(w);
    } else if (strncmp(line, "register ", 9) == 0) {
        registered(w);
    } else if (sscanf(line, "load b%" SCNu64, &number) == 1) {
        answer_load(w, number);
    }
}

/* Does what was said, until nothing is said any more. */
static void serve(struct cluster *c)
{
    struct world *w = &c->world;
    do {
        char trace[BYTES];
        memcpy(trace, w->trace, sizeof trace);
        w->trace[0] = '\0';
        size_t at = strlen(c->heard);
        snprintf(c->heard + at, sizeof c->heard - at, "%s", trace);
        if (getenv("FAULT_TRACE"))
            fputs(trace, stderr);
        for (char *line = trace, *end; (end = strchr(line, '\n')); line = end + 1) {
            *end = '\0';
            do_line(c, line);
        }
        committed(w);
        tick(w);
    } while (w->trace[0] != '\0');
}

static void audit_or_die(struct cluster *c)
{
    struct why why = {""};
    if (ledger_audit(c->world.ledger, &why) < 0)
        die_of(why.text, c);
}

/* Does something that is answered, once more if it was refused for want of memory. */
#define INSIST(c, text, action)                                                \
    do {                                                                       \
        serve(c);                                                              \
        (c)->heard[0] = '\0';                                                  \
        action;                                                                \
        serve(c);                                                              \
        if (!heard(c, text) && fail_hits() > 0) {                              \
            (c)->refusals++;                                                   \
            action;                                                            \
            serve(c);                                                          \
        }                                                                      \
        MUST(heard(c, text), c);                                               \
        audit_or_die(c);                                                       \
    } while (0)


/* Each has another name, connection and session. */
static void let_worker_in(struct cluster *c)
{
    struct world *w = &c->world;
    char welcome[40], name[16];
    c->silent = false;
    c->worker++;
    snprintf(welcome, sizeof welcome, "%u: welcome lane=", c->worker);
    snprintf(name, sizeof name, "w%u", c->worker);
    INSIST(c, welcome, worker_hello(w, c->worker, name, 2, NULL, 0));
    MUST(sscanf(strstr(c->heard, welcome) + strlen(welcome), "%u", &c->lane) == 1, c);
    worker_opened(w, c->worker, c->lane);
    serve(c);
}

static void sink_lives(struct world *w)
{
    Wire__Heartbeat beat = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    m.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    m.heartbeat = &beat;
    upward(w, SINK, 900, 0, &m);
}

/* Workers of this cluster send no heartbeats: one that is given up is followed by the next. */
static void wait_some_time(struct cluster *c, int64_t ns)
{
    for (; ns > 0; ns -= 500 * MS) {
        pass(&c->world, 500 * MS);
        sink_lives(&c->world);
        serve(c);
        if (c->lane == 0 && !c->silent)
            let_worker_in(c);
    }
}

static void submit_batch(struct cluster *c, uint8_t seed, const char *items, bool last)
{
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__RetryRule retry = WIRE__RETRY_RULE__INIT;
    retry.retries = 2;
    retry.on_failed = true;
    retry.backoff_us = 1000;
    retry.backoff_factor_milli = 1000;
    retry.backoff_max_us = 1000;
    o.retry = &retry;
    INSIST(c, "submitted", submit(&c->world, &o, seed));
    serve(c);
    INSIST(c, "admitted", chunk(&c->world, 0, items, last));
}

static void expect_status(struct cluster *c, const char *text)
{
    INSIST(c, "status", status(&c->world));
    if (!heard(c, text)) {
        fprintf(stderr, "wanted: %s\n", text);
        die_of("the status is another", c);
    }
}

/* ---- what happens in it ---- */

static void a_batch_with_a_retry(struct cluster *c)
{
    c->fails_first = true;
    submit_batch(c, 1, "abcdef", true);
    serve(c);
    wait_some_time(c, NS_PER_S);
    expect_status(c, "status 3 total=6 queued=0 running=0 ok=6 failed=0 deadline=0 cancelled=0 lost=0");
}

static void a_worker_is_lost(struct cluster *c)
{
    c->fails_first = false;
    c->silent = true;
    submit_batch(c, 2, "uvwx", true);
    serve(c);
    wait_some_time(c, 12 * NS_PER_S);
    let_worker_in(c);
    wait_some_time(c, 2 * NS_PER_S);
    expect_status(c, "status 3 total=4 queued=0 running=0 ok=4 failed=0 deadline=0 cancelled=0 lost=0");
}

/* Some of them are with a worker that doesn't answer: it is waited for, and then given up. */
static void tasks_and_a_batch_are_cancelled(struct cluster *c)
{
    c->silent = true;
    submit_batch(c, 3, "klmnopqr", true);
    serve(c);
    INSIST(c, "cancelled queued=1", cancel(&c->world, 7, 1));
    serve(c);
    INSIST(c, "cancelled queued=", cancel(&c->world, 0, 0); wait_some_time(c, 9 * NS_PER_S));
    wait_some_time(c, 15 * NS_PER_S);
    expect_status(c, "status 3 total=8 queued=0 running=0 ok=0 failed=0 deadline=0 cancelled=8 lost=0");
}

static int begin_again(struct cluster *c)
{
    static const char *const folders[] = {"batch/", "meta/", "purged/", "tally/", "worker/"};      /* in key order */
    struct world *w = &c->world;
    struct why why = {""};
    fail_pause();                       /* the other half of a world that begins is the test's */
    begin(w);
    fail_resume();
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++)
        for (size_t i = 0; i < w->n_rows; i++)
            if (strncmp(w->rows[i].key, folders[f], strlen(folders[f])) == 0 &&
                ledger_restore(w->ledger, w->rows[i].key, w->rows[i].value, w->rows[i].len, &why) < 0) {
                if (!strstr(why.text, "memory"))
                    die_of(why.text, c);
                return -1;
            }
    ledger_restored(w->ledger, w->now);
    return 0;
}

/* Two of five tasks are done; the ventilator restarts, asks the sink, and does the rest. */
static void it_is_restarted(struct cluster *c)
{
    struct world *w = &c->world;
    c->silent = true;
    submit_batch(c, 4, "vwxyz", true);
    serve(c);
    ledger_destroy(&w->ledger);
    /* A restart that finds no memory is made again: it changes nothing on the disk. */
    if (begin_again(c) < 0) {
        MUST(fail_hits() > 0, c);
        c->refusals++;
        ledger_destroy(&w->ledger);
        MUST(begin_again(c) == 0, c);
    }
    epoch_now++;
    w->loading = false;
    c->lane = 0;
    committed(w);
    INSIST(c, "welcome", client_hello(w));
    INSIST(c, "sink welcome", sink_hello(w));
    serve(c);
    for (int i = 0; i < 3; i++) {
        records(w, 0, 2, 0, 0, 0);           /* it is asked until it answers */
        let_worker_in(c);
        wait_some_time(c, 6 * NS_PER_S);
    }
    expect_status(c, "status 3 total=5 queued=0 running=0 ok=5 failed=0 deadline=0 cancelled=0 lost=0");
}

static void live(struct cluster *c)
{
    struct world *w = &c->world;
    w->now.ns = NS_PER_S;
    w->flush = 1;
    c->worker = 10;
    epoch_now = 1;
    fail_pause();
    begin(w);
    fail_resume();
    ledger_restored(w->ledger, w->now);
    committed(w);
    INSIST(c, "welcome", client_hello(w));
    INSIST(c, "sink welcome", sink_hello(w));
    let_worker_in(c);
    a_batch_with_a_retry(c);
    a_worker_is_lost(c);
    tasks_and_a_batch_are_cancelled(c);
    let_worker_in(c);
    it_is_restarted(c);
    ledger_destroy(&w->ledger);
}

/* ---- the points ---- */

/* The exit codes of one point. Anything else is a failure. */
enum { UNTOUCHED = 0, WENT_ON = 40, WENT_ON_REFUSED = 41, LEAKED = 42 };

static int play(long n)
{
    static struct cluster cluster;
    size_t blocks = fail_blocks();
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    fail_arm(&(struct fail_plan){.kinds = FAIL_MEMORY, .after = n, .times = 1, .error = ENOMEM});
    live(&cluster);
    long hits = fail_disarm();
    if (fail_blocks() != blocks) {
        fail_tell_blocks(blocks);
        return LEAKED;
    }
    return hits == 0 ? UNTOUCHED : cluster.refusals > 0 ? WENT_ON_REFUSED : WENT_ON;
}

static char said_file[] = "/tmp/test-ledger-faults-XXXXXX";

static int run_point(long n)
{
    char number[24];
    char *argv[] = {"test_ledger_faults", "--play", number, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = 0;
    snprintf(number, sizeof number, "%ld", n);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, said_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static const char *what_it_said(void)
{
    static char text[8000];
    int fd = open(said_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    text[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
    return text;
}

static void each_allocation_fails_in_turn(void **state)
{
    long points = 0, ended = 0, refused = 0, stride = fail_is_sanitized() ? 5 : 1;
    (void)state;
    for (long n = 0; ; n += stride, points++) {
        int status = run_point(n);
        bool is_the_end = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(what_it_said(), THE_END);
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (code == UNTOUCHED)
            break;
        if (!is_the_end && code != WENT_ON && code != WENT_ON_REFUSED)
            fail_msg("allocation %ld: status %#x, %s", n, (unsigned)status, what_it_said());
        ended += is_the_end;
        refused += code == WENT_ON_REFUSED;
    }
    char what[120];
    snprintf(what, sizeof what, "allocations of the ledger (%ld ended the process in words, %ld refused something)", ended, refused);
    fail_said(what, points);
    assert_true(points >= (fail_is_sanitized() ? 10 : 100));
}

static void a_ledger_is_made_whole_or_not_at_all(void **state)
{
    const struct ledger_config config = {.program = "p", .session = 1, .heartbeat = NS_PER_S, .loss_grace = NS_PER_S, .silence = NS_PER_S,
                                         .boot = "b"};
    static const struct ledger_ports ports;
    struct fail_sweep sweep = {.kinds = FAIL_MEMORY, .error = ENOMEM, .stride = 1};
    (void)state;
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        struct ledger *ledger = ledger_new(&config, &ports, (mono_t){1});
        assert_int_equal(fail_disarm() > 0, !ledger);
        ledger_destroy(&ledger);
        assert_int_equal(fail_blocks(), blocks);
    }
    assert_true(sweep.points >= 1);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--play") == 0)
        return play(strtol(argv[2], NULL, 10));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ledger_is_made_whole_or_not_at_all),
        cmocka_unit_test(each_allocation_fails_in_turn),
    };
    int fd = mkstemp(said_file);
    if (fd < 0)
        return 1;
    close(fd);
    int result = cmocka_run_group_tests_name("ledger without memory", tests, NULL, NULL);
    unlink(said_file);
    return result;
}
