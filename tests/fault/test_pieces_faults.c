/* The small pieces without memory or descriptors: the loop, options, templates, items of every kind, and a client that
 * submits. Each call that can fail does so in turn; it is refused in words or goes on, works when it is tried again,
 * and leaves nothing behind. */
#include <fcntl.h>

#include "common/options.h"
#include "tarmac/template.h"
#include "tests/support/fail.h"
#include "tests/unit/client_world.h"

#include <errno.h>

static const struct fail_sweep no_memory = {.kinds = FAIL_MEMORY, .error = ENOMEM, .stride = 1};

/* ---- the loop ---- */

static void nothing(void *arg) { (void)arg; }

static void the_loop(void **state)
{
    struct fail_sweep sweep = {.kinds = FAIL_MEMORY | FAIL_OPEN | FAIL_CONTROL, .error = EMFILE, .stride = 1};
    static struct loop_timer timers[200];
    (void)state;
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        int descriptors = fail_descriptors(), refused = 0;
        struct loop *loop = loop_new();
        for (size_t i = 0; loop && i < 200; i++) {
            timers[i] = (struct loop_timer){.fire = nothing};
            int result = loop_timer_set(loop, &timers[i], mono_add(mono_now(), NS_PER_S));
            assert_true(result == 0 || result == -ENOMEM);
            refused += result < 0;
            if (result < 0)
                assert_int_equal(loop_timer_set(loop, &timers[i], mono_add(mono_now(), NS_PER_S)), 0);
        }
        assert_int_equal(fail_disarm() > 0, !loop || refused > 0);
        for (size_t i = 0; loop && i < 200; i++)
            loop_timer_clear(loop, &timers[i]);
        loop_destroy(&loop);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
    }
    fail_said("calls of a loop", sweep.points);
    assert_true(sweep.points >= 5);
}

/* ---- options ---- */

struct wanted { struct string_list names; const char *text; };

static const struct option_spec table[] = {
    {.name = "name", .type = OPT_STRINGS, .offset = offsetof(struct wanted, names), .env = "TEST_NAMES", .help = "Names."},
    {.name = "text", .type = OPT_STRING, .offset = offsetof(struct wanted, text), .env = "", .help = "A text."},
    {0},
};
static const struct option_spec *const tables[] = {table, NULL};
static const struct command_spec command_with_lists = {.program = "test", .arguments = "", .summary = "Tests.", .tables = tables};

static void options(void **state)
{
    struct fail_sweep sweep = no_memory;
    (void)state;
    setenv("TEST_NAMES", "x\ny", 1);
    while (fail_next(&sweep)) {
        char *argv[] = {"test", "--name", "a", "--text", "t", "--name", "b", "--name", "c", "rest", NULL};
        size_t blocks = fail_blocks();
        struct wanted wanted = {0};
        struct why why = {""};
        int rest = 0;
        bool dashes;
        enum options_result result = options_parse(&command_with_lists, 10, argv, &wanted, &rest, &dashes, &why);
        long hits = fail_disarm();
        assert_int_equal(result, hits ? OPTIONS_BAD : OPTIONS_OK);
        if (result == OPTIONS_OK) {
            assert_int_equal(wanted.names.n, 3);
            assert_string_equal(wanted.names.items[2], "c");
            assert_string_equal(argv[rest], "rest");
            options_release(&command_with_lists, &wanted);
        } else {
            assert_non_null(strstr(why.text, "memory"));
        }
        assert_int_equal(fail_blocks(), blocks);
    }
    unsetenv("TEST_NAMES");
    fail_said("allocations of the options", sweep.points);
    assert_true(sweep.points >= 3);
}

/* ---- templates ---- */

