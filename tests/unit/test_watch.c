/* The control tower in a terminal: from what is known to cells, and from keys to actions. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ventilator/cli_watch.h"

#define S INT64_C(1000000)

static struct watch_batch batches[3];
static struct watch_worker workers[600];
static struct watch_attempt attempts[2];
static struct watch w;
static char text[64 * 1024];

static int setup(void **state)
{
    (void)state;
    setlocale(LC_CTYPE, "C.UTF-8");
    batches[0] = (struct watch_batch){.id = "old1", .name = "thumbs", .state = WIRE__STATE__COMPLETE, .total = 20, .place = 0};
    batches[0].counts[WIRE__VERDICT__OK] = 18;
    batches[0].counts[WIRE__VERDICT__FAILED] = 2;
    batches[1] = (struct watch_batch){.id = "b7k2", .name = "nightly", .state = WIRE__STATE__SEALED, .total = 10000000, .queued = 7500000,
                                      .running = 64, .rate = 812.4, .has_eta = true, .eta_us = 90 * S, .has_deadline = true,
                                      .deadline_us = 120 * S, .place = 1};
    batches[1].counts[WIRE__VERDICT__OK] = 2499936;
    batches[2] = (struct watch_batch){.id = "c9x1", .name = "evil", .state = WIRE__STATE__OPEN, .total = 5, .queued = 5, .place = 2,
                                      .note = "no worker is connected: the tasks wait"};
    for (size_t i = 0; i < 600; i++) {
        workers[i] = (struct watch_worker){.state = "ready", .slots = 64, .busy = 32, .held = 40, .window = 80, .finished = 1000 + i};
        snprintf(workers[i].name, sizeof workers[i].name, "w%03zu", i);
    }
    attempts[0] = (struct watch_attempt){.id = "b7k2", .worker = "w007", .index = 4711, .attempt = 2, .age_us = 30 * S, .has_left = true, .left_us = 30 * S};
    attempts[1] = (struct watch_attempt){.id = "b7k2", .worker = "w008", .index = 12, .attempt = 1, .age_us = 90 * S};
    w = (struct watch){.batches = batches, .n_batches = 3, .workers = workers, .n_workers = 2, .attempts = attempts, .n_attempts = 2,
                       .system = {.workers = 2, .slots = 128, .sink = true}, .endpoint = "tcp://127.0.0.1:5555", .heard = true};
    return 0;
}

/* Draws, and looks at every cell: lines as text, blanks at their ends taken away. */
static const char *draw(unsigned cols, unsigned rows)
{
    struct watch_cell *cells = calloc((size_t)cols * rows, sizeof *cells);
    struct watch_screen s = {.cols = cols, .rows = rows, .cells = cells};
    assert_non_null(cells);
    watch_layout(&w, &s);
    size_t n = 0;
    for (unsigned r = 0; r < rows; r++) {
        size_t last = n;
        for (unsigned c = 0; c < cols; c++) {
            const struct watch_cell *cell = &cells[(size_t)r * cols + c];
            char one[16] = "";
            mbstate_t state = {0};
            assert_true(cell->style < WATCH_STYLES);
            if (cell->ch == 0)
                continue;
            size_t len = wcrtomb(one, cell->ch, &state);
            assert_true(len > 0 && len < sizeof one && n + len + 2 < sizeof text);
            memcpy(text + n, one, len);
            n += len;
            if (cell->ch != L' ')
                last = n;
        }
        n = last;
        text[n++] = '\n';
    }
    text[n] = '\0';
    free(cells);
    return text;
}

static void has(const char *screen, const char *part)
{
    if (!strstr(screen, part))
        fail_msg("the screen should have '%s', it is:\n%s", part, screen);
}

static void lacks(const char *screen, const char *part)
{
    if (strstr(screen, part))
        fail_msg("the screen should not have '%s', it is:\n%s", part, screen);
}

static void press(const char *keys)
{
    for (; *keys != '\0'; keys++)
        assert_int_equal(watch_key(&w, (unsigned char)*keys), WATCH_NOTHING);
}

/* ---- the layout ---- */

static const char small[] =
    " Tarmac control tower                                live  tcp://127.0.0.1:5555\n"
    " 2 workers, 64/128 slots busy, 7500k queued, 64 at workers, 812/s\n"
    "> 1 Batches  3, by newest\n"
    "  BATCH   PROGRESS           DONE   RUN NOT OK     RATE    ETA DEADLINE NAME\n"
    "> c9x1    ░░░░░░   0%        0/5+     0      -    0.0/s      -        - evil: no\n"
    "  b7k2    █░░░░░  24% 2500k/10.0M    64      -    812/s  1m30s    2m00s nightly\n"
    "  old1    ██████ 100%       20/20     0      2        -   done        - thumbs\n"
    "\n\n\n"
    "  2 Workers  2, by name\n"
    "  WORKER           STATE    SLOTS                 HELD FINISHED  SILENT HANDLERS\n"
    "  w000             ready    ████░░░░ 32/64       40/80     1000    0.0s\n"
    "  w001             ready    ████░░░░ 32/64       40/80     1001    0.0s\n"
    "\n\n"
    "  3 Slowest  2, by age\n"
    "  BATCH          TASK ATTEMPT WORKER           RUNS FOR    LEFT FUEL\n"
    "  b7k2             12       1 w008                1m30s       -\n"
    "  b7k2           4711       2 w007                  30s     30s ████████░░░░░░░░\n"
    "\n\n\n"
    " ? help  Tab panel  jk move  s sort  / filter  x why  c cancel  e extend  d drai\n";

