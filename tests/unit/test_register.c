/* The register: what it says and stores for each event. Crashes and restarts: test_register_restore.c. */
#include "tests/unit/register_world.h"

/* ---- the ventilator ---- */

static void hello_comes_first_and_again_when_asked(void **state)
{
    (void)state;
    struct world *w = world_new();
    register_ventilator(w->registry, w->now, true);
    assert_heard(w, "hello; ");
    Wire__SayHello say_hello = WIRE__SAY_HELLO__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    message.what_case = WIRE__DOWNWARD__WHAT_SAY_HELLO;
    message.say_hello = &say_hello;
    down(w, &message);
    assert_heard(w, "hello; ");
    /* Nobody answers: again after two seconds, no sooner. */
    assert_true(register_tick(w->registry, w->now, true).ns == w->now.ns + 2 * NS_PER_S);
    assert_heard(w, "");
    w->now = mono_add(w->now, 2 * NS_PER_S);
    register_tick(w->registry, w->now, true);
    assert_heard(w, "hello; ");
    world_destroy(w);
}

static void heartbeats_go_on_until_silence(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    register_tick(w->registry, w->now, true);
    assert_heard(w, "heartbeat; ");
    w->now = mono_add(w->now, NS_PER_S);
    assert_true(register_tick(w->registry, w->now, true).ns == w->now.ns + NS_PER_S);
    assert_heard(w, "heartbeat; ");
    w->now = mono_add(w->now, 10 * NS_PER_S);
    /* Who stood still itself judges nobody. */
    register_tick(w->registry, w->now, false);
    assert_heard(w, "heartbeat; ");
    register_tick(w->registry, w->now, true);
    assert_heard(w, "hello; ");
    world_destroy(w);
}

static void full_and_leaving_are_told(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    register_full(w->registry, w->now, true);
    assert_heard(w, "heartbeat full; ");
    register_full(w->registry, w->now, true);
    register_full(w->registry, w->now, false);
    assert_heard(w, "heartbeat; ");
    DELIVER(w, .first = 0, .count = 5);
    register_drain(w->registry, w->now);
    assert_heard(w, "heartbeat draining; ");
    assert_false(register_drained(w->registry));
    commit(w);
    assert_heard(w, "recorded 0+5 all; goodbye; ");
    assert_true(register_drained(w->registry));
    world_destroy(w);
}