static void templates(void **state)
{
    static const char *const words[] = {"convert", "{}", "-o", "{.}-{#}.png", "{//}"};
    struct fail_sweep sweep = no_memory;
    (void)state;
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        struct template *template = NULL;
        struct template_line line = {0};
        struct why why = {""};
        const struct template_task task = {.item = "a/b.jpg", .len = 7, .index = 4, .slot = 1};
        int parsed = template_parse(words, 5, false, &template, &why);
        int expanded = parsed < 0 ? 0 : template_expand(template, &task, 0, &line, &why);
        long hits = fail_disarm();
        assert_int_equal(hits > 0, parsed < 0 || expanded < 0);
        if (hits > 0)
            assert_non_null(strstr(why.text, "memory"));
        if (parsed == 0) {
            assert_int_equal(template_expand(template, &task, 0, &line, &why), 0);
            assert_string_equal(line.argv[3], "a/b-5.png");
        }
        template_line_clear(&line);
        template_destroy(&template);
        assert_int_equal(fail_blocks(), blocks);
    }
    fail_said("allocations of templates", sweep.points);
    assert_true(sweep.points >= 2);
}

/* ---- items ---- */

static char input[] = "/tmp/test-pieces-XXXXXX";

/* All items, as one number: the same ones in the same order give the same. */
static enum items_result read_all(struct items *items, uint64_t *ret_digest, struct why *why)
{
    enum items_result result;
    struct item item;
    uint64_t digest = 0;
    while ((result = items_next(items, &item, why)) == ITEMS_ITEM || result == ITEMS_MORE)
        if (result == ITEMS_ITEM) {
            digest = wire_digest(digest, item.payload.data, item.payload.len);
            for (size_t i = 0; i < item.n_values; i++)
                digest = wire_digest(digest, item.values[i]->value, strlen(item.values[i]->value));
        }
    *ret_digest = digest;
    return result;
}

static long sweep_items(const struct items_spec *spec, unsigned kinds, int error)
{
    struct fail_sweep sweep = {.kinds = kinds, .error = error, .stride = 1};
    uint64_t wanted = 0;
    struct why why = {""};
    struct items *items = items_new(NULL, spec, nothing, NULL, &why);
    if (!items)
        fail_msg("%s", why.text);
    assert_int_equal(read_all(items, &wanted, &why), ITEMS_END);
    items_destroy(&items);
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        int descriptors = fail_descriptors();
        uint64_t digest = 0;
        why.text[0] = '\0';
        items = items_new(NULL, spec, nothing, NULL, &why);
        enum items_result result = items ? read_all(items, &digest, &why) : ITEMS_BAD;
        long hits = fail_disarm();
        assert_true(result == ITEMS_END || (result == ITEMS_BAD && hits > 0 && strlen(why.text) > 10));
        if (result == ITEMS_END)
            assert_int_equal(digest, wanted);            /* never a part of the input for the whole */
        items_destroy(&items);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
    }
    return sweep.points;
}

static void items(void **state)
{
    static const char *const words[] = {"a", "bb", ""}, *const files[] = {input, input};
    const struct items_spec specs[] = {
        {.kind = ITEMS_WORDS, .words = words, .n_words = 3},
        {.kind = ITEMS_LINES, .path = input, .separator = '\n'},
        {.kind = ITEMS_JSON_LINES, .path = input},
        {.kind = ITEMS_BLOCKS, .path = input, .block_size = 100},
        {.kind = ITEMS_FILES, .words = files, .n_words = 2},
        {.kind = ITEMS_RANGE, .first = 5, .count = 20},
    };
    long points = 0;
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        points += sweep_items(&specs[i], FAIL_MEMORY, ENOMEM);
        points += sweep_items(&specs[i], FAIL_OPEN, EMFILE);
        points += sweep_items(&specs[i], FAIL_READ, EIO);
        points += sweep_items(&specs[i], FAIL_READ, EINTR);
        points += sweep_items(&specs[i], FAIL_READ, FAIL_SHORT);
    }
    fail_said("calls while items are read", points);
    assert_true(points >= 20);
}

static int write_input(void **state)
{
    (void)state;
    int fd = mkstemp(input);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out)
        return -1;
    for (int i = 0; i < 50; i++)
        fprintf(out, "{\"payload\": \"number %d\", \"values\": {\"n\": \"%d\"}}\n", i, i);
    return fclose(out);
}

static int remove_input(void **state)
{
    (void)state;
    return unlink(input);
}

/* ---- a client ---- */

