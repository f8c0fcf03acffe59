/* What a worker is told, and what it tells its handlers: words of command lines, options, the environment of an attempt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/command.h"
#include "worker/config.h"
#include "worker/plugin_host.h"
#include "worker/words.h"

/* ---- words ---- */

static void assert_words(const char *line, const char *expected)
{
    const char **words;
    size_t n, len = 0;
    char got[256] = "";
    struct why why = {""};
    if (worker_words_split(line, &words, &n, &why) < 0)
        fail_msg("%s", why.text);
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(got + len, sizeof got - len, "%s[%s]", i ? " " : "", words[i]);
    assert_null(words[n]);
    assert_string_equal(got, expected);
    free(words);
}

static void words_are_cut_at_blanks_and_quotes(void **state)
{
    (void)state;
    assert_words("a", "[a]");
    assert_words("  a \t b\n", "[a] [b]");
    assert_words("sh -c 'echo $0 \"x\"' {}", "[sh] [-c] [echo $0 \"x\"] [{}]");
    assert_words("a\"b c\"d 'e'\"f\"", "[ab cd] [ef]");
    assert_words("\"q\\\"q\" \"b\\\\b\" \"n\\n\"", "[q\"q] [b\\b] [n\\n]");
    assert_words("a\\ b \\'c 'd\\' \\\\", "[a b] ['c] [d\\] [\\]");
    assert_words("'' x \"\"", "[] [x] []");
    assert_words("x\\", "[x\\]");
    assert_words("a b c d e f g h", "[a] [b] [c] [d] [e] [f] [g] [h]");
}

static void bad_command_lines_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "  \t", "a 'b", "a \"b", "a \"b\\\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char **words = NULL;
        size_t n;
        struct why why = {""};
        assert_int_equal(worker_words_split(bad[i], &words, &n, &why), -1);
        assert_null(words);
        assert_string_not_equal(why.text, "");
    }
}

/* ---- options ---- */

#define READ(config, why, ...)                                                                                 \
    read_these((char *[]){(char *)(uintptr_t)"worker", __VA_ARGS__, NULL}, config, why)
#define WORDS(text) (char *)(uintptr_t)(text)

static enum config_result read_these(char **argv, struct worker_config *config, struct why *why)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    why->text[0] = '\0';
    return worker_config_read(argc, argv, stdout, config, why);
}

static void options_are_read(void **state)
{
    (void)state;
    struct worker_config config;
    struct why why;
    char file[] = "/tmp/test_worker_config.XXXXXX";
    int fd = mkstemp(file);
    static const char text[] = "# what we can do\n\n  resize=convert -resize 50% {} 'out {/}'  \r\ncount=wc -c\n";
    assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1);
    close(fd);
    enum config_result result = READ(&config, &why, WORDS("--ventilator=tcp://tower"), WORDS("--name=w1"), WORDS("--slots=7"),
                                     WORDS("--label=disk=fast"), WORDS("--label=zone="), WORDS("--handlers"), file,
                                     WORDS("--handler=greet=echo hello=1 {}"), WORDS("--allow-commands"),
                                     WORDS("--shutdown-timeout=500ms"), WORDS("--log-level=debug"));
    unlink(file);
    if (result != CONFIG_OK)
        fail_msg("%s", why.text);
    assert_string_equal(config.ventilator, "tcp://tower:5556");
    assert_string_equal(config.submit_to, "tcp://tower:5555");
    assert_string_equal(config.sink, "");
    assert_string_equal(config.name, "w1");
    assert_int_equal(config.slots, 7);
    assert_int_equal(config.shutdown_timeout, 500 * NS_PER_MS);
    assert_int_equal(config.log_level, LOG_DEBUG);
    assert_true(config.allow_commands);
    assert_int_equal(config.n_labels, 2);
    assert_string_equal(config.labels[0]->key, "disk");
    assert_string_equal(config.labels[0]->value, "fast");
    assert_string_equal(config.labels[1]->value, "");
    assert_int_equal(config.handlers.n, 3);
    assert_string_equal(config.handlers.list[0].name, "greet");
    assert_string_equal(config.handlers.list[0].command[1], "hello=1");
    assert_string_equal(config.handlers.list[1].name, "resize");
    assert_string_equal(config.handlers.list[1].command[4], "out {/}");
    assert_null(config.handlers.list[1].command[5]);
    assert_string_equal(config.handlers.list[2].name, "count");
    worker_config_release(&config);
}