static void another_journal_is_refused_while_batches_are_open(void **state)
{
    (void)state;
    struct world *w = world_with_batch(1);
    welcome_from(w, "another-journal-");
    assert_non_null(strstr(w->last_note, "other_ventilator"));
    send_ask(w, BATCH_ID);
    assert_heard(w, "");
    /* It says hello again, and takes the right one. */
    w->now = mono_add(w->now, 10 * NS_PER_S);
    register_tick(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    DELIVER(w, .first = 0, .count = 1);
    commit(w);
    assert_heard(w, "hello; recorded 0+1 all; ");
    /* Nothing is open any more: another one may come. */
    welcome_from(w, "another-journal-");
    commit(w);
    send_ask(w, BATCH_ID);
    assert_heard(w, "records 1 of 0+1; ");
    world_destroy(w);
}

static void a_refusal_and_a_goodbye_end_the_talk(void **state)
{
    (void)state;
    struct world *w = world_with_batch(1);
    Wire__Refused refused = WIRE__REFUSED__INIT;
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    message.what_case = WIRE__DOWNWARD__WHAT_REFUSED;
    message.refused = &refused;
    refused.sentence = (char *)(uintptr_t)"two sinks";
    down(w, &message);
    assert_string_equal(w->last_note, "refused: the ventilator refuses this sink: two sinks");
    assert_true(register_tick(w->registry, w->now, true).ns == w->now.ns + 10 * NS_PER_S);
    welcome_from(w, "journal-journal-");
    message.what_case = WIRE__DOWNWARD__WHAT_GOODBYE;
    message.goodbye = &goodbye;
    down(w, &message);
    DELIVER(w, .first = 0, .count = 1);
    commit(w);
    assert_heard(w, "");
    assert_true(batch_seen(w)->complete);
    world_destroy(w);
}

/* ---- registering ---- */

static void registered_is_said_after_the_commit(void **state)
{
    (void)state;
    struct world *w = world_new();
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    send_register(w, BATCH_ID, "b1", -1);
    assert_heard(w, "hello; ");
    commit(w);
    assert_heard(w, "registered; ");
    assert_int_equal(w->moves, 1);
    assert_false(batch_seen(w)->total_known);
    send_register(w, BATCH_ID, "b1", 7);
    assert_heard(w, "");
    commit(w);
    assert_heard(w, "registered; ");
    assert_int_equal(batch_seen(w)->total, 7);
    /* The same again needs no disk. */
    send_register(w, BATCH_ID, "b1", 7);
    assert_heard(w, "registered; ");
    send_register(w, BATCH_ID, "b1", 8);
    assert_non_null(strstr(w->last_note, "total_differs"));
    assert_int_equal(batch_seen(w)->total, 7);
    world_destroy(w);
}

static void an_empty_batch_is_complete_at_once(void **state)
{
    (void)state;
    struct world *w = world_with_batch(0);
    assert_true(batch_seen(w)->complete);
    world_destroy(w);
}

static void a_total_below_what_is_recorded_is_not_taken(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    DELIVER(w, .first = 10, .count = 1);
    send_register(w, BATCH_ID, "b1", 10);
    commit(w);
    assert_heard(w, "recorded 10+1 all; ");
    assert_non_null(strstr(w->last_note, "total_too_small"));
    assert_false(batch_seen(w)->total_known);
    world_destroy(w);
}

static void batches_are_found_by_what_people_type(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    send_register(w, "batch-other-one-", "b2", -1);
    assert_non_null(register_find(w->registry, "b1"));
    assert_non_null(register_find(w->registry, "62617463682d62617463682d62617463"));
    assert_non_null(register_find(w->registry, "62617463682d6f"));
    assert_null(register_find(w->registry, "6261"));       /* both */
    assert_null(register_find(w->registry, "b3"));
    assert_null(register_find(w->registry, ""));
    assert_string_equal(register_find_number(w->registry, 2)->short_id, "b2");
    assert_null(register_find_number(w->registry, 3));
    world_destroy(w);
}

/* ---- results ---- */

static void a_result_is_recorded_once_it_is_on_disk(void **state)
{
    (void)state;
    struct world *w = world_with_batch(1000);
    DELIVER(w, .first = 0, .count = 600);
    assert_heard(w, "");
    assert_int_equal(batch_seen(w)->recorded, 0);
    assert_int_equal(prefix(w, 0), 0);
    assert_int_equal(w->moves, 0);
    commit(w);
    assert_heard(w, "recorded 0+600 all; ");
    assert_int_equal(batch_seen(w)->recorded, 600);
    assert_int_equal(batch_seen(w)->counts[WIRE__VERDICT__OK], 600);
    assert_int_equal(prefix(w, 0), 600);
    assert_int_equal(w->moves, 1);
    DELIVER(w, .first = 600, .count = 400, .verdict = WIRE__VERDICT__FAILED, .unpacked = true);
    assert_false(batch_seen(w)->complete);
    commit(w);
    assert_true(batch_seen(w)->complete);
    assert_int_equal(batch_seen(w)->counts[WIRE__VERDICT__FAILED], 400);
    assert_int_equal(prefix(w, 0), 1000);
    world_destroy(w);
}

static void duplicates_are_released_and_not_stored(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    DELIVER(w, .first = 0, .count = 100);
    DELIVER(w, .first = 0, .count = 100, .attempt = 2, .verdict = WIRE__VERDICT__FAILED);
    /* Nobody hears of a duplicate before the first one is on disk. */
    assert_heard(w, "");
    commit(w);
    assert_heard(w, "recorded 0+100 all; recorded 0+100 none; ");
    DELIVER(w, .first = 0, .count = 100);
    assert_heard(w, "recorded 0+100 none; ");
    assert_int_equal(rows(w), 1);
    assert_int_equal(batch_seen(w)->duplicates, 200);
    assert_int_equal(batch_seen(w)->counts[WIRE__VERDICT__FAILED], 0);
    world_destroy(w);
}

static void part_of_a_result_can_be_the_first(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    DELIVER(w, .first = 10, .count = 5);
    DELIVER(w, .first = 30, .count = 1);
    commit(w);
    assert_heard(w, "recorded 10+5 all; recorded 30+1 all; ");
    for (int unpacked = 0; unpacked < 2; unpacked++) {
        DELIVER(w, .first = (uint64_t)unpacked * 4096, .count = 40, .verdict = WIRE__VERDICT__FAILED, .unpacked = unpacked);
        commit(w);
        assert_heard(w, unpacked ? "recorded 4096+40 all; " : "recorded 0+40 0+10,15+15,31+9; ");
    }
    DELIVER(w, .first = 4090, .count = 6);
    DELIVER(w, .first = 4000, .count = 96, .unpacked = true);
    commit(w);
    assert_heard(w, "recorded 4090+6 all; recorded 4000+96 4000+90; ");
    assert_int_equal(batch_seen(w)->counts[WIRE__VERDICT__OK], 6 + 6 + 90);
    assert_int_equal(batch_seen(w)->counts[WIRE__VERDICT__FAILED], 34 + 40);
    assert_int_equal(prefix(w, 0), 40);
    world_destroy(w);
}

static void a_large_frame_in_parts_keeps_its_bitmap(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    DELIVER(w, .first = 8192, .count = 1);
    DELIVER(w, .first = 8192, .count = 4096);         /* a bitmap of 512 bytes */
    commit(w);
    assert_heard(w, "recorded 8192+1 all; recorded 8192+4096 8193+4095; ");
    assert_int_equal(prefix(w, 8192), 8192 + 4096);
    crash(w);
    assert_int_equal(batch_seen(w)->recorded, 4096);
    world_destroy(w);
}

static void results_of_strangers_are_released(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    DELIVER(w, .first = 0, .count = 3, .id = "nobody-knows-it-");
    assert_heard(w, "recorded 0+3 none; ");
    assert_int_equal(rows(w), 0);
    struct register_counts counts;
    register_count(w->registry, &counts);
    assert_int_equal(counts.unregistered, 1);
    world_destroy(w);
}

static void a_result_beyond_the_batch_is_refused(void **state)
{
    (void)state;
    struct world *w = world_with_batch(10);
    DELIVER(w, .first = 8, .count = 3);
    assert_heard(w, "refused: batch b1 has 10 tasks, so a result of tasks 8 to 10 can't be one of its; ");
    assert_int_equal(rows(w), 0);
    register_malformed(w->registry, w->now, "no head");
    struct register_counts counts;
    register_count(w->registry, &counts);
    assert_int_equal(counts.refused, 1);
    assert_int_equal(counts.malformed, 1);
    world_destroy(w);
}

static void many_results_of_one_commit_share_messages(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    for (uint64_t i = 0; i < 2500; i++)
        DELIVER(w, .first = i, .count = 1);
    commit(w);
    size_t n = 0;
    for (const char *at = w->heard; (at = strstr(at, "recorded ")); at++)
        n++;
    assert_int_equal(n, 2500);
    world_destroy(w);
}

static void an_absent_ventilator_costs_nothing(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    register_ventilator(w->registry, w->now, false);
    DELIVER(w, .first = 0, .count = 3);
    commit(w);
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    assert_heard(w, "hello; ");
    send_ask(w, BATCH_ID);
    assert_heard(w, "records 3 of 0+3; ");
    world_destroy(w);
}

static void without_memory_nothing_is_answered_and_it_comes_again(void **state)
{
    (void)state;
    struct world *w = world_with_batch(3);
    w->no_memory = true;
    DELIVER(w, .first = 0, .count = 3);
    CLOSE(w, .number = 1, .first = 0, .count = 3);
    send_register(w, "batch-other-one-", "b2", -1);
    send_forget(w, BATCH_ID);
    DELIVER(w, .first = 0, .count = 3, .is_attempt = true);
    commit(w);
    assert_heard(w, "");
    assert_int_equal(batch_seen(w)->recorded, 0);
    w->no_memory = false;
    send_ask(w, BATCH_ID);
    assert_heard(w, "records 0 of ; ");
    DELIVER(w, .first = 0, .count = 3);
    commit(w);
    assert_heard(w, "recorded 0+3 all; ");
    assert_true(batch_seen(w)->complete);
    world_destroy(w);
}

/* ---- closings ---- */

static void a_closing_ends_the_rest_once(void **state)
{
    (void)state;
    struct world *w = world_with_batch(10000000);
    DELIVER(w, .first = 5, .count = 10);
    CLOSE(w, .number = 4, .first = 0, .count = 10000000, .reason = WIRE__REASON__CANCEL, .whole = true);
    CLOSE(w, .number = 4, .first = 0, .count = 10000000, .reason = WIRE__REASON__CANCEL, .whole = true);
    assert_heard(w, "");
    commit(w);
    assert_heard(w, "recorded 5+10 all; closing 4 closed 9999990; closing 4 closed 9999990; ");
    const struct register_batch *batch = batch_seen(w);
    assert_true(batch->complete && batch->whole_cancelled);
    assert_int_equal(batch->recorded, 10000000);
    assert_int_equal(batch->counts[WIRE__VERDICT__CANCELLED], 9999990);
    assert_int_equal(rows(w), 2);
    /* The same number of another ventilator's life is another closing. */
    CLOSE(w, .number = 4, .first = 0, .count = 10, .session = 2);
    assert_heard(w, "closing 4 closed 0; ");
    DELIVER(w, .first = 20, .count = 1);
    assert_heard(w, "recorded 20+1 none; ");
    struct register_counts counts;
    register_count(w->registry, &counts);
    assert_int_equal(counts.bitmap_bytes, 0);
    world_destroy(w);
}

static void deadlines_are_counted_apart(void **state)
{
    (void)state;
    struct world *w = world_with_batch(30);
    DELIVER(w, .first = 0, .count = 5, .verdict = WIRE__VERDICT__DEADLINE_EXCEEDED, .reason = WIRE__REASON__TIMEOUT);
    DELIVER(w, .first = 5, .count = 5, .verdict = WIRE__VERDICT__DEADLINE_EXCEEDED, .reason = WIRE__REASON__MIN_RUNTIME);
    CLOSE(w, .number = 1, .first = 0, .count = 30, .verdict = WIRE__VERDICT__DEADLINE_EXCEEDED, .reason = WIRE__REASON__DEADLINE);
    commit(w);
    assert_int_equal(batch_seen(w)->by_deadline, 25);
    assert_true(batch_seen(w)->complete);
    assert_false(batch_seen(w)->whole_cancelled);
    world_destroy(w);
}

static void a_whole_cancel_counts_when_something_was_cancelled(void **state)
{
    (void)state;
    struct world *w = world_with_batch(2);
    DELIVER(w, .first = 0, .count = 1);
    DELIVER(w, .first = 1, .count = 1, .verdict = WIRE__VERDICT__CANCELLED, .reason = WIRE__REASON__CANCEL);
    commit(w);
    assert_true(batch_seen(w)->whole_cancelled);
    world_destroy(w);
    w = world_with_batch(1);
    DELIVER(w, .first = 0, .count = 1);
    CLOSE(w, .number = 1, .first = 0, .count = 1, .whole = true);
    commit(w);
    assert_heard(w, "recorded 0+1 all; closing 1 closed 0; ");
    assert_false(batch_seen(w)->whole_cancelled);       /* it came too late */
    world_destroy(w);
}

static void scattered_tasks_are_closed_by_bitmaps(void **state)
{
    (void)state;
    struct world *w = world_with_batch(5000000);
    for (uint64_t i = 0; i < 3000; i++)
        DELIVER(w, .first = i * 2, .count = 1);
    commit(w);
    w->heard_len = 0;
    CLOSE(w, .number = 1, .first = 1, .count = 6000000);      /* beyond the end: as far as there are tasks */
    commit(w);
    assert_heard(w, "closing 1 closed 4997000; ");
    assert_int_equal(rows_of_kind(w, ROW_CLOSING), 2);
    assert_true(batch_seen(w)->complete);
    world_destroy(w);
}

static void closings_of_strangers_are_answered(void **state)
{
    (void)state;
    struct world *w = world_new();
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    commit(w);
    CLOSE(w, .number = 9, .first = 0, .count = 3);
    assert_heard(w, "hello; closing 9 closed 0; ");
    world_destroy(w);
}

/* ---- attempts ---- */

static void attempts_are_kept_and_settle_nothing(void **state)
{
    (void)state;
    struct world *w = world_with_batch(10);
    DELIVER(w, .first = 0, .count = 4, .is_attempt = true, .verdict = WIRE__VERDICT__FAILED);
    commit(w);
    assert_heard(w, "attempt 0+4 all*1; ");
    assert_int_equal(batch_seen(w)->recorded, 0);
    /* The same again says the same, and is stored once. */
    DELIVER(w, .first = 0, .count = 4, .is_attempt = true, .verdict = WIRE__VERDICT__FAILED);
    assert_heard(w, "attempt 0+4 all*1; ");
    assert_int_equal(rows(w), 1);
    DELIVER(w, .first = 1, .count = 2, .is_attempt = true, .attempt = 2);
    DELIVER(w, .first = 3, .count = 1);
    DELIVER(w, .first = 2, .count = 2, .is_attempt = true, .attempt = 3);
    send_ask(w, BATCH_ID);
    assert_heard(w, "");
    commit(w);
    assert_heard(w, "attempt 1+2 all*2; recorded 3+1 all; attempt 2+2 2+1*3*0; records 1 of 3+1 0+1*1 1+1*2 2+1*3; ");
    DELIVER(w, .first = 3, .count = 1, .is_attempt = true, .attempt = 4);
    assert_heard(w, "attempt 3+1 none; ");
    CLOSE(w, .number = 1, .first = 0, .count = 10);
    commit(w);
    send_ask(w, BATCH_ID);
    assert_heard(w, "closing 1 closed 9; records 10 of 0+10; ");
    world_destroy(w);
}

static void a_late_attempt_is_one_more(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    for (uint32_t attempt = 20; attempt > 0; attempt -= 2)
        DELIVER(w, .first = 0, .count = 1, .is_attempt = true, .attempt = attempt);
    for (uint32_t attempt = 20; attempt > 0; attempt -= 2)
        DELIVER(w, .first = 0, .count = 1, .is_attempt = true, .attempt = attempt);
    commit(w);
    w->heard_len = 0;
    send_ask(w, BATCH_ID);
    assert_heard(w, "records 0 of  0+1*8; ");       /* of the last eight one knows */
    world_destroy(w);
}

/* ---- ask, forget ---- */

static void ask_answers_with_spans_or_a_bitmap(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    send_ask(w, "nobody-knows-it-");
    assert_heard(w, "records unknown 0 of ; ");
    for (uint64_t i = 0; i < 1001; i++)
        DELIVER(w, .first = i * 5, .count = 1);
    send_ask(w, BATCH_ID);
    w->heard_len = 0;
    commit(w);
    assert_non_null(strstr(w->heard, "records 1001 of a bitmap; "));
    assert_int_equal(w->bitmap.len, 1024);
    for (uint64_t i = 0; i < 8192; i++)
        assert_int_equal(w->bitmap.data[i / 8] >> (i % 8) & 1, i % 5 == 0 && i <= 5000);
    world_destroy(w);
}

static void ask_is_answered_in_parts(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    for (uint64_t i = 0; i < 1001; i++)
        DELIVER(w, .first = i * 2, .count = 1);
    DELIVER(w, .first = 4194303, .count = 1);
    DELIVER(w, .first = 4194304, .count = 5);
    DELIVER(w, .first = 9000002, .count = 2, .verdict = WIRE__VERDICT__FAILED, .is_attempt = true);
    commit(w);
    w->heard_len = 0;
    send_ask(w, BATCH_ID);
    assert_heard(w, "records 1007 of a bitmap to 4194304; ");
    assert_int_equal(w->bitmap.len, 4194304 / 8);
    assert_int_equal(w->bitmap.data[0], 0x55);
    assert_int_equal(w->bitmap.data[w->bitmap.len - 1], 0x80);
    DELIVER(w, .first = 9000002, .count = 1, .attempt = 2);       /* what comes between the parts is in the later one */
    commit(w);
    w->heard_len = 0;
    send_ask_from(w, BATCH_ID, 4194304);
    assert_heard(w, "records 1008 of 4194304+5,9000002+1 9000003+1*1; ");
    send_ask_from(w, BATCH_ID, 9000004);
    assert_heard(w, "records 1008 of ; ");
    world_destroy(w);
}

static void so_are_its_notes(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    w->deaf = true;
    for (uint64_t i = 0; i < 100000; i += 2)
        DELIVER(w, .first = i, .count = 1, .verdict = WIRE__VERDICT__FAILED, .is_attempt = true);
    commit(w);
    send_ask(w, BATCH_ID);
    assert_int_equal(w->records->n_attempts, 40000);
    assert_true(w->records->more);
    assert_int_equal(w->records->to, 80000);
    send_ask_from(w, BATCH_ID, 80000);
    assert_int_equal(w->records->n_attempts, 10000);
    assert_int_equal(w->records->attempts[0]->first, 80000);
    assert_false(w->records->more);
    world_destroy(w);
}

/* No memory: nothing is said, and the next time all is done. */
static void a_batch_that_cannot_be_forgotten_now_is_forgotten_later(void **state)
{
    (void)state;
    struct world *w = world_with_batch(3);
    DELIVER(w, .first = 0, .count = 3);
    commit(w);
    w->heard_len = 0;
    w->no_memory = true;
    send_forget(w, BATCH_ID);
    commit(w);
    assert_heard(w, "");
    assert_non_null(register_find(w->registry, "b1"));
    w->no_memory = false;
    send_forget(w, BATCH_ID);
    commit(w);
    assert_heard(w, "forgotten; ");
    assert_null(register_find(w->registry, "b1"));
    world_destroy(w);
}

static void a_forgotten_batch_leaves_a_tombstone(void **state)
{
    (void)state;
    struct world *w = world_with_batch(3);
    uint64_t number = batch_seen(w)->number;
    DELIVER(w, .first = 0, .count = 3);
    send_forget(w, BATCH_ID);
    assert_null(register_find(w->registry, "b1"));
    struct register_counts counts;
    register_count(w->registry, &counts);
    assert_true(counts.batches == 0 && counts.open_batches == 0 && counts.bitmap_bytes == 0);
    assert_true(register_was_forgotten(w->registry, "b1"));
    assert_true(register_was_forgotten(w->registry, "62617463682d6261"));
    assert_false(register_was_forgotten(w->registry, "b2"));
    commit(w);
    assert_heard(w, "recorded 0+3 all; forgotten; ");
    assert_null(register_find_number(w->registry, number));
    assert_int_equal(register_prefix(w->registry, number, 1), 1);
    DELIVER(w, .first = 0, .count = 3);
    send_forget(w, BATCH_ID);
    send_ask(w, BATCH_ID);
    send_register(w, BATCH_ID, "b1", 3);
    assert_heard(w, "recorded 0+3 none; forgotten; records unknown 0 of ; registered unknown; ");
    crash(w);
    assert_int_equal(rows(w), 0);
    assert_true(register_was_forgotten(w->registry, "b1"));
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    send_register(w, BATCH_ID, "b1", 3);
    send_register(w, "batch-other-one-", "b2", -1);
    assert_heard(w, "hello; registered unknown; ");
    assert_true(register_find(w->registry, "b2")->number > number);
    world_destroy(w);
}

/* ---- what is first, and not yet on disk ---- */

static void the_prefix_stops_at_what_is_not_committed(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    DELIVER(w, .first = 0, .count = 50);
    commit(w);
    DELIVER(w, .first = 20, .count = 40);
    assert_int_equal(prefix(w, 0), 50);
    assert_int_equal(prefix(w, 30), 50);
    assert_int_equal(prefix(w, 55), 55);
    assert_int_equal(prefix(w, 70), 70);
    commit(w);
    assert_int_equal(prefix(w, 0), 60);
    CLOSE(w, .number = 1, .first = 0, .count = 100000);
    assert_int_equal(prefix(w, 0), 60);
    commit(w);
    assert_int_equal(prefix(w, 0), 100000);
    world_destroy(w);
}

static void full_blocks_take_no_memory(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    struct register_counts counts;
    for (uint64_t block = 0; block < 100; block++)
        for (uint64_t i = 0; i < 4; i++)
            DELIVER(w, .first = block * 4096 + i * 1024, .count = 1024);
    register_count(w->registry, &counts);
    assert_true(counts.bitmap_bytes <= 256 * sizeof(void *));
    DELIVER(w, .first = 100 * 4096, .count = 1);
    size_t before = counts.bitmap_bytes;
    register_count(w->registry, &counts);
    assert_in_range(counts.bitmap_bytes - before, 512, 600);
    world_destroy(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_comes_first_and_again_when_asked),
        cmocka_unit_test(heartbeats_go_on_until_silence),
        cmocka_unit_test(full_and_leaving_are_told),
        cmocka_unit_test(another_journal_is_refused_while_batches_are_open),
        cmocka_unit_test(a_refusal_and_a_goodbye_end_the_talk),
        cmocka_unit_test(registered_is_said_after_the_commit),
        cmocka_unit_test(an_empty_batch_is_complete_at_once),
        cmocka_unit_test(a_total_below_what_is_recorded_is_not_taken),
        cmocka_unit_test(batches_are_found_by_what_people_type),
        cmocka_unit_test(a_result_is_recorded_once_it_is_on_disk),
        cmocka_unit_test(duplicates_are_released_and_not_stored),
        cmocka_unit_test(part_of_a_result_can_be_the_first),
        cmocka_unit_test(a_large_frame_in_parts_keeps_its_bitmap),
        cmocka_unit_test(results_of_strangers_are_released),
        cmocka_unit_test(a_result_beyond_the_batch_is_refused),
        cmocka_unit_test(many_results_of_one_commit_share_messages),
        cmocka_unit_test(an_absent_ventilator_costs_nothing),
        cmocka_unit_test(without_memory_nothing_is_answered_and_it_comes_again),
        cmocka_unit_test(a_closing_ends_the_rest_once),
        cmocka_unit_test(deadlines_are_counted_apart),
        cmocka_unit_test(a_whole_cancel_counts_when_something_was_cancelled),
        cmocka_unit_test(scattered_tasks_are_closed_by_bitmaps),
        cmocka_unit_test(closings_of_strangers_are_answered),
        cmocka_unit_test(attempts_are_kept_and_settle_nothing),
        cmocka_unit_test(a_late_attempt_is_one_more),
        cmocka_unit_test(ask_answers_with_spans_or_a_bitmap),
        cmocka_unit_test(ask_is_answered_in_parts),
        cmocka_unit_test(so_are_its_notes),
        cmocka_unit_test(a_forgotten_batch_leaves_a_tombstone),
        cmocka_unit_test(a_batch_that_cannot_be_forgotten_now_is_forgotten_later),
        cmocka_unit_test(the_prefix_stops_at_what_is_not_committed),
        cmocka_unit_test(full_blocks_take_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
