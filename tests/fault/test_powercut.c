/* A store through a power cut at any moment. A child runs a workload under the recording shim and marks what
 * it was told; from the record the folder is rebuilt as it could be after a cut before, in and after
 * syncs spread over all of the run, opened, checked against what was told, and gone on from.
 *
 * The workload follows from the number of the flush alone, so what a store must hold follows from the one
 * number that it says it has. SEED=… and CUTS=… (sync points, 0: all) choose another sample.
 *
 * With arguments it is the tool of tests/e2e/t_powercut.sh: `count RECORD`, `mark RECORD TEXT`,
 * `mark-lines RECORD`, `rebuild RECORD ENTRY HOW SEED LABEL DIR [LABEL DIR]`. */
#include "tests/unit/store_world.h"

#include <dlfcn.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "tests/support/powercut.h"

#define FLUSHES 260
#define BATCHES 6
#define KEYS 30
#define FRAMES (FLUSHES * 4)
#define VALUE_MOST 3000
#define BODY_MOST 20000
#define LARGE 65536
#define CUTS_DEFAULT 30
#define REOPEN_EVERY 140
#define FULL_AT 40
#define STEP (4 << 20)                       /* the store checkpoints after each so much of log */
#define PAGE 16384

/* In the shim; the child alone has them. */
void powercut_full(bool full) __attribute__((weak));
unsigned powercut_synced(void) __attribute__((weak));

/* Nothing depends on whether the rebuilt folders reach the disk: SQLite's syncs come here as well, and only the
 * child's go on, to the shim. */
static bool is_child;
static int sync_error;                       /* of the parent's syncs */

static int sync_if_child(int fd, const char *name)
{
    if (sync_error) {
        errno = sync_error;
        return -1;
    }
    int (*next)(int) = is_child ? (int (*)(int))dlsym(RTLD_NEXT, name) : NULL;
    return next ? next(fd) : 0;
}

int fsync(int fd) { return sync_if_child(fd, "fsync"); }
int fdatasync(int fd) { return sync_if_child(fd, "fdatasync"); }

/* ---- the workload, and what follows from it ---- */

struct value { uint32_t len; uint8_t fill; bool there; };
struct frame { uint64_t batch, first; uint32_t count, len; uint8_t fill; bool gone; };

struct model {
    uint32_t flushes;
    struct value values[KEYS];
    struct frame frames[FRAMES];             /* number - 1 */
    uint64_t n_frames;
};

struct action { enum { PUT, DELETE, APPEND, PURGE } what; uint32_t key; struct value value; struct frame frame; };

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* What flush `k` does, beside saying its number. */
static size_t actions_of(uint32_t k, struct action out[4])
{
    size_t n = 1 + mix(k) % 4;
    for (size_t i = 0; i < n; i++) {
        uint64_t dice = mix((uint64_t)k << 8 | i);
        uint8_t fill = (uint8_t)(1 + (dice >> 8) % 255);
        out[i] = (struct action){.what = PUT, .key = (uint32_t)(dice >> 16) % KEYS,
                                 .value = {.len = (uint32_t)(dice >> 32) % VALUE_MOST, .fill = fill, .there = true},
                                 .frame = {.batch = 1 + (dice >> 16) % BATCHES, .first = (dice >> 40) % 100000, .fill = fill,
                                           .count = 1 + (uint32_t)(dice >> 24) % 4096, .len = (uint32_t)(dice >> 32) % BODY_MOST}};
        if (dice % 8 == 0)
            out[i].what = DELETE;
        else if (dice % 8 < 6)
            out[i].what = APPEND;
        if (dice % 56 < 8)                   /* a large body, which is in a file of its own */
            out[i].frame.len += LARGE;
    }
    if (k % 19 == 0)
        out[0].what = PURGE;
    return n;
}

