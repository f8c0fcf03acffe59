/* Item sources: each kind from words, files and pipes; what is refused, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tarmac/base64.h"
#include "tarmac/items.h"

struct place {
    char dir[64], file[96];
};

static int enter(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    snprintf(p->dir, sizeof p->dir, "/tmp/test_items.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->file, sizeof p->file, "%s/input", p->dir);
    *state = p;
    return 0;
}

static int leave(void **state)
{
    struct place *p = *state;
    unlink(p->file);
    assert_int_equal(rmdir(p->dir), 0);
    free(p);
    return 0;
}

static void put(const struct place *p, const void *bytes, size_t len)
{
    FILE *f = fopen(p->file, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static struct items *open_items(const struct items_spec *spec)
{
    struct why why = {""};
    struct items *items = items_new(NULL, spec, NULL, NULL, &why);
    if (!items)
        fail_msg("%s", why.text);
    return items;
}

/* All that is left, as "[item][item]", or "BAD: sentence" behind it. */
static void read_all(struct items *items, char *out, size_t size)
{
    struct item item;
    struct why why = {""};
    size_t n = 0;
    enum items_result r;
    out[0] = '\0';
    while ((r = items_next(items, &item, &why)) == ITEMS_ITEM || r == ITEMS_MORE)
        if (r == ITEMS_ITEM)
            n += (size_t)snprintf(out + n, size - n, "[%.*s]", (int)item.payload.len, (const char *)item.payload.data);
    if (r == ITEMS_BAD)
        snprintf(out + n, size - n, "BAD: %s", why.text);
    else
        assert_int_equal(r, ITEMS_END);
    assert_int_equal(items_next(items, &item, &why), r);    /* It stays so. */
}

static void expect_file(const struct place *p, struct items_spec spec, const void *bytes, size_t len, const char *expected)
{
    char got[4096];
    put(p, bytes, len);
    spec.path = p->file;
    struct items *items = open_items(&spec);
    read_all(items, got, sizeof got);
    assert_string_equal(got, expected);
    items_destroy(&items);
    assert_null(items);
}

#define LINES(text, expected) expect_file(*state, (struct items_spec){.kind = ITEMS_LINES, .separator = '\n'}, text, sizeof text - 1, expected)

static void lines(void **state)
{
    LINES("", "");
    LINES("a", "[a]");
    LINES("a\n", "[a]");
    LINES("a b\nc\n\nd", "[a b][c][][d]");
    LINES("\n", "[]");
    expect_file(*state, (struct items_spec){.kind = ITEMS_LINES, .separator = '\0'}, "a\nb\0c", 5, "[a\nb][c]");
}

static void words_and_numbers(void **state)
{
    const char *const words[] = {"one", "", "three"};
    char got[256];
    (void)state;
    struct items *items = open_items(&(struct items_spec){.kind = ITEMS_WORDS, .words = words, .n_words = 3});
    read_all(items, got, sizeof got);
    assert_string_equal(got, "[one][][three]");
    assert_int_equal(items_given(items), 3);
    items_destroy(&items);
    items = open_items(&(struct items_spec){.kind = ITEMS_RANGE, .first = 9, .count = 3});
    read_all(items, got, sizeof got);
    assert_string_equal(got, "[9][10][11]");
    items_destroy(&items);
}

static void blocks(void **state)
{
    struct items_spec spec = {.kind = ITEMS_BLOCKS, .block_size = 6};
    expect_file(*state, spec, "a\nbb\nccc\n", 9, "[a\nbb\n][ccc\n]");
    expect_file(*state, spec, "a line that is longer\nb\nc", 25, "[a line that is longer\n][b\nc]");
    expect_file(*state, spec, "no end here", 11, "[no end here]");
    expect_file(*state, spec, "", 0, "");
}

static void a_long_line_is_refused_by_number(void **state)
{
    const struct place *p = *state;
    char got[512];
    struct why why = {""};
    put(p, "short\nmuch longer than that\n", 28);
    struct items *items = open_items(&(struct items_spec){.kind = ITEMS_LINES, .separator = '\n', .path = p->file});
    assert_int_equal(items_limit(items, 8, &why), 0);
    read_all(items, got, sizeof got);
    assert_non_null(strstr(got, "[short]BAD: "));
    assert_non_null(strstr(got, p->file));
    assert_non_null(strstr(got, "item 2 has more than 8 bytes"));
    assert_true(items_too_large(items));
    items_destroy(&items);
}

