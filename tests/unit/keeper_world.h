/* For the tests of the keeper: a loop, a keeper, and ill-behaved commands that the test program plays
 * itself (`--play NAME FIFO`). Commands tell that they are ready through a FIFO; nothing waits for time. */
#ifndef TESTS_UNIT_KEEPER_WORLD_H
#define TESTS_UNIT_KEEPER_WORLD_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "worker/keeper.h"
#include "worker/keeper_wire.h"
#include "worker/sweep.h"

#define SELF "/proc/self/exe"
#define BOUND (60 * NS_PER_S)
#define LONG (1000 * NS_PER_S)

/* ---- the commands that this program plays ---- */

static inline void tell(const char *fifo, const char *text)
{
    int fd = open(fifo, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(99);
    close(fd);
}

static inline void tell_pid(const char *fifo)
{
    char text[32];
    snprintf(text, sizeof text, "%d\n", (int)getpid());
    tell(fifo, text);
}

static inline void wait_for_ever(void)
{
    for (;;)
        pause();
}

static inline void play_stubborn(const char *fifo)
{
    signal(SIGTERM, SIG_IGN);
    tell_pid(fifo);
    wait_for_ever();
}

/* The descendant tells its pid first and the leader ends only then, through a pipe. */
static inline void play_leave(const char *fifo, bool session, bool twice, bool stubborn)
{
    int ends[2];
    char byte;
    if (pipe(ends) < 0)
        _exit(99);
    if (fork() == 0) {
        if (session)
            setsid();
        if (twice && fork() != 0)
            _exit(0);
        if (stubborn)
            signal(SIGTERM, SIG_IGN);
        tell_pid(fifo);
        close(ends[0]);
        close(ends[1]);
        wait_for_ever();
    }
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 0 || (twice && wait(NULL) < 0))
        _exit(99);
    _exit(3);
}

/* So much memory that its end takes a while, in which a killed process has no environment and isn't dead. */
static inline void grow_heavy(void)
{
    size_t size = 256 << 20;
    char *memory = malloc(size);
    if (!memory)
        _exit(99);
    for (size_t i = 0; i < size; i += 4096)
        ((volatile char *)memory)[i] = 1;
}

/* The leader stays, and so does a daemon of its own session; both ignore SIGTERM. */
static inline void play_daemon(const char *fifo, bool heavy)
{
    int ends[2];
    char byte;
    signal(SIGTERM, SIG_IGN);
    if (pipe(ends) < 0)
        _exit(99);
    if (fork() == 0) {
        setsid();
        if (fork() != 0)
            _exit(0);
        if (heavy)
            grow_heavy();
        tell_pid(fifo);
        close(ends[0]);
        close(ends[1]);
        wait_for_ever();
    }
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 0)
        _exit(99);
    tell(fifo, "ready\n");
    wait_for_ever();
}

/* Several that are never the same, all at once, and each with children that stay. */
static inline void play_storm(const char *fifo)
{
    for (int i = 0; i < 40; i++) {
        if (fork() != 0)
            continue;
        signal(SIGTERM, SIG_IGN);
        if (i % 8 != 0)
            wait_for_ever();
        for (int life = 0;; life++) {
            if (life % 2 == 0)
                setsid();
            if (fork() > 0)
                _exit(0);
        }
    }
    tell(fifo, "ready\n");
    wait_for_ever();
}

static inline void play_burst(const char *fifo)
{
    for (int i = 0; i < 150; i++) {
        if (fork() != 0)
            continue;
        signal(SIGTERM, SIG_IGN);
        if (i % 3 == 0)
            setsid();
        if (i % 5 == 0 && fork() == 0)
            setsid();
        wait_for_ever();
    }
    tell(fifo, "ready\n");
    _exit(0);
}

/* One process that is never the same: it forks and leaves, with or without a new session each time. */
static inline void play_hopper(const char *fifo, bool session)
{
    pid_t first = fork();
    if (first != 0) {
        tell(fifo, "ready\n");
        _exit(0);
    }
    signal(SIGTERM, SIG_IGN);
    for (;;) {
        if (session)
            setsid();
        if (fork() > 0)
            _exit(0);
    }
}

