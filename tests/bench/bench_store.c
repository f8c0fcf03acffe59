/* What the store can do on this disk: how long one small commit takes, alone and beside other
 * work, and how many frames of 1,000 tasks of 64 bytes it takes in a second.
 * usage: bench_store [FOLDER]     default: a folder of its own in $TMPDIR or /var/tmp, removed at the end */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "common/store.h"

#define COMMITS 2000
#define TASKS 1000
#define TASK 64
#define AT_ONCE 8
#define TRANSACTIONS 1500
#define AHEAD 4                              /* transactions on their way */

struct bench {
    struct loop *loop;
    struct store *store;
    bool read_done;
    size_t rows;
    uint64_t last;
};

static _Noreturn void give_up(const char *sentence)
{
    fprintf(stderr, "bench_store: %s\n", sentence);
    exit(EXIT_FAILURE);
}

static void on_committed(void *arg, uint64_t sequence)
{
    (void)sequence;
    loop_stop(((struct bench *)arg)->loop);
}

static void on_failed(void *arg, const char *sentence)
{
    (void)arg;
    give_up(sentence);
}

static void on_full(void *arg, bool is_full)
{
    (void)arg;
    if (is_full)
        give_up("the disk is full; name a folder on a larger one");
}

/* Waits until at most `ahead` flushes are on their way. */
static void wait_for(struct bench *bench, uint64_t sequence, uint64_t ahead)
{
    while (store_committed(bench->store) + ahead < sequence)
        loop_run(bench->loop);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void small_commits(struct bench *bench, const char *name)
{
    static int64_t took[COMMITS];
    char value[100] = "a small record";
    mono_t from = mono_now();
    for (size_t i = 0; i < COMMITS; i++) {
        mono_t start = mono_now();
        memcpy(value, &start, sizeof start);             /* SQLite doesn't write what is there already */
        if (store_put(bench->store, "batch/1", value, sizeof value) < 0)
            give_up("no memory");
        wait_for(bench, store_flush(bench->store), 0);
        took[i] = mono_since(mono_now(), start);
    }
    double seconds = (double)mono_since(mono_now(), from) / (double)NS_PER_S;
    qsort(took, COMMITS, sizeof *took, compare);
    printf("%-44s %9.0f /s   p50 %6" PRId64 " us   p99 %6" PRId64 " us   max %6" PRId64 " us\n", name, COMMITS / seconds,
           took[COMMITS / 2] / NS_PER_US, took[COMMITS * 99 / 100] / NS_PER_US, took[COMMITS - 1] / NS_PER_US);
}

static void append(struct bench *bench, struct buf *body, uint64_t batch, uint64_t first)
{
    uint64_t number;
    struct store_frame frame = { .batch = batch, .first = first, .count = TASKS,
                                 .head = { .data = (const uint8_t *)"a head of columns", .len = 17 }, .body = slice_of(body) };
    if (store_append(bench->store, &frame, &number) < 0)
        give_up("no memory");
}

static void frames(struct bench *bench)
{
    struct buf *body = buf_new(TASKS * TASK);
    if (!body)
        give_up("no memory");
    memset(buf_data(body), 't', TASKS * TASK);
    mono_t from = mono_now();
    uint64_t first = 0, sequence = 0;
    for (int i = 0; i < TRANSACTIONS; i++) {
        for (int k = 0; k < AT_ONCE; k++, first += TASKS)
            append(bench, body, 1, first);
        sequence = store_flush(bench->store);
        wait_for(bench, sequence, AHEAD);
    }
    wait_for(bench, sequence, 0);
    double seconds = (double)mono_since(mono_now(), from) / (double)NS_PER_S;
    printf("%-44s %9.0f /s   %.2f million tasks/s   %.0f MB/s\n", "frames of 1,000 x 64 bytes, 8 a transaction",
           TRANSACTIONS * AT_ONCE / seconds, TRANSACTIONS * AT_ONCE * TASKS / seconds / 1e6,
           (double)TRANSACTIONS * AT_ONCE * TASKS * TASK / seconds / 1e6);
    buf_unref(&body);
}

static void on_rows(void *arg, const struct store_rows *rows)
{
    struct bench *bench = arg;
    if (rows->damage)
        give_up(rows->damage);
    bench->rows += rows->n;
    bench->last = rows->n ? rows->frames[rows->n - 1].number : bench->last;
    bench->read_done = !rows->more;
    loop_stop(bench->loop);
}

static void read_back(struct bench *bench)
{
    mono_t from = mono_now();
    while (!bench->read_done) {
        size_t before = bench->rows;
        struct store_query query = { .batch = 1, .after = bench->last };
        if (store_read(bench->store, &query, on_rows, bench, NULL) < 0)
            give_up("no memory");
        while (bench->rows == before && !bench->read_done)
            loop_run(bench->loop);
    }
    double seconds = (double)mono_since(mono_now(), from) / (double)NS_PER_S;
    printf("%-44s %9.0f /s   %.0f MB/s\n", "the same read back, 1 MiB at a time", (double)bench->rows / seconds,
           (double)bench->rows * TASKS * TASK / seconds / 1e6);
}

static void run(struct bench *bench, const char *dir)
{
    struct store_config config = { .dir = dir, .role = "journal", .version = 1, .committed = on_committed,
                                   .full = on_full, .failed = on_failed, .arg = bench };
    enum store_refusal refusal;
    struct why why;
    bench->loop = loop_new();
    bench->store = bench->loop ? store_open(bench->loop, &config, &refusal, &why) : NULL;
    if (!bench->store)
        give_up(bench->loop ? why.text : "no loop");
    small_commits(bench, "one small commit after the other");
    frames(bench);
    read_back(bench);
    if (store_delete_frames(bench->store, 1) < 0)
        give_up("no memory");
    small_commits(bench, "small commits beside a purge");
    store_close(&bench->store, 60 * NS_PER_S);
    loop_destroy(&bench->loop);
}

static void clean(const char *dir)
{
    static const char *const names[] = { "LOCK", "reserve", "journal.db" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    char own[4096];
    if (argc > 1) {
        run(&bench, argv[1]);
        return 0;
    }
    const char *base = getenv("TMPDIR");
    snprintf(own, sizeof own, "%s/tarmac-bench-XXXXXX", base ? base : "/var/tmp");
    if (!mkdtemp(own))
        give_up("no folder can be made in $TMPDIR; name one");
    run(&bench, own);
    clean(own);
    return 0;
}
