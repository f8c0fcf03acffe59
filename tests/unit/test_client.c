/* The client library against a scripted ventilator: hello, what is asked again, submissions through
 * restarts, keys that go on. */
#include "tests/unit/client_world.h"

/* ---- requests ---- */

static void ask(struct world *w)
{
    Wire__List list = WIRE__LIST__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_LIST;
    m.list = &list;
    assert_true(client_request(w->client, &m, on_reply, w) != 0);
}

static void a_request_waits_for_the_welcome(void **state)
{
    struct world *w = *state;
    connect_to(w, w->clients, BOUND, BOUND);
    assert_false(client_is_up(w->client));
    ask(w);
    run(w);
    assert_int_equal(w->replies, 1);
    assert_int_equal(w->hellos, 1);
    assert_true(client_is_up(w->client));
    ask(w);
    run(w);
    assert_int_equal(w->replies, 2);
    assert_int_equal(w->hellos, 1);
}

static void say_hello_means_everything_again(void **state)
{
    struct world *w = *state;
    w->leave_at = -1;
    connect_to(w, w->clients, BOUND, BOUND);
    ask(w);
    run(w);
    assert_int_equal(w->replies, 1);
    assert_int_equal(w->hellos, 2);
    assert_int_equal(w->lists, 2);
}

static void nobody_there(void **state)
{
    struct world *w = *state;
    char nowhere[80];
    snprintf(nowhere, sizeof nowhere, "%s-nobody", w->clients);
    connect_to(w, nowhere, 100 * NS_PER_MS, BOUND);
    ask(w);
    run(w);
    assert_int_equal(w->failures, 1);
    assert_int_equal(w->end, CLIENT_UNREACHABLE);
    assert_non_null(strstr(w->sentence, nowhere));
    assert_non_null(strstr(w->sentence, "100ms"));
}

static void gone_for_too_long(void **state)
{
    struct world *w = *state;
    connect_to(w, w->clients, BOUND, 100 * NS_PER_MS);
    ask(w);
    run(w);
    net_close(&w->ventilator);
    ask(w);
    run(w);
    assert_int_equal(w->failures, 1);
    assert_int_equal(w->end, CLIENT_UNREACHABLE);
    assert_non_null(strstr(w->sentence, "went away"));
}

/* ---- submissions ---- */

static void submit(struct world *w, const struct items_spec *spec, const char *key)
{
    Wire__Options options = WIRE__OPTIONS__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    struct why why = {""};
    options.handler = (char *)(uintptr_t)"h";
    options.weight = 1;
    range.first = 1;
    range.count = 5;
    range.step = 1;
    options.range = spec ? NULL : &range;
    w->items = spec ? items_new(w->loop, spec, NULL, NULL, &why) : NULL;
    struct submission_config config = {.options = &options, .key = key, .items = w->items, .known = on_known,
                                       .accepted = on_accepted, .ended = on_ended, .arg = w};
    w->submission = submission_new(w->client, &config, &why);
    if (!w->submission)
        fail_msg("%s", why.text);
}

/* 20,000 numbers, in at least five chunks since a block has 4,096. */
static const struct items_spec many = {.kind = ITEMS_RANGE, .first = 1, .count = 20000};

static uint64_t digest_of(uint64_t n)
{
    uint64_t digest = 0;
    char text[24];
    for (uint64_t i = 1; i <= n; i++)
        digest = wire_digest(digest, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, i));
    return digest;
}

static void all_came_once(const struct world *w, uint64_t n)
{
    assert_int_equal(w->endeds, 1);
    assert_int_equal(w->how, SUBMISSION_DONE);
    assert_int_equal(w->accepteds, 1);
    assert_int_equal(w->next_index, n);
    assert_true(w->seen_digest == digest_of(n));
    assert_true(w->digest == w->seen_digest);
    assert_int_equal(w->state, WIRE__STATE__SEALED);
    assert_int_equal(submission_admitted(w->submission), n);
}

static void a_submission_in_chunks(void **state)
{
    struct world *w = *state;
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, &many, NULL);
    run(w);
    all_came_once(w, 20000);
    assert_int_equal(w->submits, 1);
    assert_int_equal(w->most_outstanding, CHUNKS);
    assert_int_equal(w->seals, 0);
}