static void a_worker_has_a_name_and_slots_of_its_own(void **state)
{
    (void)state;
    struct worker_config one, two;
    struct why why;
    assert_int_equal(READ(&one, &why, WORDS("--insecure")), CONFIG_OK);
    assert_int_equal(READ(&two, &why, WORDS("--slots=auto")), CONFIG_OK);
    assert_string_equal(one.ventilator, "tcp://127.0.0.1:5556");
    assert_true(one.slots >= 1 && one.slots == two.slots);
    assert_non_null(strrchr(one.name, '-'));
    worker_config_release(&one);
    worker_config_release(&two);
}

static void bad_options_are_refused_in_words(void **state)
{
    (void)state;
    static const struct { const char *option, *words; } bad[] = {
        {"--slots=0", "--slots"}, {"--slots=70000", "65535"}, {"--ventilator=udp://x", "--ventilator"},
        {"--sink=nowhere:", "--sink"}, {"--label=x", "KEY=VALUE"}, {"--label=1x=y", "--label"}, {"--label=a=\xff", "UTF-8"},
        {"--handler=x", "NAME=COMMAND LINE"}, {"--handler==x", "NAME=COMMAND LINE"}, {"--handler=x=", "empty"},
        {"--handler=x='y", "quote"}, {"--handler=a\nb=c", "control"}, {"--handlers=/nowhere/at/all", "/nowhere/at/all"},
        {"--keys=/nowhere/d", "keygen"}, {"--handler-keys=/nowhere/d", "--handler-keys"}, {"extra", "extra"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct worker_config config;
        struct why why;
        assert_int_equal(READ(&config, &why, WORDS(bad[i].option)), CONFIG_BAD);
        if (!strstr(why.text, bad[i].words))
            fail_msg("'%s' should be named in: %s", bad[i].words, why.text);
    }
    struct worker_config config;
    struct why why;
    assert_int_equal(READ(&config, &why, WORDS("--handler=x=a"), WORDS("--handler=x=b")), CONFIG_BAD);
    assert_non_null(strstr(why.text, "given twice"));
    assert_int_equal(READ(&config, &why, WORDS("--label=q=b"), WORDS("--label=q=c")), CONFIG_BAD);
    assert_non_null(strstr(why.text, "--label q=c: this key was given before"));
}

/* ---- handlers files and limits ---- */

static void write_file(char *path, const char *text)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void a_handlers_file_is_read(void **state)
{
    (void)state;
    struct handlers handlers = {0};
    struct why why = {""};
    char path[] = "/tmp/test_handlers.XXXXXX";
    write_file(path, "\n{\"thumb\": {\"command\": [\"convert\", \"-\", \"a b{}\"], \"limits\": {\"memory\": \"512M\", \"processes\": 8}},\n"
                     " \"line\": {\"command\": \"echo 'x y' {}\", \"kind\": \"command\"},\n"
                     " \"model\": {\"kind\": \"persistent\", \"command\": [\"python3\", \"m.py\"], \"protocol\": \"protobuf\", \"recycle\": 100},\n"
                     " \"fast\": {\"kind\": \"plugin\", \"plugin\": \"/opt/fast.so\", \"argument\": \"a b\", \"recycle\": 9},\n"
                     " \"rock\": {\"kind\": \"persistent\", \"command\": [\"python3\", \"r.py\"], \"recycle\": 0},\n"
                     " \"plain\": {\"plugin\": \"/opt/plain.so\", \"kind\": \"plugin\"}}\n");
    int result = handlers_read_file(&handlers, path, &why);
    unlink(path);
    if (result < 0)
        fail_msg("%s", why.text);
    assert_int_equal(handlers.n, 6);
    assert_int_equal(handlers_limit(&handlers, "memory=1G", &why), 0);
    assert_int_equal(handlers_limit(&handlers, "line:cpu=90s", &why), 0);
    handlers_complete(&handlers, 7);
    struct handler_setup thumb = handlers_setup(&handlers, "thumb"), line = handlers_setup(&handlers, "line"),
                         model = handlers_setup(&handlers, "model"), fast = handlers_setup(&handlers, "fast"), rock = handlers_setup(&handlers, "rock"),
                         ad_hoc = handlers_setup(&handlers, NULL);
    assert_true(thumb.limits.of[LIMIT_MEMORY] == 512u << 20 && thumb.limits.of[LIMIT_PROCESSES] == 8);
    assert_true(line.limits.of[LIMIT_MEMORY] == 1u << 30 && line.limits.of[LIMIT_CPU] == 90 * (uint64_t)NS_PER_S);
    assert_true(ad_hoc.limits.of[LIMIT_MEMORY] == 1u << 30 && ad_hoc.limits.of[LIMIT_CPU] == 0);
    assert_true(model.protobuf && model.recycle == 100 && line.recycle == 7);
    assert_true(fast.protobuf && fast.recycle == 9);
    assert_int_equal(rock.recycle, 0);          /* never, whatever the others do */
    for (size_t i = 0; i < handlers.n; i++) {
        const struct agent_handler *handler = &handlers.list[i];
        bool is_plugin = handler->name[0] == 'f' || handler->name[0] == 'p';
        assert_int_equal(handler->kind, is_plugin ? AGENT_PLUGIN : handler->name[0] == 'm' || handler->name[0] == 'r' ? AGENT_PERSISTENT : AGENT_COMMAND);
        if (is_plugin) {
            assert_string_equal(handler->command[0], PLUGIN_HOST);
            assert_string_equal(handler->command[1], handler->name[0] == 'f' ? "/opt/fast.so" : "/opt/plain.so");
            assert_string_equal(handler->command[2], handler->name[0] == 'f' ? "a b" : "");
            assert_null(handler->command[3]);
        }
        if (strcmp(handler->name, "line") == 0)
            assert_string_equal(handler->command[1], "x y");
        if (strcmp(handler->name, "thumb") == 0)
            assert_string_equal(handler->command[2], "a b{}");
    }
    handlers_release(&handlers);
}

static void bad_handlers_files_are_refused_with_their_line(void **state)
{
    (void)state;
    static const struct { const char *text, *line, *words; } bad[] = {
        {"{\"a\": {\"command\": [\"x\"]},\n \"b\": }", ":2: ", "JSON object"},
        {"{\n\"a\": {\n\"comand\": [\"x\"]}}", ":3 ", "there are command, kind"},
        {"{\n\"a\": {}}", ":2 ", "command is missing"},
        {"{\"a\": {\"command\": []}}", ":1 ", "command is missing"},
        {"{\"a\": {\n\"command\": [\"x\", 3]}}", ":2 ", "no string"},
        {"{\"a\": {\n\"command\": \"x 'y\"}}", ":2 ", "quote"},
        {"{\"a\": 3}", ":1 ", "is an object"},
        {"{\"a\": {\"command\": [\"x\"],\n\"kind\": \"daemon\"}}", ":2 ", "command, persistent or plugin"},
        {"{\"a\": {\"command\": [\"x\"],\n\"recycle\": 3}}", ":2 ", "persistent"},
        {"{\"a\": {\"command\": [\"x\"], \"kind\": \"persistent\",\n\"recycle\": -1}}", ":2 ", "0: never"},
        {"{\"a\": {\"command\": [\"x\"], \"kind\": \"persistent\",\n\"recycle\": true}}", ":2 ", "0: never"},
        {"{\"a\": {\"command\": [\"x\"],\n\"recycle\": 0}}", ":2 ", "persistent"},
        {"{\"a\": {\"command\": [\"x\"], \"kind\": \"persistent\",\n\"protocol\": \"xml\"}}", ":2 ", "json or protobuf"},
        {"{\n\"a\": {\"kind\": \"plugin\"}}", ":2 ", "plugin is missing"},
        {"{\"a\": {\"kind\": \"plugin\",\n\"plugin\": \"x.so\"}}", ":2 ", "whole path"},
        {"{\"a\": {\"kind\": \"plugin\",\n\"plugin\": 3}}", ":2 ", "no string"},
        {"{\"a\": {\"kind\": \"plugin\", \"plugin\": \"/x\",\n\"argument\": []}}", ":2 ", "no string"},
        {"{\"a\": {\"kind\": \"plugin\", \"plugin\": \"/x\",\n\"command\": \"x\"}}", ":2 ", "a plugin has none"},
        {"{\"a\": {\"kind\": \"plugin\", \"plugin\": \"/x\",\n\"protocol\": \"json\"}}", ":2 ", "a plugin has none"},
        {"{\"a\": {\"command\": [\"x\"],\n\"plugin\": \"/x.so\"}}", ":2 ", "\"kind\": \"plugin\""},
        {"{\"a\": {\"command\": [\"x\"],\n\"argument\": \"x\"}}", ":2 ", "\"kind\": \"plugin\""},
        {"{\"a\": {\"command\": [\"x\"], \"limits\":\n {\"disk\": 3}}}", ":2 ", "there are memory"},
        {"{\"a\": {\"command\": [\"x\"], \"limits\":\n {\"memory\": \"x\"}}}", ":2 ", "memory=x"},
        {"{\"a\": {\"command\": [\"x\"], \"limits\": 3}}", ":1 ", "an object"},
        {"{\"a\": {\"command\": [\"x\"]}, \"a\": {\"command\": [\"x\"]}}", ":1", "duplicate"},
        {"a=x\nnothing", ":2 ", "NAME=COMMAND LINE"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct handlers handlers = {0};
        struct why why = {""};
        char path[] = "/tmp/test_handlers.XXXXXX";
        write_file(path, bad[i].text);
        int result = handlers_read_file(&handlers, path, &why);
        unlink(path);
        assert_int_equal(result, -1);
        if (!strstr(why.text, bad[i].words) || !strstr(why.text, bad[i].line) || !strstr(why.text, path))
            fail_msg("'%s' and '%s' should be in: %s", bad[i].line, bad[i].words, why.text);
        handlers_release(&handlers);
    }
}

static void bad_limits_are_refused_in_words(void **state)
{
    (void)state;
    static const struct { const char *text, *words; } bad[] = {
        {"memory", "memory=SIZE"}, {"=3", "memory=SIZE"}, {"disk=3", "is no limit"}, {"x:memory=3M", "no handler x"}, {"memory=1", "at least 1M"},
        {"memory=lots", "memory=lots"}, {"cpu=3", "cpu=3"}, {"processes=0", "processes=0"}, {"files=3", "files=3"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct worker_config config;
        struct why why;
        char option[64];
        snprintf(option, sizeof option, "--limit=%s", bad[i].text);
        assert_int_equal(READ(&config, &why, option), CONFIG_BAD);
        if (!strstr(why.text, bad[i].words))
            fail_msg("'%s' should be named in: %s", bad[i].words, why.text);
    }
}

/* ---- commands ---- */

static const uint8_t id[WIRE_ID] = {0xab, 0xcd};

static const char *env_of(const struct keeper_run *run, const char *name)
{
    const char *found = NULL;
    size_t len = strlen(name);
    for (char *const *variable = run->env; *variable; variable++)
        if (strncmp(*variable, name, len) == 0 && (*variable)[len] == '=') {
            assert_null(found);
            found = *variable + len + 1;
        }
    return found;
}

static Wire__Value value_of(const char *key, const char *text)
{
    Wire__Value value = WIRE__VALUE__INIT;
    value.key = WORDS(key);
    value.value = WORDS(text);
    return value;
}

static void an_attempt_sees_its_context(void **state)
{
    (void)state;
    Wire__Value user = value_of("user", "ada"), dotted = value_of("a.b-c", "1"), clash = value_of("A_B-C", "2"),
                own = value_of("USER", "bob");
    Wire__Value *batch_values[] = {&user, &dotted, &clash}, *own_values[] = {&own};
    char *words[] = {WORDS("do"), WORDS("{.}.out"), WORDS("{#}"), WORDS("{%}")};
    Wire__Options options = WIRE__OPTIONS__INIT;
    options.command = words;
    options.n_command = 4;
    options.values = batch_values;
    options.n_values = 3;
    options.traceparent = WORDS("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    options.tracestate = WORDS("k=v");
    options.max_output = 1234;
    options.grace_us = 2000;
    Wire__TaskExtra extra = WIRE__TASK_EXTRA__INIT;
    extra.values = own_values;
    extra.n_values = 1;
    struct agent_run run = {
        .slot = 2, .options = &options, .short_id = "b7k2", .batch = id, .index = 41, .attempt = 3, .epoch = 5,
        .payload = {.data = (const uint8_t *)"dir/x.png", .len = 9}, .extra = &extra, .budget = 1500 * NS_PER_MS,
        .span_id = {1, 2, 3, 4, 5, 6, 7, 0xff},
    };
    struct worker_command *command = worker_command_new(NULL, 0, "tcp://tower:5555");
    struct keeper_run made;
    struct why why = {""};
    if (worker_command_make(command, &run, &made, &why) < 0)
        fail_msg("%s", why.text);
    assert_string_equal(made.argv[0], "do");
    assert_string_equal(made.argv[1], "dir/x.out");
    assert_string_equal(made.argv[2], "42");
    assert_string_equal(made.argv[3], "3");
    assert_null(made.argv[4]);
    assert_false(made.has_input);
    assert_int_equal(made.max_output, 1234);
    assert_int_equal(made.grace, 2 * NS_PER_MS);
    assert_string_equal(env_of(&made, "TARMAC_BATCH"), "b7k2");
    assert_string_equal(env_of(&made, "TARMAC_INDEX"), "41");
    assert_string_equal(env_of(&made, "TARMAC_ATTEMPT"), "3");
    assert_string_equal(env_of(&made, "TARMAC_KEY"), "b7k2/41");
    assert_string_equal(env_of(&made, "TARMAC_SLOT"), "3");
    assert_string_equal(env_of(&made, "TARMAC_BUDGET_MS"), "1500");
    assert_string_equal(env_of(&made, "TARMAC_TRACE_ID"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_equal(env_of(&made, "TRACEPARENT"), "00-4bf92f3577b34da6a3ce929d0e0e4736-01020304050607ff-00");
    assert_string_equal(env_of(&made, "TRACESTATE"), "k=v");
    assert_string_equal(env_of(&made, "TARMAC_VENTILATOR"), "tcp://tower:5555");
    assert_string_equal(env_of(&made, "TARMAC_PARENT"), "abcd0000000000000000000000000000/41/5/3");
    assert_string_equal(env_of(&made, "TARMAC_VALUE_USER"), "bob");
    assert_string_equal(env_of(&made, "TARMAC_VALUE_A_B_C"), "2");
    /* What isn't there isn't said. */
    run.budget = -1;
    run.extra = NULL;
    options.traceparent = options.tracestate = WORDS("");
    assert_int_equal(worker_command_make(command, &run, &made, &why), 0);
    assert_null(env_of(&made, "TARMAC_BUDGET_MS"));
    assert_null(env_of(&made, "TRACEPARENT"));
    assert_null(env_of(&made, "TRACESTATE"));
    assert_string_equal(env_of(&made, "TARMAC_VALUE_USER"), "ada");
    worker_command_destroy(&command);
}

static void handlers_take_items_as_words_or_as_input(void **state)
{
    (void)state;
    static const char *const words[] = {"wc", "-c", NULL};
    const struct agent_handler handler = {.name = "count", .command = words};
    Wire__Options options = WIRE__OPTIONS__INIT;
    options.handler = WORDS("count");
    struct agent_run run = {.handler = &handler, .options = &options, .short_id = "b", .batch = id, .attempt = 1, .budget = -1,
                            .payload = {.data = (const uint8_t *)"some bytes", .len = 10}};
    struct worker_command *command = worker_command_new(&handler, 1, "");
    struct keeper_run made;
    struct why why = {""};
    assert_int_equal(worker_command_make(command, &run, &made, &why), 0);
    assert_string_equal(made.argv[2], "some bytes");
    assert_false(made.has_input);
    assert_null(env_of(&made, "TARMAC_VENTILATOR"));
    options.pipe = true;
    assert_int_equal(worker_command_make(command, &run, &made, &why), 0);
    assert_null(made.argv[2]);
    assert_true(made.has_input);
    assert_int_equal(made.input.len, 10);
    /* An item with a NUL can be piped, not be a word. */
    run.payload = (struct slice){.data = (const uint8_t *)"a\0b", .len = 3};
    assert_int_equal(worker_command_make(command, &run, &made, &why), 0);
    options.pipe = false;
    assert_true(worker_command_make(command, &run, &made, &why) < 0);
    assert_string_not_equal(why.text, "");
    worker_command_destroy(&command);
}

static void batches_take_turns(void **state)
{
    (void)state;
    char *one[] = {WORDS("one")}, *two[] = {WORDS("two")};
    uint8_t other[WIRE_ID] = {1};
    Wire__Options options[2] = {WIRE__OPTIONS__INIT, WIRE__OPTIONS__INIT};
    options[0].command = one;
    options[1].command = two;
    options[0].n_command = options[1].n_command = 1;
    struct worker_command *command = worker_command_new(NULL, 0, "");
    for (int i = 0; i < 4; i++) {
        struct agent_run run = {.options = &options[i % 2], .short_id = "b", .batch = i % 2 ? other : id, .attempt = 1, .budget = -1};
        struct keeper_run made;
        struct why why;
        assert_int_equal(worker_command_make(command, &run, &made, &why), 0);
        assert_string_equal(made.argv[0], i % 2 ? "two" : "one");
    }
    worker_command_destroy(&command);
}

static void the_environment_is_the_attempts_own(void **state)
{
    (void)state;
    setenv("TARMAC_SLOTS", "3", 1);
    setenv("TARMAC_VENTILATOR_WORKERS", "tcp://x", 1);
    setenv("TARMAC_VALUE_OLD", "1", 1);
    setenv("TARMAC_VALUE_OLDER", "1", 1);
    setenv("TARMAC_VALUES", "{\"old\":\"1\"}", 1);
    setenv("TARMAC_BATCH", "b", 1);
    setenv("TRACEPARENT", "x", 1);
    setenv("TARMAC_SOMETHING_ELSE", "1", 1);
    worker_config_clean_environment(&(struct worker_config){0});
    static const char *const gone[] = {"TARMAC_SLOTS", "TARMAC_VENTILATOR_WORKERS", "TARMAC_VALUE_OLD", "TARMAC_VALUE_OLDER",
                                       "TARMAC_VALUES", "TARMAC_BATCH", "TRACEPARENT"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        assert_null(getenv(gone[i]));
    assert_non_null(getenv("TARMAC_SOMETHING_ELSE"));
    unsetenv("TARMAC_SOMETHING_ELSE");
}

int main(void)
{
    /* What the caller's environment says is not what these tests say. */
    worker_config_clean_environment(&(struct worker_config){0});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_cut_at_blanks_and_quotes),
        cmocka_unit_test(bad_command_lines_are_refused),
        cmocka_unit_test(options_are_read),
        cmocka_unit_test(a_worker_has_a_name_and_slots_of_its_own),
        cmocka_unit_test(bad_options_are_refused_in_words),
        cmocka_unit_test(a_handlers_file_is_read),
        cmocka_unit_test(bad_handlers_files_are_refused_with_their_line),
        cmocka_unit_test(bad_limits_are_refused_in_words),
        cmocka_unit_test(an_attempt_sees_its_context),
        cmocka_unit_test(handlers_take_items_as_words_or_as_input),
        cmocka_unit_test(batches_take_turns),
        cmocka_unit_test(the_environment_is_the_attempts_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
