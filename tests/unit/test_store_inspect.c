/* A store looked at from outside: everything is found, nothing is changed, and each kind of damage is told by itself, with
 * the reading going on behind it. */
#include "tests/unit/store_world.h"

#include <sqlite3.h>

#include "common/store_inspect.h"
#include "common/store_sums.h"

struct seen {
    char told[2000];
    unsigned records, frames, damages;
    uint64_t last_number;
};

static void on_record(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct seen *seen = arg;
    assert_true(strncmp(key, "key/", 4) == 0 && len == 5 && memcmp(value, "value", 5) == 0);
    seen->records++;
}

static void on_frame(void *arg, const struct store_frame *frame)
{
    struct seen *seen = arg;
    assert_true(frame->body.len == 3000 && frame->body.data[0] == frame->kind);
    seen->frames++;
    seen->last_number = frame->number;
}

static void on_damage(void *arg, const char *what)
{
    struct seen *seen = arg;
    size_t at = strlen(seen->told);
    assert_null(strchr(what, '\n'));
    snprintf(seen->told + at, sizeof seen->told - at, "%s\n", what);
    seen->damages++;
}

static enum store_refusal look(struct world *world, struct seen *seen, struct store_facts *facts)
{
    memset(seen, 0, sizeof *seen);
    struct store_look look = {.dir = world->dir, .role = "journal", .version = 1, .record = on_record, .frame = on_frame, .damage = on_damage, .arg = seen};
    return store_inspect(&look, facts, &world->why);
}

/* Ten records, twenty frames of four batches. */
static void fill(struct world *world)
{
    char key[20];
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "key/%d", i);
        store_put(world->store, key, "value", 5);
    }
    for (uint8_t i = 0; i < 20; i++)
        world_append(world, 1 + i % 4u, i, 1, 3000, (uint8_t)(i + 1));
    world_commit(world);
}