static void through_a_restart(struct world *w, int leave_at, bool admits)
{
    w->leave_at = leave_at;
    w->admits_before_leaving = admits;
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, &many, NULL);
    run(w);
    all_came_once(w, 20000);
    assert_int_equal(w->submits, 2);
    assert_int_equal(w->knowns, 2);
}

static void restart_that_lost_a_chunk(void **state) { through_a_restart(*state, 3, false); }
static void restart_that_lost_an_answer(void **state) { through_a_restart(*state, 3, true); }
static void restart_after_the_last_chunk(void **state) { through_a_restart(*state, 5, true); }
static void restart_before_the_last_chunk(void **state) { through_a_restart(*state, 5, false); }

static void not_now_is_asked_again(void **state)
{
    struct world *w = *state;
    w->refuses_once = true;
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, &many, NULL);
    run(w);
    all_came_once(w, 20000);
}

static void an_empty_input_is_sealed(void **state)
{
    struct world *w = *state;
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, &(struct items_spec){.kind = ITEMS_WORDS}, NULL);
    run(w);
    all_came_once(w, 0);
    assert_int_equal(w->seals, 1);
    assert_int_equal(w->chunks, 0);
}

static void a_range_sends_nothing(void **state)
{
    struct world *w = *state;
    w->state = WIRE__STATE__SEALED;
    w->next_index = 5;
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, NULL, NULL);
    run(w);
    assert_int_equal(w->how, SUBMISSION_DONE);
    assert_int_equal(w->chunks, 0);
}

/* A key whose batch has `n` of these items already. */
static void continue_at(struct world *w, uint64_t n, uint64_t digest, Wire__State batch_state, const struct items_spec *spec)
{
    w->next_index = n;
    w->digest = w->seen_digest = digest;
    w->state = batch_state;
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, spec, "nightly");
    run(w);
}

static void a_key_goes_on(void **state)
{
    struct world *w = *state;
    continue_at(w, 5000, digest_of(5000), WIRE__STATE__OPEN, &many);
    all_came_once(w, 20000);
}

static void a_key_that_is_whole(void **state)
{
    struct world *w = *state;
    continue_at(w, 20000, digest_of(20000), WIRE__STATE__SEALED, &many);
    all_came_once(w, 20000);
    assert_int_equal(w->chunks, 0);
}

static void refused_as_different(const struct world *w)
{
    assert_int_equal(w->how, SUBMISSION_FAILED);
    assert_int_equal(w->end, CLIENT_REFUSED);
    assert_non_null(strstr(w->sentence, "nightly"));
    assert_int_equal(w->chunks, 0);
    assert_int_equal(w->accepteds, 0);
}

static void a_key_of_other_items(void **state)
{
    struct world *w = *state;
    continue_at(w, 5000, digest_of(4999), WIRE__STATE__OPEN, &many);
    refused_as_different(w);
}

static void a_key_of_more_items(void **state)
{
    struct world *w = *state;
    continue_at(w, 20001, digest_of(20001), WIRE__STATE__OPEN, &many);
    refused_as_different(w);
    assert_non_null(strstr(w->sentence, "more items"));
}

static void a_key_of_fewer_items(void **state)
{
    struct world *w = *state;
    continue_at(w, 5, digest_of(5), WIRE__STATE__COMPLETE, &many);
    refused_as_different(w);
}

/* Cancelled by somebody else while it is submitted: the first chunk was taken, the second one was not. */
static void a_batch_that_takes_no_more(void **state)
{
    struct world *w = *state;
    w->hold = false;
    w->cancel_at = 2;
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, &many, NULL);
    run(w);
    assert_int_equal(w->how, SUBMISSION_CLOSED);
    assert_string_equal(w->sentence, "cancelling");
    assert_int_equal(submission_admitted(w->submission), 4096);
}