static void model_go_on(struct model *model)
{
    struct action actions[4];
    size_t n = actions_of(++model->flushes, actions);
    for (size_t i = 0; i < n; i++) {
        const struct action *a = &actions[i];
        if (a->what == APPEND)
            model->frames[model->n_frames++] = a->frame;
        else if (a->what != PURGE)
            model->values[a->key] = a->what == PUT ? a->value : (struct value){0};
        for (uint64_t f = 0; a->what == PURGE && f < model->n_frames; f++)
            model->frames[f].gone |= model->frames[f].batch == a->frame.batch;
    }
}

/* ---- the child ---- */

struct child {
    struct world world;
    const char *record;
    uint32_t handed, told, base;             /* base: flushes of the openings before */
    uint64_t n_frames;
    int64_t step;                            /* of log, until the next checkpoint */
};

static void mark(const struct child *child, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void mark(const struct child *child, const char *format, ...)
{
    char text[100];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (powercut_mark(child->record, text, (size_t)len) < 0)
        abort();
}

static void child_committed(void *arg, uint64_t sequence)
{
    struct child *child = arg;
    child->told = child->base + (uint32_t)sequence;
    mark(child, "told %u", child->told);
    loop_stop(child->world.loop);
}

static void child_full(void *arg, bool is_full)
{
    struct child *child = arg;
    world_full(&child->world, is_full);
}

static void child_failed(void *arg, const char *sentence)
{
    (void)arg;
    fprintf(stderr, "the store failed: %s\n", sentence);
    abort();
}

static void child_open(struct child *child)
{
    char id[33];
    child->base = child->handed;
    child->step = STEP;
    if (!world_try(&child->world)) {
        fprintf(stderr, "%s\n", child->world.why.text);
        abort();
    }
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", store_id(child->world.store)[i]);
    mark(child, "id %s", id);
}

static void must(int rc)
{
    if (rc != 0)
        abort();
}

static void child_append(struct child *child, const struct frame *frame)
{
    static uint8_t bytes[LARGE + BODY_MOST];
    uint64_t number;
    memset(bytes, frame->fill, frame->len);
    struct store_frame row = {.batch = frame->batch, .first = frame->first, .count = frame->count, .kind = frame->fill,
                              .head = {.data = bytes, .len = frame->len < 7 ? frame->len : 7}, .body = {.data = bytes, .len = frame->len}};
    must(store_append(child->world.store, &row, &number));
    must(number != ++child->n_frames);
}

static void child_flush(struct child *child)
{
    struct action actions[4];
    uint8_t bytes[VALUE_MOST];
    char key[20];
    uint32_t k = child->handed + 1;
    struct store *store = child->world.store;
    size_t n = actions_of(k, actions);
    must(store_put(store, "n", &k, sizeof k));
    for (size_t i = 0; i < n; i++) {
        const struct action *a = &actions[i];
        snprintf(key, sizeof key, "key/%02u", a->key);
        memset(bytes, a->value.fill, a->value.len);
        if (a->what == PUT)
            must(store_put(store, key, bytes, a->value.len));
        else if (a->what == DELETE)
            must(store_delete(store, key));
        else if (a->what == APPEND)
            child_append(child, &a->frame);
        else
            must(store_delete_frames(store, a->frame.batch));
    }
    child->handed = k;
    mark(child, "handed %u", k);
    must(store_flush(store) != k - child->base);
}

static void child_wait(struct child *child, uint32_t least)
{
    while (child->told < least)
        must(loop_run(child->world.loop));
}

/* The disk is full for a moment: the reserve goes, and is made again. */
static void child_full_disk(struct child *child)
{
    powercut_full(true);
    child_flush(child);
    while (child->world.n_full == 0)
        must(loop_run(child->world.loop));
    powercut_full(false);
    while (child->world.n_room == 0)
        must(loop_run(child->world.loop));
    child_wait(child, child->handed);
}

static void on_pause(void *arg)
{
    loop_stop(((struct child *)arg)->world.loop);
}

/* A log is begun anew only when a checkpoint has all of it: there is none while commits don't pause. */
static void child_let_checkpoint(struct child *child)
{
    struct loop_timer pause = {.fire = on_pause, .arg = child};
    int64_t size = world_file_size(&child->world, "journal.db-wal"), frames = (size - 32) / (PAGE + 24);
    if (frames * PAGE < child->step)
        return;
    child->step += STEP;
    unsigned before = powercut_synced();
    for (mono_t until = mono_add(mono_now(), 2 * NS_PER_S); powercut_synced() == before && mono_before(mono_now(), until);) {
        loop_timer_set(child->world.loop, &pause, mono_add(mono_now(), NS_PER_MS));
        must(loop_run(child->world.loop));
    }
}

static int run_child(const char *dir, const char *record)
{
    static struct child child;
    is_child = true;
    child.record = record;
    snprintf(child.world.dir, sizeof child.world.dir, "%s", dir);
    child.world.loop = loop_new();
    child.world.config = (struct store_config){.dir = dir, .role = "journal", .version = 1, .committed = child_committed,
                                               .full = child_full, .failed = child_failed, .arg = &child};
    alarm(60);
    child_open(&child);
    while (child.handed < FLUSHES) {
        if (child.handed == FULL_AT)
            child_full_disk(&child);
        child_flush(&child);
        /* Some flushes wait for each other, some are committed together. */
        if (mix(child.handed) % 3 > 0) {
            child_wait(&child, child.handed);
            child_let_checkpoint(&child);
        }
        if (child.handed % REOPEN_EVERY == 0) {
            child_wait(&child, child.handed);
            store_close(&child.world.store, BOUND);
            child_open(&child);
        }
    }
    child_wait(&child, FLUSHES);
    store_close(&child.world.store, BOUND);
    loop_destroy(&child.world.loop);
    return 0;
}

/* ---- the record ---- */

static char *const *environment_with(const char *const *more)
{
    static char *all[500];
    size_t n = 0;
    for (; *more; more++)
        all[n++] = (char *)(uintptr_t)*more;
    for (char **e = environ; *e && n < 499; e++)
        if (strncmp(*e, "ASAN_OPTIONS=", 13) != 0 && strncmp(*e, "LD_PRELOAD=", 11) != 0)
            all[n++] = *e;
    all[n] = NULL;
    return all;
}

static char *printed(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *printed(const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    assert_true(n >= 0);
    return text;
}

/* One record for all tests. */
static struct world *the_world;
static char record_path[100];

static int make_record(void **state)
{
    (void)state;
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    char *folder = printed("%s", self);
    *strrchr(folder, '/') = '\0';
    the_world = world_prepare();
    snprintf(record_path, sizeof record_path, "%s/record", the_world->top);
    const char *asan = getenv("ASAN_OPTIONS");
    char *dir = printed("POWERCUT_DIR=%s", the_world->dir), *record = printed("POWERCUT_LOG=%s", record_path);
    char *preload = printed("LD_PRELOAD=%s/../powercut.so", folder), *options = printed("ASAN_OPTIONS=%s:verify_asan_link_order=0", asan ? asan : "");
    const char *const more[] = {dir, record, preload, options, "POWERCUT_LABEL=store", NULL};
    char *argv[] = {self, (char *)(uintptr_t)"child", the_world->dir, record_path, NULL};
    pid_t pid;
    int status = 0;
    assert_int_equal(posix_spawn(&pid, self, NULL, NULL, argv, environment_with(more)), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    free(dir), free(record), free(preload), free(options), free(folder);
    world_remove_files(the_world);
    assert_int_equal(rmdir(the_world->dir), 0);
    return 0;
}

static int drop_record(void **state)
{
    (void)state;
    unlink(record_path);
    world_end(the_world);
    return 0;
}

/* ---- after the cut ---- */

/* What had been said when the power went. */
struct said { uint32_t told, handed; char id[33]; };

static void hear(const struct powercut *cut, size_t at, struct said *said)
{
    size_t len;
    char text[100];
    if (powercut_kind(cut, at) != POWERCUT_MARK)
        return;
    const char *data = powercut_text(cut, at, &len);
    snprintf(text, sizeof text, "%.*s", (int)len, data);
    (void)(sscanf(text, "told %u", &said->told) == 1 || sscanf(text, "handed %u", &said->handed) == 1 || sscanf(text, "id %32s", said->id));
}

struct reader { const struct model *model; uint32_t n_values, flushes; struct why why; };

static int read_flushes(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct reader *reader = arg;
    if (strcmp(key, "n") == 0 && len == sizeof reader->flushes)
        memcpy(&reader->flushes, value, len);
    return 0;
}

static int read_value(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct reader *reader = arg;
    uint32_t i;
    if (strcmp(key, "n") == 0 || strcmp(key, "again") == 0)
        return 0;
    if (sscanf(key, "key/%u", &i) != 1 || i >= KEYS || !reader->model->values[i].there)
        return why_set(&reader->why, "the record %s is there after flush %u", key, reader->model->flushes);
    const struct value *wanted = &reader->model->values[i];
    bool same = len == wanted->len;
    for (size_t b = 0; same && b < len; b++)
        same = value[b] == wanted->fill;
    reader->n_values++;
    return same ? 0 : why_set(&reader->why, "the record %s isn't that of flush %u", key, reader->model->flushes);
}

static bool same_bytes(const struct slice *slice, uint8_t fill, size_t len)
{
    bool same = slice->len == len;
    for (size_t i = 0; same && i < len; i++)
        same = slice->data[i] == fill;
    return same;
}

/* The frames of a batch are exactly those of the model. */
static int judge_frames(struct world *world, const struct model *model, uint64_t batch, struct why *why)
{
    static struct got got;
    world_look(world, &(struct store_query){.batch = batch, .max_rows = 300, .max_bytes = SIZE_MAX / 2}, &got);
    if (got.damaged)
        return why_set(why, "%s", got.damage);
    size_t at = 0;
    for (uint64_t f = 0; f < model->n_frames; f++) {
        const struct frame *wanted = &model->frames[f];
        if (wanted->batch != batch || wanted->gone)
            continue;
        const struct store_frame *row = &got.frames[at];
        if (at++ >= got.n)
            return why_set(why, "frame %" PRIu64 " of flush %u or before is missing", f + 1, model->flushes);
        if (row->number != f + 1 || row->first != wanted->first || row->count != wanted->count || row->kind != wanted->fill ||
            !same_bytes(&row->body, wanted->fill, wanted->len) || !same_bytes(&row->head, wanted->fill, wanted->len < 7 ? wanted->len : 7))
            return why_set(why, "frame %" PRIu64 " has other bytes than at flush %u", f + 1, model->flushes);
    }
    return at == got.n ? 0 : why_set(why, "batch %" PRIu64 " has %zu frames where %zu are right after flush %u", batch, got.n, at, model->flushes);
}

static int judge_content(struct world *world, const struct said *said, uint32_t *ret_flushes, struct why *why)
{
    static struct model model;
    struct reader reader = {.model = &model};
    memset(&model, 0, sizeof model);
    if (store_check(world->store, why) < 0 || store_load(world->store, "n", read_flushes, &reader, why) < 0)
        return -1;
    if (reader.flushes < said->told || reader.flushes > said->handed)
        return why_set(why, "it is as after flush %u, where %u were told to be on disk and %u begun", reader.flushes, said->told, said->handed);
    while (model.flushes < reader.flushes)
        model_go_on(&model);
    if (store_load(world->store, "", read_value, &reader, &reader.why) < 0) {
        *why = reader.why;
        return -1;
    }
    uint32_t wanted = 0;
    for (int i = 0; i < KEYS; i++)
        wanted += model.values[i].there;
    if (wanted != reader.n_values)
        return why_set(why, "%u records are there of %u, after flush %u", reader.n_values, wanted, model.flushes);
    for (uint64_t batch = 1; batch <= BATCHES; batch++)
        if (judge_frames(world, &model, batch, why) < 0)
            return -1;
    *ret_flushes = reader.flushes;
    return 0;
}

static int open_again(struct world *world, const struct said *said, struct why *why)
{
    char id[33];
    if (!world_try(world)) {
        *why = world->why;
        return -1;
    }
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", store_id(world->store)[i]);
    return said->id[0] == '\0' || strcmp(id, said->id) == 0 ? 0 : why_set(why, "the store has another id than the one that was told");
}

/* Incremental vacuum is a property of the file that can't be given to it later: SQLite's header, byte 64. */
static int judge_header(const struct world *world, struct why *why)
{
    uint8_t header[100] = {0};
    int fd = open(world_path(world, "journal.db"), O_RDONLY | O_CLOEXEC);
    ssize_t n = pread(fd, header, sizeof header, 0);
    close(fd);
    return n == sizeof header && header[16] == 0x40 && header[67] == 1 ? 0 : why_set(why, "the file lost its page size or its vacuum");
}

/* 0: everything is right; else why. */
static int judge(struct world *world, const struct said *said, struct why *why)
{
    uint32_t flushes, again = 0;
    if (open_again(world, said, why) < 0 || judge_content(world, said, &flushes, why) < 0)
        return -1;
    /* Going on from it. */
    uint64_t number = world_append(world, 100, 7, 1, 3000, 9);
    store_put(world->store, "again", "yes", 3);
    uint64_t sequence = store_flush(world->store);
    wait_until(world, world->committed >= sequence || world->n_failed);
    if (world->n_failed)
        return why_set(why, "%s", world->sentence);
    world_close(world);
    if (judge_header(world, why) < 0 || open_again(world, said, why) < 0 || judge_content(world, said, &again, why) < 0)
        return -1;
    if (again != flushes || world_count(world, 100) != 1 || number == 0)
        return why_set(why, "what was written after the cut is not there");
    return 0;
}

static void litter(const struct world *world, uint64_t seed)
{
    static uint8_t noise[32768];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)mix(seed + i);
    int fd = open(world_path(world, "journal.db-shm"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, noise, sizeof noise), sizeof noise);
    close(fd);
}

/* Rebuilds the folder as it could be before entry `at`, and judges it. */
static int cut_at(struct powercut *cut, const struct said *said, enum powercut_how how, uint64_t seed, struct why *why)
{
    struct world *world = the_world;
    assert_int_equal(mkdir(world->dir, 0700), 0);
    assert_int_equal(powercut_rebuild(cut, "store", world->dir, how, seed), 0);
    if (seed % 4 == 0)
        litter(world, seed);                 /* the wal-index is no part of the record: it may be anything, or missing */
    int result = judge(world, said, why);
    store_close(&world->store, 0);
    world->n_failed = 0;
    world_remove_files(world);
    unlink(world_path(world, "journal.db-journal"));
    assert_int_equal(rmdir(world->dir), 0);
    return result;
}

/* ---- the tests ---- */

static uint64_t number_of(const char *name, uint64_t preset)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : preset;
}

static bool is_sync(const struct powercut *cut, size_t at)
{
    return powercut_kind(cut, at) == POWERCUT_SYNC || powercut_kind(cut, at) == POWERCUT_SYNCED;
}

/* Which syncs are looked at: all of the file's making, those after each start and restart of a log and each
 * removal of a file, and a sample of the others. */
static uint8_t *choose(const struct powercut *cut, uint64_t seed, size_t *ret_syncs)
{
    size_t n = powercut_entries(cut), syncs = 0, near = 36, len;
    uint64_t offset, wanted = number_of("CUTS", CUTS_DEFAULT);
    uint8_t *chosen = test_calloc(n, 1);
    for (size_t at = 0; at < n; at++)
        syncs += is_sync(cut, at);
    for (size_t at = 0; at < n; at++) {
        if ((powercut_is_write(cut, at, "-wal", &offset, &len) && offset == 0) || powercut_kind(cut, at) == POWERCUT_UNLINK)
            near = near > 4 ? near : 4;
        if (!is_sync(cut, at))
            continue;
        chosen[at] = near > 0 || wanted == 0 || mix(seed ^ mix(at)) % syncs < 2 * wanted;
        near -= near > 0;
    }
    *ret_syncs = syncs;
    return chosen;
}

static void complain(uint64_t seed, size_t at, int how, const struct said *said, const struct why *why)
{
    static const char *const names[POWERCUT_HOWS] = {"lost", "all", "some", "torn"};
    print_error("SEED=%" PRIu64 " entry %zu, unsynced %s, told %u: %s\n", seed, at, names[how], said->told, why->text);
}

static void what_was_told_is_there_after_a_power_cut(void **state)
{
    (void)state;
    uint64_t seed = number_of("SEED", (uint64_t)wall_now().ns % 100000);
    struct powercut *cut = powercut_open(record_path);
    struct said said = {0};
    size_t cuts = 0, bad = 0, syncs;
    assert_non_null(cut);
    uint8_t *chosen = choose(cut, seed, &syncs);
    for (size_t at = 0; at < powercut_entries(cut); at++) {
        hear(cut, at, &said);
        /* Before a sync, in it (everything but its end has happened), and after it. */
        bool before = chosen[at], after = at > 0 && chosen[at - 1] && powercut_kind(cut, at - 1) == POWERCUT_SYNCED;
        if (!before && !after)
            continue;
        powercut_to(cut, at);
        for (int how = 0; how < POWERCUT_HOWS; how++) {
            struct why why;
            bool wanted = how == POWERCUT_SOME || (after ? how == POWERCUT_LOST : (size_t)how == mix(seed + at) % POWERCUT_HOWS);
            if (!wanted)
                continue;
            cuts++;
            if (cut_at(cut, &said, (enum powercut_how)how, mix(seed + at + (uint64_t)how), &why) < 0 && bad++ < 10)
                complain(seed, at, how, &said, &why);
        }
    }
    print_message("# SEED=%" PRIu64 ": %zu cuts at %zu of %zu entries of the record, %zu of them syncs\n", seed, cuts, cuts, powercut_entries(cut), syncs);
    assert_true(cuts > 100);
    assert_int_equal(bad, 0);
    test_free(chosen);
    powercut_close(&cut);
}

/* The record has what the test is about. */
static void the_workload_does_everything(void **state)
{
    (void)state;
    struct powercut *cut = powercut_open(record_path);
    size_t logs = 0, checkpoints = 0, large = 0, holes = 0, truncations = 0, reserves_gone = 0, len, text_len;
    uint64_t offset;
    assert_non_null(cut);
    for (size_t at = 0; at < powercut_entries(cut); at++) {
        logs += powercut_is_write(cut, at, "-wal", &offset, &len) && offset == 0;
        checkpoints += powercut_is_write(cut, at, "journal.db", &offset, &len);
        if (powercut_is_write(cut, at, "journal.db-bulk", &offset, &len) && len > 0)
            *(*powercut_text(cut, at, &text_len) ? &large : &holes) += 1;
        truncations += powercut_kind(cut, at) == POWERCUT_TRUNCATE;
        const char *text = powercut_text(cut, at, &text_len);
        reserves_gone += powercut_kind(cut, at) == POWERCUT_UNLINK && memcmp(text + text_len - 7, "reserve", 7) == 0;
    }
    powercut_close(&cut);
    assert_true(logs > FLUSHES / REOPEN_EVERY + 1);      /* begun anew within one opening too */
    assert_true(checkpoints > 100);
    assert_true(large > 40);
    assert_true(holes > 10);
    assert_true(truncations > 0);
    assert_int_equal(reserves_gone, 1);
}

/* The test can fail: on a disk that drops syncs the losses are seen, and the folder's own sync is needed too. */
static void assert_caught(enum powercut_lie lie)
{
    struct powercut *cut = powercut_open(record_path);
    struct said said = {0};
    struct why why = {""};
    assert_non_null(cut);
    powercut_lie(cut, lie);
    size_t end = powercut_entries(cut) / 2;
    for (size_t at = 0; at < end; at++)
        hear(cut, at, &said);
    powercut_to(cut, end);
    assert_true(said.told > 0);
    assert_int_equal(cut_at(cut, &said, POWERCUT_LOST, 1, &why), -1);
    assert_non_null(strstr(why.text, "another id"));
    powercut_close(&cut);
}

static void a_disk_that_drops_syncs_is_caught(void **state)
{
    (void)state;
    assert_caught(POWERCUT_NO_SYNC);
}

static void a_folder_that_is_not_synced_is_caught(void **state)
{
    (void)state;
    assert_caught(POWERCUT_NO_FOLDER_SYNC);
}

static void a_folder_that_cant_be_synced_is_refused(void **state)
{
    struct world *world = the_world;
    (void)state;
    world_open(world);
    world_close(world);
    sync_error = EIO;
    assert_null(world_try(world));
    sync_error = EINVAL;                     /* a file system that has no such thing */
    struct store *store = world_try(world);
    sync_error = 0;
    assert_int_equal(world->refusal, STORE_DISK);
    assert_non_null(strstr(world->why.text, world->dir));
    assert_non_null(strstr(world->why.text, strerror(EIO)));
    assert_non_null(store);
    world_close(world);
    world_remove_files(world);
    assert_int_equal(rmdir(world->dir), 0);
}

/* ---- the tool ---- */

static int rebuild(int argc, char **argv)
{
    struct powercut *cut = powercut_open(argv[0]);
    if (!cut)
        return 1;
    size_t at = strtoull(argv[1], NULL, 10);
    for (size_t i = 0; i < at && i < powercut_entries(cut); i++) {
        size_t len;
        const char *text = powercut_text(cut, i, &len);
        if (powercut_kind(cut, i) == POWERCUT_MARK)
            printf("%.*s\n", (int)len, text);
    }
    powercut_to(cut, at);
    int rc = 0;
    for (int i = 4; i + 1 < argc && rc == 0; i += 2)
        rc = powercut_rebuild(cut, argv[i], argv[i + 1], (enum powercut_how)strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    powercut_close(&cut);
    return rc < 0 || fflush(stdout) != 0;
}

static int mark_lines(const char *record)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = getline(&line, &room, stdin)) > 0)
        rc = powercut_mark(record, line, (size_t)n - (line[n - 1] == '\n'));
    free(line);
    return rc < 0;
}

static int count(const char *record)
{
    struct powercut *cut = powercut_open(record);
    if (!cut)
        return 1;
    printf("%zu\n", powercut_entries(cut));
    powercut_close(&cut);
    return 0;
}

static int tool(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "child") == 0)
        return run_child(argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "count") == 0)
        return count(argv[2]);
    if (argc == 4 && strcmp(argv[1], "mark") == 0)
        return powercut_mark(argv[2], argv[3], strlen(argv[3])) < 0;
    if (argc == 3 && strcmp(argv[1], "mark-lines") == 0)
        return mark_lines(argv[2]);
    if (argc >= 8 && strcmp(argv[1], "rebuild") == 0)
        return rebuild(argc - 2, argv + 2);
    fputs("test_powercut: see the top of its source for what it can do\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_workload_does_everything),
        cmocka_unit_test(what_was_told_is_there_after_a_power_cut),
        cmocka_unit_test(a_disk_that_drops_syncs_is_caught),
        cmocka_unit_test(a_folder_that_is_not_synced_is_caught),
        cmocka_unit_test(a_folder_that_cant_be_synced_is_refused),
    };
    return argc > 1 ? tool(argc, argv) : cmocka_run_group_tests(tests, make_record, drop_record);
}