static void files(void **state)
{
    const struct place *p = *state;
    const char *const names[] = {p->file};
    struct why why = {""};
    struct item item;
    put(p, "con\0tent", 8);
    struct items *items = open_items(&(struct items_spec){.kind = ITEMS_FILES, .words = names, .n_words = 1});
    assert_int_equal(items_next(items, &item, &why), ITEMS_ITEM);
    assert_int_equal(item.payload.len, 8);
    assert_memory_equal(item.payload.data, "con\0tent", 8);
    assert_non_null(item.payload.buf);
    assert_int_equal(item.n_values, 1);
    assert_string_equal(item.values[0]->key, "file");
    assert_string_equal(item.values[0]->value, p->file);
    assert_int_equal(items_next(items, &item, &why), ITEMS_END);
    assert_int_equal(items_limit(items, 8, &why), 0);
    assert_int_equal(items_limit(items, 7, &why), -1);
    assert_non_null(strstr(why.text, p->file));
    assert_true(items_too_large(items));
    items_destroy(&items);
}

static void refuses_file(const struct place *p, const char *name, const char *words)
{
    const char *const names[] = {p->file, name};
    struct why why = {""};
    put(p, "x", 1);
    assert_null(items_new(NULL, &(struct items_spec){.kind = ITEMS_FILES, .words = names, .n_words = 2}, NULL, NULL, &why));
    assert_non_null(strstr(why.text, name));
    assert_non_null(strstr(why.text, words));
}

static void files_that_cannot_be_read(void **state)
{
    const struct place *p = *state;
    char absent[128];
    struct why why = {""};
    snprintf(absent, sizeof absent, "%s/absent", p->dir);
    refuses_file(p, absent, "No such file");
    refuses_file(p, p->dir, "folder");
    refuses_file(p, "/dev/null", "regular");
    assert_null(items_new(NULL, &(struct items_spec){.kind = ITEMS_LINES, .path = absent}, NULL, NULL, &why));
    assert_non_null(strstr(why.text, absent));
    assert_null(items_new(NULL, &(struct items_spec){.kind = ITEMS_LINES, .path = p->dir}, NULL, NULL, &why));
}

static void json_lines(void **state)
{
    const struct place *p = *state;
    static const char text[] = "{\"payload\":\"a\\u0000b\"}\n\n{\"payload_base64\":\"/w==\",\"timeout\":\"1.5s\",\"values\":{\"user\":\"ada\"}}\n";
    struct why why = {""};
    struct item item;
    put(p, text, sizeof text - 1);
    struct items *items = open_items(&(struct items_spec){.kind = ITEMS_JSON_LINES, .path = p->file});
    assert_int_equal(items_next(items, &item, &why), ITEMS_ITEM);
    assert_int_equal(item.payload.len, 3);
    assert_memory_equal(item.payload.data, "a\0b", 3);
    assert_int_equal(item.timeout_us, 0);
    assert_int_equal(items_next(items, &item, &why), ITEMS_ITEM);
    assert_int_equal(item.payload.len, 1);
    assert_int_equal(item.payload.data[0], 0xff);
    assert_int_equal(item.timeout_us, 1500000);
    assert_int_equal(item.n_values, 1);
    assert_string_equal(item.values[0]->key, "user");
    assert_string_equal(item.values[0]->value, "ada");
    assert_int_equal(items_next(items, &item, &why), ITEMS_END);
    items_destroy(&items);
}

static void json_that_is_wrong(void **state)
{
    static const struct { const char *line, *words; } cases[] = {
        {"nonsense", "not a JSON object"},
        {"[1]", "not an object"},
        {"{}", "either 'payload' or 'payload_base64'"},
        {"{\"payload\":\"a\",\"payload_base64\":\"\"}", "either"},
        {"{\"payload\":1}", "must be a string"},
        {"{\"payload_base64\":\"a\"}", "not base64"},
        {"{\"payload\":\"a\",\"timeout\":5}", "'timeout' must be a string"},
        {"{\"payload\":\"a\",\"timeout\":\"5x\"}", "'timeout'"},
        {"{\"payload\":\"a\",\"timeout\":\"0\"}", "more than 0"},
        {"{\"payload\":\"a\",\"values\":[]}", "object of strings"},
        {"{\"payload\":\"a\",\"values\":{\"k\":1}}", "'k' must be a string"},
        {"{\"payload\":\"a\",\"values\":{\"1k\":\"v\"}}", "the key '1k'"},
        {"{\"payload\":\"a\",\"surprise\":1}", "no key 'surprise'"},
    };
    const struct place *p = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], got[1024];
        int n = snprintf(text, sizeof text, "{\"payload\":\"first\"}\n%s\n", cases[i].line);
        put(p, text, (size_t)n);
        struct items *items = open_items(&(struct items_spec){.kind = ITEMS_JSON_LINES, .path = p->file});
        read_all(items, got, sizeof got);
        assert_non_null(strstr(got, "[first]BAD: "));
        assert_non_null(strstr(got, "line 2: "));
        if (!strstr(got, cases[i].words))
            fail_msg("'%s' should say '%s': %s", cases[i].line, cases[i].words, got);
        assert_false(items_too_large(items));
        items_destroy(&items);
    }
}