/* The first thread leaves; /proc then says Z for a process that lives. */
static inline void *second_thread(void *fifo)
{
    tell_pid(fifo);
    wait_for_ever();
    return NULL;
}

static inline void play_headless(char *fifo)
{
    pthread_t thread;
    if (fork() == 0) {
        signal(SIGTERM, SIG_IGN);
        if (pthread_create(&thread, NULL, second_thread, fifo) != 0)
            _exit(99);
        pthread_exit(NULL);
    }
    wait_for_ever();
}

static inline void play_inspect(void)
{
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    int blocked = 0, ignored = 0, fds = 0;
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        blocked += sigismember(&set, number) == 1;
        ignored += sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
    }
    for (int fd = 3; fd < 1000; fd++)
        fds += fcntl(fd, F_GETFD) >= 0;
    int nice_now = getpriority(PRIO_PROCESS, 0);
    const char *added = getenv("TEST_ADDED"), *home = getenv("TEST_REPLACED");
    printf("blocked %d ignored %d fds %d nice %d session %d added %s replaced %s", blocked, ignored, fds, nice_now,
           getsid(0) == getpid() && getpgrp() == getpid(), added ? added : "-", home ? home : "-");
    fflush(stdout);
    _exit(0);
}

/* Reads standard input to its end, says how long it is and what it sums up to. */
static inline void play_sum(void)
{
    uint64_t sum = 0, n = 0;
    uint8_t block[65536];
    for (ssize_t got; (got = read(0, block, sizeof block)) > 0; ) {
        n += (uint64_t)got;
        for (ssize_t i = 0; i < got; i++)
            sum = sum * 31 + block[i];
    }
    printf("%llu %llu", (unsigned long long)n, (unsigned long long)sum);
    fflush(stdout);
    _exit(0);
}

static inline void play(const char *what, char *fifo)
{
    if (strcmp(what, "stubborn") == 0)
        play_stubborn(fifo);
    if (strcmp(what, "plain") == 0)
        play_leave(fifo, false, false, false);
    if (strcmp(what, "session") == 0)
        play_leave(fifo, true, false, false);
    if (strcmp(what, "twice") == 0)
        play_leave(fifo, true, true, false);
    if (strcmp(what, "stubborn-twice") == 0)
        play_leave(fifo, true, true, true);
    if (strcmp(what, "daemon") == 0)
        play_daemon(fifo, false);
    if (strcmp(what, "heavy-daemon") == 0)
        play_daemon(fifo, true);
    if (strcmp(what, "storm") == 0)
        play_storm(fifo);
    if (strcmp(what, "burst") == 0)
        play_burst(fifo);
    if (strcmp(what, "hopper") == 0)
        play_hopper(fifo, false);
    if (strcmp(what, "session-hopper") == 0)
        play_hopper(fifo, true);
    if (strcmp(what, "headless") == 0)
        play_headless(fifo);
    if (strcmp(what, "inspect") == 0)
        play_inspect();
    if (strcmp(what, "sum") == 0)
        play_sum();
    _exit(98);
}

/* ---- the world around one keeper ---- */

struct place {
    char folder[64], fifo[80];
    struct loop *loop;
    struct keeper *keeper;
    struct loop_watch told;            /* the FIFO */
    struct loop_timer bound;
    bool late;
    char text[256];                    /* what came through the FIFO */
    size_t text_len;
    int wait_lines;                    /* the loop stops when so many lines came */

    char group[128], control[CONTROLS][128];    /* of the slot; empty: none */
    int bundle;                        /* a descriptor to share; 0: none */
    int ends, deaths, lost, notes[2];
    char said[KEEPER_NOTE_MOST];
    struct keeper_end end;             /* with outputs kept */
    char died[200], sentence[KEEPER_SENTENCE_MOST];
    int repeat;                        /* runs to start from `ended` itself */
    const struct keeper_run *again;
};

