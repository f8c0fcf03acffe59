/* Keys under faults: every allocation and descriptor that reading them and answering for them needs fails in turn. Each
 * failure is told in words or overcome, nothing leaks, and above all nobody is revoked by it. */
#include "tests/support/fail.h"
#include "tests/unit/net_world.h"

#include "tests/unit/keys_world.h"

#define ALL (FAIL_MEMORY | FAIL_OPEN | FAIL_CONTROL | FAIL_ZMQ | FAIL_SEND)

static void reading_a_folder(void **state)
{
    struct folders f;
    (void)state;
    folders_make(&f);
    struct fail_sweep sweep = {.kinds = ALL, .error = EMFILE, .stride = 1};
    int descriptors = fail_descriptors();
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        struct why why = {""};
        struct net_keys *keys = net_keys_read(at(f.dir, "ventilator"), ROLE_VENTILATOR, &why);
        long hits = fail_disarm();
        assert_true((hits > 0) == !keys);
        assert_true(keys || strlen(why.text) > 20);
        net_keys_destroy(&keys);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
    }
    folders_remove(&f);
    fail_said("calls while keys are read", sweep.points);
    assert_true(sweep.points >= 8);
}

static void nobody_yet(void *arg, const struct net_identity *who)
{
    (void)who;
    ++*(int *)arg;
}

static void any_word(void *arg, const char *sentence) { (void)arg, (void)sentence; }

static void reading_the_lists_again(void **state)
{
    struct folders f;
    struct why why = {""};
    (void)state;
    folders_make(&f);
    struct net_keys *keys = read_keys(&f, ROLE_VENTILATOR);
    struct fail_sweep sweep = {.kinds = ALL, .error = EMFILE, .stride = 1};
    while (fail_next(&sweep)) {
        struct net_pair added;
        char path[64];
        int revoked = 0;
        fail_disarm();
        assert_int_equal(net_pair_make(&added, &why), 0);
        snprintf(path, sizeof path, "ventilator/allow/workers/n%ld.pub", sweep.points);
        write_cert(at(f.dir, path), ROLE_WORKER, "x", &added, false);
        fail_again(&sweep);
        net_keys_reread(keys, nobody_yet, any_word, &revoked);
        fail_disarm();
        assert_int_equal(revoked, 0);
        for (int role = ROLE_SINK; role < NET_ROLES; role++)
            assert_non_null(net_keys_find(keys, ROLE_BIT(role), f.pairs[role].public_key));
        net_keys_reread(keys, nobody_yet, any_word, &revoked);
        assert_non_null(net_keys_find(keys, ~0u, added.public_key));
        assert_int_equal(unlink(at(f.dir, path)), 0);
        net_keys_reread(keys, nobody_yet, any_word, &revoked);
        assert_int_equal(revoked, 1);
    }
    net_keys_destroy(&keys);
    folders_remove(&f);
    fail_said("calls while lists are read again", sweep.points);
    assert_true(sweep.points >= 4);
}

static void never(void *arg) { (void)arg; }

static void making_a_network_with_keys(void **state)
{
    struct folders f;
    (void)state;
    folders_make(&f);
    struct fail_sweep sweep = {.kinds = ALL, .error = EMFILE, .stride = 1};
    struct loop *loop = loop_new();
    assert_non_null(loop);
    struct loop_timer any = {.fire = never, .arg = NULL};
    assert_int_equal(loop_timer_set(loop, &any, mono_now()), 0);      /* the loop keeps the room for its timers */
    loop_timer_clear(loop, &any);
    int descriptors = fail_descriptors();
    while (fail_next(&sweep)) {
        fail_disarm();
        size_t blocks = fail_blocks();
        struct why why = {""};
        struct net_keys *keys = read_keys(&f, ROLE_VENTILATOR);
        fail_again(&sweep);
        struct net *net = net_new(loop, &(struct net_config){.max_sockets = 20, .max_message = MAX_MESSAGE, .keys = keys}, &why);
        long hits = fail_disarm();
        assert_true((hits > 0) == !net);
        assert_true(net || strlen(why.text) > 20);
        net_destroy(&net);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
    }
    loop_destroy(&loop);
    folders_remove(&f);
    fail_said("calls while a network with keys is made", sweep.points);
    assert_true(sweep.points >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_a_folder),
        cmocka_unit_test(reading_the_lists_again),
        cmocka_unit_test(making_a_network_with_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
