/* Templates of command lines. The table of paths is what GNU parallel 20221122 prints for them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tarmac/template.h"

static struct template *parse(const char *const *words, size_t n, bool pipe)
{
    struct template *template = NULL;
    struct why why = {""};
    if (template_parse(words, n, pipe, &template, &why) != 0)
        fail_msg("%s", why.text);
    return template;
}

#define PARSE(pipe, ...) \
    parse((const char *const[]){__VA_ARGS__}, sizeof (const char *const[]){__VA_ARGS__} / sizeof(char *), pipe)

/* Expands for one item and compares all words, joined by '|'. */
static void check(struct template *template, const char *item, uint64_t index, unsigned slot, const char *expected)
{
    struct template_line line = {0};
    struct why why = {""};
    struct template_task task = {item, strlen(item), index, slot};
    char joined[512] = "";
    assert_int_equal(template_expand(template, &task, 0, &line, &why), 0);
    size_t at = 0;
    for (size_t i = 0; i < line.argc; i++)
        at += (size_t)snprintf(joined + at, sizeof joined - at, "%s%s", i ? "|" : "", line.argv[i]);
    assert_null(line.argv[line.argc]);
    assert_string_equal(joined, expected);
    assert_string_equal(why.text, "");
    template_line_clear(&line);
    template_destroy(&template);
}