static inline void too_late(void *arg)
{
    struct place *place = arg;
    place->late = true;
    loop_stop(place->loop);
}

static inline void was_told(void *arg, uint32_t events)
{
    struct place *place = arg;
    int lines = 0;
    (void)events;
    ssize_t got = read(place->told.fd, place->text + place->text_len, sizeof place->text - 1 - place->text_len);
    if (got > 0)
        place->text_len += (size_t)got;
    place->text[place->text_len] = '\0';
    for (const char *at = place->text; (at = strchr(at, '\n')); at++)
        lines++;
    if (place->wait_lines > 0 && lines >= place->wait_lines)
        loop_stop(place->loop);
}

static inline void drop_end(struct place *place)
{
    slice_drop(&place->end.output);
    slice_drop(&place->end.errors);
}

static inline void on_ended(void *arg, struct keeper *keeper, const struct keeper_end *end)
{
    struct place *place = arg;
    assert_ptr_equal(keeper, place->keeper);
    drop_end(place);
    place->end = *end;
    place->end.output = slice_keep(end->output);
    place->end.errors = slice_keep(end->errors);
    snprintf(place->sentence, sizeof place->sentence, "%s", end->sentence ? end->sentence : "");
    place->end.sentence = NULL;
    place->ends++;
    if (place->repeat > 0) {
        place->repeat--;
        assert_int_equal(keeper_run(keeper, place->again), 0);
        return;
    }
    loop_stop(place->loop);
}

static inline void on_died(void *arg, struct keeper *keeper, const char *sentence, bool lost)
{
    struct place *place = arg;
    assert_ptr_equal(keeper, place->keeper);
    place->deaths++;
    place->lost += lost;
    snprintf(place->died, sizeof place->died, "%s", sentence);
    loop_stop(place->loop);
}

static inline void on_said(void *arg, struct keeper *keeper, enum keeper_note note, const char *sentence)
{
    struct place *place = arg;
    assert_ptr_equal(keeper, place->keeper);
    place->notes[note]++;
    snprintf(place->said, sizeof place->said, "%s", sentence);
    loop_stop(place->loop);
}

static inline void open_keeper(struct place *place)
{
    struct why why = {""};
    struct keeper_callbacks callbacks = {.ended = on_ended, .died = on_died, .said = on_said, .arg = place};
    struct keeper_place where = {.slot = 7, .bundle = place->bundle, .group = place->group[0] != '\0' ? place->group : NULL};
    for (int i = 0; i < CONTROLS; i++)
        where.control[i] = place->control[i][0] != '\0' ? place->control[i] : NULL;
    place->keeper = keeper_open(place->loop, &where, &callbacks, &why);
    if (!place->keeper)
        fail_msg("%s", why.text);
}

static char group_of_slot[128];        /* where set_up_in_group puts the slot */

static inline int set_up_sharing(void **state, const char *group, int bundle)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->bundle = bundle;
    snprintf(place->group, sizeof place->group, "%s", group);
    snprintf(place->folder, sizeof place->folder, "/tmp/test-keeper-XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->fifo, sizeof place->fifo, "%s/told", place->folder);
    assert_int_equal(mkfifo(place->fifo, 0600), 0);
    place->loop = loop_new();
    assert_non_null(place->loop);
    /* Open for writing too, so that it never reports a hang-up. */
    place->told = (struct loop_watch){
        .fd = open(place->fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC), .ready = was_told, .arg = place,
    };
    assert_true(place->told.fd >= 0);
    assert_int_equal(loop_watch(place->loop, &place->told, EPOLLIN), 0);
    place->bound = (struct loop_timer){.fire = too_late, .arg = place};
    open_keeper(place);
    *state = place;
    return 0;
}

static inline int set_up_in(void **state, const char *group) { return set_up_sharing(state, group, 0); }
static inline int set_up(void **state) { return set_up_in(state, ""); }
static inline int set_up_in_group(void **state) { return set_up_in(state, group_of_slot); }