/* ---- pipes, in a loop ---- */

struct reader {
    struct loop *loop;
    struct items *items;
    int ready, saved;
};

static void on_ready(void *arg)
{
    struct reader *r = arg;
    r->ready++;
    loop_stop(r->loop);
}

static void a_pipe_is_waited_for(void **state)
{
    struct reader r = {.loop = loop_new(), .saved = dup(STDIN_FILENO)};
    struct why why = {""};
    struct item item;
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_return_code(dup2(ends[0], STDIN_FILENO), 0);
    r.items = items_new(r.loop, &(struct items_spec){.kind = ITEMS_LINES, .separator = '\n'}, on_ready, &r, &why);
    assert_non_null(r.items);
    assert_int_equal(items_next(r.items, &item, &why), ITEMS_WAIT);
    assert_int_equal(items_next(r.items, &item, &why), ITEMS_WAIT);
    assert_int_equal(write(ends[1], "half", 4), 4);
    assert_int_equal(loop_run(r.loop), 0);
    assert_int_equal(r.ready, 1);
    assert_int_equal(items_next(r.items, &item, &why), ITEMS_WAIT);    /* Not yet a line. */
    assert_int_equal(write(ends[1], " line\nrest", 10), 10);
    assert_int_equal(loop_run(r.loop), 0);
    assert_int_equal(items_next(r.items, &item, &why), ITEMS_ITEM);
    assert_int_equal(item.payload.len, 9);
    assert_memory_equal(item.payload.data, "half line", 9);
    close(ends[1]);
    assert_int_equal(items_next(r.items, &item, &why), ITEMS_ITEM);
    assert_int_equal(item.payload.len, 4);
    assert_int_equal(items_next(r.items, &item, &why), ITEMS_END);
    items_destroy(&r.items);
    loop_destroy(&r.loop);
    dup2(r.saved, STDIN_FILENO);
    close(r.saved);
    close(ends[0]);
}

static void a_long_input_is_read_in_pieces(void **state)
{
    const struct place *p = *state;
    size_t size = 3 * 1024 * 1024, items_seen = 0, bytes = 0;
    char *text = malloc(size);
    struct why why = {""};
    struct item item;
    enum items_result r;
    assert_non_null(text);
    for (size_t i = 0; i < size; i++)
        text[i] = i % 100 == 99 ? '\n' : 'x';
    put(p, text, size);
    free(text);
    struct items *items = open_items(&(struct items_spec){.kind = ITEMS_LINES, .separator = '\n', .path = p->file});
    while ((r = items_next(items, &item, &why)) != ITEMS_END) {
        assert_true(r == ITEMS_ITEM || r == ITEMS_MORE);
        items_seen += r == ITEMS_ITEM;
        bytes += r == ITEMS_ITEM ? item.payload.len : 0;
    }
    assert_int_equal(items_seen, (size + 99) / 100);
    assert_int_equal(bytes + size / 100, size);
    items_destroy(&items);
}

/* ---- base64 ---- */

static void base64(void **state)
{
    static const char *const good[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}};
    static const char *const wrong[] = {"Z", "Zg", "Zg=", "Zg==Zg==", "Zh==", "Zm9=", "Zm 9v", "====", "Zm9v\n", "Z-_v"};
    uint8_t out[16];
    char text[16];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        size_t n = strlen(good[i][0]);
        base64_encode((const uint8_t *)good[i][0], n, text);
        assert_int_equal(base64_len(n), strlen(good[i][1]));
        assert_memory_equal(text, good[i][1], base64_len(n));
        assert_int_equal(base64_decode(good[i][1], strlen(good[i][1]), out), n);
        assert_memory_equal(out, good[i][0], n);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(base64_decode(wrong[i], strlen(wrong[i]), out), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines), TEST(words_and_numbers), TEST(blocks), TEST(a_long_line_is_refused_by_number), TEST(files),
        TEST(files_that_cannot_be_read), TEST(json_lines), TEST(json_that_is_wrong), TEST(a_pipe_is_waited_for),
        TEST(a_long_input_is_read_in_pieces), TEST(base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