static void test_paths(void **state)
{
    static const struct { const char *item, *stem, *base, *folder, *base_stem; } rows[] = {
        {"a.b", "a", "a.b", ".", "a"},
        {".bashrc", "", ".bashrc", ".", ""},
        {"foo.", "foo", "foo.", ".", "foo"},
        {"a.b.c", "a.b", "a.b.c", ".", "a.b"},
        {"dir.d/file", "dir.d/file", "file", "dir.d", "file"},
        {"dir.d/f.x", "dir.d/f", "f.x", "dir.d", "f"},
        {"x/.hid", "x/", ".hid", "x", ""},
        {"a/b/", "a/b/", "", "a", ""},
        {"/", "/", "", "/", ""},
        {"//", "//", "", "/", ""},
        {"//a", "//a", "a", "/", "a"},
        {"a//b", "a//b", "b", "a", "b"},
        {"/a", "/a", "a", "/", "a"},
        {"a/", "a/", "", ".", ""},
        {"///", "///", "", "/", ""},
        {"", "", "", ".", ""},
        {"a b.c", "a b", "a b.c", ".", "a b"},
        {"./x.y", "./x", "x.y", ".", "x"},
        {"../x", "../x", "x", "..", "x"},
        {"..", ".", "..", ".", "."},
        {".", "", ".", ".", ""},
        {"a/..", "a/.", "..", "a", "."},
        {"a/b.c/", "a/b.c/", "", "a", ""},
        {"..x", ".", "..x", ".", "."},
        {"x..", "x.", "x..", ".", "x."},
        {"/usr/lib/libm.so.6", "/usr/lib/libm.so", "libm.so.6", "/usr/lib", "libm.so"},
        {"a//b//", "a//b//", "", "a", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char expected[256];
        snprintf(expected, sizeof expected, "c|%s|%s|%s|%s|%s", rows[i].item, rows[i].stem, rows[i].base,
                 rows[i].folder, rows[i].base_stem);
        check(PARSE(false, "c", "{}", "{.}", "{/}", "{//}", "{/.}"), rows[i].item, 0, 1, expected);
    }
}

static void test_inside_words(void **state)
{
    (void)state;
    check(PARSE(false, "convert", "{}", "-o{//}/out/{/.}.png", "n{#}s{%}"), "in/a.jpg", 6, 3,
          "convert|in/a.jpg|-oin/out/a.png|n7s3");
    check(PARSE(false, "{}"), "ls", 0, 1, "ls");
    check(PARSE(false, "a{}{}b{}"), "x", 0, 1, "axxbx");
    check(PARSE(false, "c", "{}", "", "{}"), "", 0, 1, "c|||");
    check(PARSE(false, "c", "{#}", "{}"), "x", UINT64_MAX - 1, 1, "c|18446744073709551615|x");
    /* Bytes that a shell would take for its own stay as they are, in one word. */
    check(PARSE(false, "c", "{}"), "a; rm -rf $HOME \"'`\n*", 0, 1, "c|a; rm -rf $HOME \"'`\n*");
    /* What comes out of an item is not looked at again. */
    check(PARSE(false, "c", "{}", "{.}"), "{#}.{%}", 0, 1, "c|{#}.{%}|{#}");
}

static void test_other_braces(void **state)
{
    (void)state;
    check(PARSE(false, "c", "{x}", "{", "}", "{ }", "{1}", "{..}", "{///}", "{}"), "i", 0, 1,
          "c|{x}|{|}|{ }|{1}|{..}|{///}|i");
    check(PARSE(false, "c", "{{}}", "{}}", "{{{.}"), "i.j", 0, 1, "c|{i.j}|i.j}|{{i");
    check(PARSE(false, "awk", "{ print $1 }", "{"), "i", 0, 1, "awk|{ print $1 }|{|i");
}

static void test_appended(void **state)
{
    (void)state;
    check(PARSE(false, "echo"), "x", 0, 1, "echo|x");
    check(PARSE(false, "echo", "a", "{x}"), "x y", 0, 1, "echo|a|{x}|x y");
    /* The number and the slot don't take the item. */
    check(PARSE(false, "echo", "{#}", "{%}"), "x", 4, 2, "echo|5|2|x");
    check(PARSE(false, "echo", "{//}"), "x", 0, 1, "echo|.");
}

static void test_pipe(void **state)
{
    (void)state;
    check(PARSE(true, "wc"), "x", 0, 1, "wc");
    check(PARSE(true, "wc", "{#}"), "x", 1, 1, "wc|2");
    check(PARSE(true, "wc", "{}"), "x", 0, 1, "wc|x");
    struct template *plain = PARSE(true, "wc", "{%}"), *takes = PARSE(true, "wc", "{/}");
    assert_false(template_takes_item(plain));
    assert_true(template_takes_item(takes));
    template_destroy(&plain);
    template_destroy(&takes);
    template_destroy(&takes);
}

static void test_nul(void **state)
{
    struct template *takes = PARSE(false, "echo"), *pipe = PARSE(true, "wc", "{#}");
    struct template_line line = {0};
    struct why why = {""};
    struct template_task task = {"a\0b", 3, 7, 1};
    (void)state;
    assert_int_equal(template_expand(takes, &task, 0, &line, &why), -EINVAL);
    assert_string_equal(why.text, "argument of task 7 has a NUL byte: use --pipe");
    assert_null(line.argv);
    assert_int_equal(template_expand(pipe, &task, 0, &line, &why), 0);
    assert_string_equal(line.argv[1], "8");
    template_line_clear(&line);
    template_destroy(&takes);
    template_destroy(&pipe);
}

static void test_too_long(void **state)
{
    struct template *once = PARSE(false, "c", "-x{}"), *twice = PARSE(false, "c", "{}{}");
    struct template_line line = {0};
    struct why why = {""};
    size_t size = TEMPLATE_WORD_MOST;
    char *item = malloc(size);
    (void)state;
    assert_non_null(item);
    memset(item, 'i', size);
    struct template_task task = {item, size - 3, 9, 1};
    assert_int_equal(template_expand(once, &task, 0, &line, &why), 0);
    assert_int_equal(strlen(line.argv[1]), TEMPLATE_WORD_MOST - 1);
    task.len++;
    assert_int_equal(template_expand(once, &task, 0, &line, &why), -E2BIG);
    assert_non_null(strstr(why.text, "word 1 of the command line of task 9"));
    /* The line is as it was. */
    assert_int_equal(strlen(line.argv[1]), TEMPLATE_WORD_MOST - 1);
    task.len = size / 2;
    assert_int_equal(template_expand(twice, &task, 0, &line, &why), -E2BIG);
    task.len--;
    assert_int_equal(template_expand(twice, &task, 0, &line, &why), 0);
    free(item);
    template_line_clear(&line);
    template_destroy(&once);
    template_destroy(&twice);
}

static void test_line_too_long(void **state)
{
    struct template *template = PARSE(false, "c", "{}", "{}");
    struct template_line line = {0};
    struct why why = {""};
    struct template_task task = {"1234567890", 10, 2, 1};
    size_t exact = 4 * sizeof(char *) + 2 + 11 + 11;
    (void)state;
    assert_int_equal(template_expand(template, &task, exact, &line, &why), 0);
    assert_int_equal(template_expand(template, &task, exact - 1, &line, &why), -E2BIG);
    assert_non_null(strstr(why.text, "task 2 would be too long"));
    template_line_clear(&line);
    template_destroy(&template);

    /* Many placeholders of a large item: the sum stops at the limit. */
    const char *words[40];
    for (size_t i = 0; i < 40; i++)
        words[i] = "{}";
    template = parse(words, 40, false);
    char *item = calloc(1, 100000);
    assert_non_null(item);
    memset(item, 'i', 100000);
    task = (struct template_task){item, 100000, 0, 1};
    assert_int_equal(template_expand(template, &task, 0, &line, &why), -E2BIG);
    assert_int_equal(template_expand(template, &task, SIZE_MAX, &line, &why), -E2BIG);
    free(item);
    template_destroy(&template);
}

static void test_refused(void **state)
{
    const char *none[] = {""}, *long_word[] = {"c", NULL};
    struct template *template = NULL;
    struct why why = {""};
    (void)state;
    assert_int_equal(template_parse(none, 0, false, &template, &why), -1);
    assert_int_equal(template_parse(none, 1, false, &template, &why), -1);
    assert_non_null(strstr(why.text, "the command line is empty"));
    char *word = malloc(TEMPLATE_WORD_MOST + 1);
    assert_non_null(word);
    memset(word, 'x', TEMPLATE_WORD_MOST);
    word[TEMPLATE_WORD_MOST] = '\0';
    long_word[1] = word;
    assert_int_equal(template_parse(long_word, 2, false, &template, &why), -1);
    assert_non_null(strstr(why.text, "too long at its word 1"));
    assert_null(template);
    /* As long as may be, and full of placeholders. */
    memset(word, '{', TEMPLATE_WORD_MOST - 1);
    for (size_t i = 1; i < TEMPLATE_WORD_MOST - 1; i += 2)
        word[i] = '}';
    word[TEMPLATE_WORD_MOST - 2] = 'x';
    word[TEMPLATE_WORD_MOST - 1] = '\0';
    template = parse(long_word, 2, false);
    free(word);
    template_destroy(&template);
}

/* One line serves many tasks, and grows only. */
static void test_used_again(void **state)
{
    struct template *template = PARSE(false, "c", "{}");
    struct template_line line = {0};
    struct why why = {""};
    char item[200];
    (void)state;
    memset(item, 'i', sizeof item);
    for (size_t len = sizeof item; len-- > 0; ) {
        struct template_task task = {item, len, len, 1};
        void *block = line.block;
        assert_int_equal(template_expand(template, &task, 0, &line, &why), 0);
        assert_int_equal(strlen(line.argv[1]), len);
        if (block)
            assert_ptr_equal(line.block, block);
    }
    template_line_clear(&line);
    template_line_clear(&line);
    template_destroy(&template);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_inside_words),
        cmocka_unit_test(test_other_braces),
        cmocka_unit_test(test_appended),
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_line_too_long),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