static void a_terminal_of_80_by_24(void **state)
{
    (void)state;
    assert_string_equal(draw(80, 24), small);
}

static void a_wide_one_has_more_columns(void **state)
{
    (void)state;
    const char *screen = draw(200, 60);
    has(screen, "STATE      PROGRESS           DONE  QUEUED   RUN      OK  FAILED   LATE CANCELLED  LOST NOT OK     RATE    ETA DEADLINE NAME");
    has(screen, "evil: no worker is connected: the tasks wait\n");
    has(screen, "complete   ██████ 100%       20/20       0     0      18       2      -         -     -      2        -   done        - thumbs\n");
    has(screen, "? help  Tab panel  jk move  s sort  / filter  x why  c cancel  e extend  d drain\n");
    w.n_workers = 600;
    screen = draw(200, 60);
    has(screen, "2 Workers  600, some not shown, by name");
}

static void every_size_is_drawn_without_a_cell_outside(void **state)
{
    static const enum watch_mode modes[] = {WATCH_LOOK, WATCH_HELP, WATCH_STORY, WATCH_CONFIRM, WATCH_TYPE_FILTER};
    (void)state;
    w.n_workers = 600;
    snprintf(w.story, sizeof w.story, "one\ntwo\n");
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        w.mode = modes[m];
        for (unsigned rows = 1; rows < 30; rows++)
            for (unsigned cols = 1; cols < 210; cols += rows < 4 ? 1 : 13)
                draw(cols, rows);
    }
}

static void a_small_one_shows_the_panel_that_is_looked_at(void **state)
{
    (void)state;
    w.panel = WATCH_WORKERS;
    const char *screen = draw(60, 10);
    has(screen, "w001");
    lacks(screen, "1 Batches");
}

static void without_utf8_it_is_plain(void **state)
{
    (void)state;
    setlocale(LC_CTYPE, "C");
    snprintf(batches[2].name, sizeof batches[2].name, "räp");
    for (const char *p = draw(100, 24); *p != '\0'; p++)
        assert_true((unsigned char)*p < 0x80);
    has(text, "#.....  24%");
    has(text, "r??p");
}

static void names_cannot_write_over_the_screen(void **state)
{
    (void)state;
    batches[2].note[0] = '\0';
    watch_copy(batches[2].name, sizeof batches[2].name, "a\033[2J\nb\x7f");
    has(draw(100, 24), "a?[2J?b?");
    watch_copy(batches[2].name, sizeof batches[2].name, "x\u202ey\u0301z\xff 日本");
    has(draw(100, 24), "x?y?z? 日本");
    char cut[6];
    watch_copy(cut, sizeof cut, "abcd日");
    assert_string_equal(cut, "abcd");
}

static void stale_data_is_marked(void **state)
{
    (void)state;
    w.stale = true;
    w.age_us = 75 * S;
    const char *screen = draw(80, 24);
    has(screen, "STALE: no answer for 1m15s");
    has(screen, " 45s nightly");                    /* the deadline goes on counting down meanwhile */
    w.heard = false;
    has(draw(80, 24), "connecting to tcp://127.0.0.1:5555");
}

static void no_sink_is_said(void **state)
{
    (void)state;
    w.system.sink = false;
    w.system.journal_full = true;
    has(draw(200, 24), "NO SINK, JOURNAL'S DISK FULL");
}

/* ---- keys ---- */

static void a_cancel_asks_first(void **state)
{
    (void)state;
    press("jc");
    has(draw(80, 24), "cancel all of batch b7k2? (y/n)");
    press("n");
    has(draw(80, 24), "nothing was changed");
    press("c");
    assert_int_equal(watch_key(&w, 'y'), WATCH_CANCEL);
    assert_string_equal(w.target.name, "b7k2");
    assert_false(w.target.has_index);
    press("3jc");
    has(draw(80, 24), "cancel task 4711 of batch b7k2? (y/n)");
    assert_int_equal(watch_key(&w, 'y'), WATCH_CANCEL);
    assert_true(w.target.has_index);
    assert_int_equal(w.target.index, 4711);
}