static void change(struct world *world, const char *text)
{
    sqlite3 *handle = NULL;
    assert_int_equal(sqlite3_open_v2(world_path(world, "journal.db"), &handle, SQLITE_OPEN_READWRITE, sums_layer()), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void assert_told(struct world *world, const char *words, unsigned frames)
{
    struct seen seen;
    struct store_facts facts;
    assert_int_equal(look(world, &seen, &facts), STORE_OK);
    assert_true(facts.damages > 0 && seen.damages > 0);
    if (!strstr(seen.told, words))
        fail_msg("'%s' doesn't say '%s'", seen.told, words);
    assert_int_equal(seen.frames, frames);
}

static void a_sound_one_is_read(void **state)
{
    struct world *world = *state;
    struct seen seen;
    struct store_facts facts;
    uint8_t id[16];
    fill(world);
    store_delete_frames(world->store, 4);
    world_commit(world);
    memcpy(id, store_id(world->store), sizeof id);
    world_close(world);
    int64_t size = world_file_size(world, "journal.db");
    assert_int_equal(look(world, &seen, &facts), STORE_OK);
    assert_int_equal(facts.damages, 0);
    assert_int_equal(seen.records, 10);
    assert_int_equal(seen.frames, 15);
    assert_int_equal(facts.frames, 15);
    assert_int_equal(facts.frame_bytes, 15 * 3005);
    assert_int_equal(facts.file_bytes, size);
    assert_int_equal(facts.log_bytes, 0);
    assert_true(facts.sums && facts.format == 3 && facts.version == 1 && facts.pages == (uint64_t)size / SUMS_PAGE);
    assert_memory_equal(facts.id, id, sizeof id);
    assert_int_equal(world_file_size(world, "journal.db-wal"), -1);
    assert_int_equal(world_file_size(world, "journal.db-shm"), -1);
}

static void one_in_use_is_refused(void **state)
{
    struct world *world = *state;
    struct seen seen;
    struct store_facts facts;
    char pid[40];
    assert_int_equal(look(world, &seen, &facts), STORE_BUSY);
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(world->why.text, pid));
    fill(world);                             /* and it works on */
    world_close(world);
    assert_int_equal(look(world, &seen, &facts), STORE_OK);
    world_open(world);                       /* the lock was given back */
}

static void rows_that_changed_are_told(void **state)
{
    struct world *world = *state;
    fill(world);
    world_close(world);
    change(world, "UPDATE records SET value = 'other' WHERE key = 'key/3'");
    assert_told(world, "the record 'key/3' doesn't match its checksum\n", 20);
    change(world, "UPDATE frames SET body = zeroblob(3000) WHERE number = 7; UPDATE frames SET head = x'00' WHERE number = 9");
    assert_told(world, "frame 7 of batch 3 doesn't match its checksum\n", 18);
    assert_told(world, "frame 9 of batch 1 doesn't match its checksum\n", 18);
    change(world, "UPDATE meta SET value = x'00' WHERE name = 'id'");
    assert_told(world, "its id is missing\n", 18);
    change(world, "UPDATE meta SET value = 'results' WHERE name = 'role'");
    assert_told(world, "the role 'results' and not 'journal'\n", 18);
    change(world, "UPDATE meta SET value = 0 WHERE name = 'next_number'");
    assert_told(world, "makes no sense", 18);
}

/* A row of which no index knows is found by comparing them. */
static void an_index_that_lies_is_told(void **state)
{
    struct world *world = *state;
    fill(world);
    world_close(world);
    change(world, "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'frames_by_number';");
    change(world, "DELETE FROM frames WHERE number = 5;");
    struct seen seen;
    struct store_facts facts;
    assert_int_equal(look(world, &seen, &facts), STORE_OK);
    assert_true(facts.damages > 0);
    assert_non_null(strstr(seen.told, "SQLite's check"));
}

static void a_page_that_changed_is_told(void **state)
{
    struct world *world = *state;
    for (uint8_t i = 0; i < 20; i++)
        world_append(world, 1, i, 1, 3000, (uint8_t)(i + 1));
    world_commit(world);
    world_close(world);
    int fd = open(world_path(world, "journal.db"), O_RDWR | O_CLOEXEC);
    off_t at = (off_t)(world_file_size(world, "journal.db") - SUMS_PAGE + 9000);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
    struct seen seen;
    struct store_facts facts;
    assert_int_equal(look(world, &seen, &facts), STORE_OK);
    assert_true(seen.frames > 0 && seen.frames < 20);      /* the others are read */
    assert_non_null(strstr(seen.told, "doesn't match its checksum"));
    assert_non_null(strstr(seen.told, "can't be read (page "));
}

static void assert_no_store(struct world *world, const char *words)
{
    struct seen seen;
    struct store_facts facts;
    assert_int_equal(look(world, &seen, &facts), STORE_DISK);
    if (!strstr(world->why.text, words) || !strstr(world->why.text, world->dir))
        fail_msg("'%s' doesn't say '%s' and where", world->why.text, words);
}

static void what_cant_be_read_is_refused(void **state)
{
    struct world *world = *state;
    world_close(world);
    change(world, "UPDATE meta SET value = 2 WHERE name = 'version'");
    assert_no_store(world, "records of version 2");
    change(world, "UPDATE meta SET value = 99 WHERE name = 'format'");
    assert_no_store(world, "format 99");
    change(world, "PRAGMA application_id = 7");
    assert_no_store(world, "another program");
    assert_int_equal(truncate(world_path(world, "journal.db"), 100), 0);
    assert_no_store(world, "journal.db");
    unlink(world_path(world, "journal.db"));
    assert_no_store(world, "No such file");
    assert_int_equal(world_file_size(world, "journal.db"), -1);
}

#define OPENED(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OPENED(a_sound_one_is_read),
        OPENED(one_in_use_is_refused),
        OPENED(rows_that_changed_are_told),
        OPENED(an_index_that_lies_is_told),
        OPENED(a_page_that_changed_is_told),
        OPENED(what_cant_be_read_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