static inline int tear_down(void **state)
{
    struct place *place = *state;
    keeper_close(&place->keeper);
    assert_true(keepers_wait(place->loop, BOUND));
    drop_end(place);
    loop_timer_clear(place->loop, &place->bound);
    loop_unwatch(place->loop, &place->told);
    close(place->told.fd);
    loop_destroy(&place->loop);
    unlink(place->fifo);
    rmdir(place->folder);
    free(place);
    return 0;
}

static inline void run_loop(struct place *place)
{
    assert_int_equal(loop_timer_set(place->loop, &place->bound, mono_add(mono_now(), BOUND)), 0);
    assert_int_equal(loop_run(place->loop), 0);
    assert_false(place->late);
}

static inline void wait_for_end(struct place *place)
{
    int ends = place->ends;
    place->wait_lines = 0;
    while (place->ends == ends && place->deaths == 0)
        run_loop(place);
    assert_int_equal(place->deaths, 0);
}

static inline void wait_for_lines(struct place *place, int lines)
{
    place->wait_lines = lines;
    run_loop(place);
    assert_int_equal(place->ends, 0);
}

static inline struct keeper_run run_of(char *const *argv)
{
    return (struct keeper_run){.argv = argv, .max_output = 1 << 20, .max_errors = 4096, .grace = LONG};
}

static inline void start_playing(struct place *place, const char *what, int64_t grace)
{
    char *argv[] = {SELF, "--play", (char *)what, place->fifo, NULL};
    struct keeper_run run = run_of(argv);
    run.grace = grace;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
}

static inline void run_shell(struct place *place, const char *script)
{
    char *argv[] = {"sh", "-c", (char *)script, NULL};
    struct keeper_run run = run_of(argv);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
}

static inline void assert_slice(struct slice slice, const char *text)
{
    assert_int_equal(slice.len, strlen(text));
    if (slice.len > 0)
        assert_memory_equal(slice.data, text, slice.len);
}

static inline void assert_ended(const struct place *place, enum keeper_how how, int code)
{
    assert_int_equal(place->end.how, how);
    assert_int_equal(place->end.code, code);
}

static inline pid_t nth_pid(const struct place *place, int n)
{
    const char *at = place->text;
    while (n-- > 0)
        at = strchr(at, '\n') + 1;
    return (pid_t)strtol(at, NULL, 10);
}

static inline void assert_gone(pid_t pid)
{
    assert_true(pid > 1);
    errno = 0;
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

/* Dead, but perhaps not reaped by whoever its parent is now. */
static inline void assert_gone_or_dead(pid_t pid)
{
    char state = 'Z', name[SWEEP_NAME];
    assert_true(pid > 1);
    sweep_describe(pid, name, &state);
    assert_int_equal(state, 'Z');
}

static inline pid_t keeper_pid(struct place *place)
{
    run_shell(place, "echo $PPID");
    assert_true(place->end.output.len > 1 && place->end.output.len < 12);
    char text[16] = "";
    memcpy(text, place->end.output.data, place->end.output.len);
    return (pid_t)strtol(text, NULL, 10);
}

#define KEEPER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define GROUP_TEST(test) {#test "_in_a_group", test, set_up_in_group, tear_down, NULL}

/* The tests, and some of them once more in a group of the slot, where the host has one (group_world.h): how many failed. */
#define RUN_ALSO_IN_GROUPS(tests, in_groups) ({ \
    int failed_ = cmocka_run_group_tests(tests, NULL, NULL); \
    if (groups_open()) { \
        snprintf(group_of_slot, sizeof group_of_slot, "%.100s/slot-7", groups.home.folder); \
        failed_ += cmocka_run_group_tests(in_groups, NULL, NULL); \
    } \
    groups_close(); \
    failed_; \
})

/* What a test's main does first: it may be a keeper, or one of the commands. */
static inline void play_a_part(int argc, char **argv)
{
    if (keeper_is_asked_for(argc, argv))
        exit(keeper_main(argc, argv));
    if (argc >= 3 && strcmp(argv[1], "--play") == 0)
        play(argv[2], argc > 3 ? argv[3] : NULL);
}

#endif