static void an_extension_is_a_time(void **state)
{
    (void)state;
    press("je10x");
    assert_int_equal(watch_key(&w, WATCH_KEY_BACKSPACE), WATCH_NOTHING);
    press("m");
    has(draw(80, 24), "new deadline of b7k2, from now, such as 10m: 10m_");
    assert_int_equal(watch_key(&w, WATCH_KEY_ENTER), WATCH_NOTHING);
    has(draw(80, 24), "let batch b7k2 end within 10m00s from now? (y/n)");
    assert_int_equal(watch_key(&w, 'y'), WATCH_EXTEND);
    assert_int_equal(w.target.deadline, 600 * 1000 * S);
    press("eno");
    assert_int_equal(watch_key(&w, WATCH_KEY_ENTER), WATCH_NOTHING);
    has(draw(80, 24), "'no' is no time; a number and ms, s, m, h or d");
    press("e1m");
    assert_int_equal(watch_key(&w, WATCH_KEY_ESCAPE), WATCH_NOTHING);
    assert_int_equal(w.mode, WATCH_LOOK);
}

static void a_drain_needs_a_worker(void **state)
{
    (void)state;
    press("d");
    has(draw(80, 24), "choose a worker first");
    press("2jd");
    has(draw(80, 24), "empty worker w001, and let it leave? (y/n)");
    assert_int_equal(watch_key(&w, 'y'), WATCH_DRAIN);
    press("c");
    has(draw(80, 24), "choose a batch first");
    w.n_batches = 0;
    press("1c");
    has(draw(80, 24), "there is nothing here to choose");
}

static void what_is_chosen_stays_chosen_when_rows_move(void **state)
{
    (void)state;
    press("j");
    assert_string_equal(w.chosen[WATCH_BATCHES], "b7k2");
    batches[0].place = 7;                    /* another order … */
    press("s");
    has(draw(80, 24), "> b7k2");
    batches[1].id[0] = 'z';                  /* … and gone: the first one is it */
    assert_int_equal(watch_key(&w, 'c'), WATCH_NOTHING);
    assert_string_not_equal(w.target.name, "b7k2");
}

static void sorts_and_filters(void **state)
{
    (void)state;
    press("s");
    const char *screen = draw(80, 24);
    has(screen, "by deadline");
    assert_true(strstr(screen, "b7k2 ") < strstr(screen, "c9x1"));
    press("s");
    screen = draw(80, 24);
    has(screen, "by not ok");
    assert_true(strstr(screen, "old1") < strstr(screen, "c9x1"));
    press("/THUMB");
    screen = draw(80, 24);
    has(screen, "filter: THUMB_");
    has(screen, "old1");
    lacks(screen, "c9x1");
    has(screen, "nothing matches the filter");
    assert_int_equal(watch_key(&w, WATCH_KEY_ENTER), WATCH_NOTHING);
    assert_int_equal(watch_key(&w, WATCH_KEY_ESCAPE), WATCH_NOTHING);
    has(draw(80, 24), "c9x1");
}

static void the_rest_of_the_keys(void **state)
{
    (void)state;
    w.n_workers = 600;
    assert_int_equal(watch_key(&w, WATCH_KEY_TAB), WATCH_NOTHING);
    assert_int_equal(w.panel, WATCH_WORKERS);
    for (int i = 0; i < 100; i++)
        watch_key(&w, WATCH_KEY_PAGE_DOWN);
    has(draw(80, 24), "> w599");
    watch_key(&w, WATCH_KEY_PAGE_UP);
    has(draw(80, 24), "> w589");
    assert_int_equal(watch_key(&w, WATCH_KEY_BACK_TAB), WATCH_NOTHING);
    press("?");
    has(draw(80, 24), "Help (any key goes back)");
    press("z");
    assert_int_equal(watch_key(&w, 'x'), WATCH_EXPLAIN);
    assert_int_equal(watch_key(&w, 'q'), WATCH_QUIT);
}

static void lines_for_a_pipe(void **state)
{
    char line[300];
    (void)state;
    watch_line_of_batch(&batches[1], S, line, sizeof line);
    assert_string_equal(line, "b7k2 \"nightly\" sealed 2499936/10000000  ok 2499936  running 64  queued 7500000  812.4/s  eta 1m30s  deadline 1m59s");
    watch_line_of_batch(&batches[0], 0, line, sizeof line);
    assert_string_equal(line, "old1 \"thumbs\" complete 20/20  ok 18  failed 2");
    for (size_t size = 1; size < sizeof line; size++) {
        watch_line_of_batch(&batches[2], 0, line, size);
        assert_true(strlen(line) < size);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_terminal_of_80_by_24),
        TEST(a_wide_one_has_more_columns),
        TEST(every_size_is_drawn_without_a_cell_outside),
        TEST(a_small_one_shows_the_panel_that_is_looked_at),
        TEST(without_utf8_it_is_plain),
        TEST(names_cannot_write_over_the_screen),
        TEST(stale_data_is_marked),
        TEST(no_sink_is_said),
        TEST(a_cancel_asks_first),
        TEST(an_extension_is_a_time),
        TEST(a_drain_needs_a_worker),
        TEST(what_is_chosen_stays_chosen_when_rows_move),
        TEST(sorts_and_filters),
        TEST(the_rest_of_the_keys),
        TEST(lines_for_a_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