static void scripted(void *arg, struct net_socket *socket, const struct net_message *message)
{
    fail_pause();
    on_request(arg, socket, message);
    fail_resume();
}

/* The script's own connection has memory at all times. */
static struct world *enter_scripted(void)
{
    void *state = NULL;
    struct why why;
    assert_int_equal(enter(&state), 0);
    struct world *w = state;
    net_close(&w->ventilator);
    struct net_callbacks callbacks = {.message = scripted, .arg = w};
    w->ventilator = net_open(w->theirs, NET_ROUTER, w->clients, &callbacks, &why);
    assert_non_null(w->ventilator);
    return w;
}

static int try_client(struct world *w, struct why *why)
{
    struct client_config config = {.ventilator = w->clients, .program = "test", .connect_timeout = BOUND,
                                   .reconnect_timeout = BOUND, .failed = on_failed, .arg = w};
    w->client = client_new(w->loop, w->ours, &config, why);
    return w->client ? 0 : -1;
}

static int try_submission(struct world *w, const Wire__Options *options_of, struct why *why)
{
    struct submission_config config = {.options = options_of, .items = w->items, .known = on_known, .accepted = on_accepted, .ended = on_ended, .arg = w};
    w->submission = submission_new(w->client, &config, why);
    return w->submission ? 0 : -1;
}

#define TWICE(w, call)                                                       \
    do {                                                                     \
        struct why why_ = {""};                                              \
        if ((call) < 0) {                                                    \
            assert_true(fail_hits() > 0 && strlen(why_.text) > 10);          \
            assert_int_equal((call), 0);                                     \
        }                                                                    \
    } while (0)

static void ask_for_list(struct world *w)
{
    Wire__List list = WIRE__LIST__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    request.what_case = WIRE__REQUEST__WHAT_LIST;
    request.list = &list;
    if (client_request(w->client, &request, on_reply, w) == 0) {
        assert_true(fail_hits() > 0);
        assert_true(client_request(w->client, &request, on_reply, w) != 0);
    }
}

/* It submits, or says that it has no memory: then another submission does it. */
static void a_client_that_submits(void **state)
{
    static const char *const words[] = {"one", "two", "three"};
    struct items_spec spec = {.kind = ITEMS_WORDS, .words = words, .n_words = 3};
    struct fail_sweep sweep = {.kinds = FAIL_MEMORY | FAIL_SEND, .error = ENOMEM, .stride = 1};
    Wire__Options options_of = WIRE__OPTIONS__INIT;
    long given_up = 0;
    (void)state;
    options_of.handler = (char *)(uintptr_t)"resize";
    options_of.weight = 1;
    while (fail_next(&sweep)) {
        fail_disarm();
        size_t blocks = fail_blocks();
        int descriptors = fail_descriptors();
        struct world *w = enter_scripted();
        struct why why;
        fail_again(&sweep);
        fail_pause();
        w->items = items_new(w->loop, &spec, nothing, NULL, &why);
        fail_resume();
        TWICE(w, try_client(w, &why_));
        TWICE(w, try_submission(w, &options_of, &why_));
        while (w->endeds == 0 && w->failures == 0)
            run(w);
        if (w->failures == 0 && w->how == SUBMISSION_DONE) {
            ask_for_list(w);
            while (w->replies == 0 && w->failures == 0)
                run(w);
            assert_int_equal(w->next_index, 3);
            assert_int_equal(w->state, WIRE__STATE__SEALED);
        } else {
            if (fail_hits() == 0 || !strstr(w->sentence, "memory"))
                fail_msg("without memory it says: %s", w->sentence);
            given_up++;
        }
        fail_disarm();
        void *leaving = w;
        leave(&leaving);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
    }
    char what[80];
    snprintf(what, sizeof what, "allocations and sends of a client (%ld gave up in words)", given_up);
    fail_said(what, sweep.points);
    assert_true(sweep.points >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loop),
        cmocka_unit_test(options),
        cmocka_unit_test(templates),
        cmocka_unit_test_setup_teardown(items, write_input, remove_input),
        cmocka_unit_test(a_client_that_submits),
    };
    return cmocka_run_group_tests_name("pieces and faults", tests, NULL, NULL);
}