static void large_items_go_alone(void **state)
{
    struct world *w = *state;
    size_t len = 600 * 1000;
    char *large = malloc(len + 1);
    assert_non_null(large);
    memset(large, 'x', len);
    large[len] = '\0';
    const char *const words[] = {"small", large, "small", large};
    w->hold = false;    /* Bytes fill the window too. */
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, &(struct items_spec){.kind = ITEMS_WORDS, .words = words, .n_words = 4}, NULL);
    run(w);
    assert_int_equal(w->how, SUBMISSION_DONE);
    assert_int_equal(w->next_index, 4);
    assert_int_equal(w->chunks, 4);
    assert_int_equal(w->bytes, 2 * len + 10);
    free(large);
}

static void an_item_that_is_too_large(void **state)
{
    struct world *w = *state;
    size_t len = 2u << 20;
    char *large = malloc(len + 1);
    assert_non_null(large);
    memset(large, 'x', len);
    large[len] = '\0';
    const char *const words[] = {large};
    connect_to(w, w->clients, BOUND, BOUND);
    submit(w, &(struct items_spec){.kind = ITEMS_WORDS, .words = words, .n_words = 1}, NULL);
    run(w);
    assert_int_equal(w->how, SUBMISSION_FAILED);
    assert_int_equal(w->end, CLIENT_REFUSED);
    assert_non_null(strstr(w->sentence, "2097152 bytes"));
    assert_int_equal(w->submits, 0);    /* There is no batch that lacks it. */
    free(large);
}

/* Items that come when they do: none, until the script says so, outside of the loop. */
struct later { int waits, come, taken; };

static enum items_result next_later(void *arg, struct item *ret, struct why *why)
{
    struct later *self = arg;
    (void)why;
    if (self->taken == self->come) {
        self->waits++;
        return self->come == 2 ? ITEMS_END : ITEMS_WAIT;
    }
    self->taken++;
    ret->payload = (struct slice){.data = (const uint8_t *)"item", .len = 4};
    return ITEMS_ITEM;
}

static void at_rest(void *arg) { stop(arg); }

/* Runs until nothing is under way any more: what comes then is brought by no other event. */
static void come_to_rest(struct world *w)
{
    struct loop_timer rest = {.fire = at_rest, .arg = w};
    loop_timer_set(w->loop, &rest, mono_add(mono_now(), 50 * NS_PER_MS));
    run(w);
}

static void on_first(void *arg)
{
    on_accepted(arg);
    stop(arg);
}

static void an_item_that_comes_at_rest_is_sent(void **state)
{
    struct world *w = *state;
    struct later later = {0};
    struct why why = {""};
    Wire__Options options = WIRE__OPTIONS__INIT;
    w->hold = false;
    connect_to(w, w->clients, BOUND, BOUND);
    options.handler = (char *)(uintptr_t)"h";
    options.weight = 1;
    w->items = items_new(w->loop, &(struct items_spec){.kind = ITEMS_CALLED, .next = next_later}, NULL, &later, &why);
    struct submission_config config = {.options = &options, .items = w->items, .known = on_known, .accepted = on_first,
                                       .ended = on_ended, .arg = w};
    w->submission = submission_new(w->client, &config, &why);
    assert_non_null(w->submission);
    while (later.waits == 0)
        come_to_rest(w);
    later.come = 1;
    submission_ready(w->submission);
    run(w);
    assert_int_equal(submission_admitted(w->submission), 1);
    come_to_rest(w);
    later.come = 2;    /* the last one, and the end */
    submission_ready(w->submission);
    run(w);
    assert_int_equal(w->how, SUBMISSION_DONE);
    assert_int_equal(submission_admitted(w->submission), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_waits_for_the_welcome), TEST(say_hello_means_everything_again), TEST(nobody_there),
        TEST(gone_for_too_long), TEST(a_submission_in_chunks), TEST(restart_that_lost_a_chunk),
        TEST(restart_that_lost_an_answer), TEST(restart_after_the_last_chunk),
        TEST(restart_before_the_last_chunk), TEST(not_now_is_asked_again), TEST(an_empty_input_is_sealed),
        TEST(a_range_sends_nothing), TEST(a_key_goes_on), TEST(a_key_that_is_whole),
        TEST(a_key_of_other_items), TEST(a_key_of_more_items), TEST(a_key_of_fewer_items),
        TEST(a_batch_that_takes_no_more), TEST(large_items_go_alone), TEST(an_item_that_is_too_large),
        TEST(an_item_that_comes_at_rest_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
