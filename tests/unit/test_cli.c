/* The command line's pure parts: what was typed becomes Options, what was recorded becomes text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ventilator/cli_job.h"
#include "ventilator/cli_output.h"

/* ---- a command line, parsed ---- */

#define MOST 48

struct typed {
    struct job job;
    char *argv[MOST + 2];
    int argc;
};

/* Words with blanks between them. */
static bool type(struct typed *t, const char *line, int *ret_code)
{
    static char words[4][1024];
    static int turn;
    char *rest = words[turn++ % 4], *word;
    snprintf(rest, sizeof words[0], "submit %s", line);
    t->argc = 0;
    while ((word = strsep(&rest, " ")) && t->argc < MOST)
        if (*word)
            t->argv[t->argc++] = word;
    t->argv[t->argc] = NULL;
    return job_parse(&t->job, &submit_command, t->argc, t->argv, ret_code);
}

static struct job *parsed(struct typed *t, const char *line)
{
    int code;
    if (!type(t, line, &code))
        fail_msg("refused: %s", line);
    return &t->job;
}

/* The sentence on standard error. */
static void refused(const char *line, const char *words)
{
    char said[1024];
    struct typed t;
    int code = 0, saved = dup(STDERR_FILENO), ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    dup2(ends[1], STDERR_FILENO);
    bool went = type(&t, line, &code);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    ssize_t n = read(ends[0], said, sizeof said - 1);
    close(ends[0]);
    said[n > 0 ? n : 0] = '\0';
    if (went)
        fail_msg("should be refused: %s", line);
    assert_int_equal(code, 2);
    if (!strstr(said, words))
        fail_msg("'%s' should say '%s', says '%s'", line, words, said);
    char *end = strchr(said, '\n');
    assert_true(end && end[1] == '\0');
}

static void defaults(void **state)
{
    struct typed t;
    (void)state;
    struct job *job = parsed(&t, "-- echo {} ::: a b");
    const Wire__Options *o = &job->batch.options;
    assert_int_equal(o->n_command, 2);
    assert_string_equal(o->command[1], "{}");
    assert_string_equal(o->handler, "");
    assert_null(o->deadline);
    assert_null(o->timeout);
    assert_int_equal(o->grace_us, 2000000);
    assert_int_equal(o->weight, 1);
    assert_int_equal(o->max_output, 1 << 20);
    assert_int_equal(o->retry->retries, 0);
    assert_true(o->retry->on_failed);
    assert_false(o->retry->on_lost);
    assert_int_equal(o->retry->backoff_us, 1000000);
    assert_int_equal(o->retry->backoff_factor_milli, 2000);
    assert_int_equal(o->retry->backoff_max_us, 60000000);
    assert_int_equal(o->halt->when, WIRE__HALT_WHEN__HALT_NEVER);
    assert_null(o->range);
    assert_int_equal(job->spec.kind, ITEMS_WORDS);
    assert_int_equal(job->spec.n_words, 2);
    assert_string_equal(job->spec.words[1], "b");
    job_release(job);
}

static void everything_given(void **state)
{
    struct typed t;
    (void)state;
    struct job *job = parsed(&t, "--handler h --deadline 5m --timeout 250ms --grace 0 --min-runtime 1s --retries 3 --retry-on lost,7,9 "
                                 "--backoff 500ms,1.5,10s --priority -4 --weight 3 --value user=ada=x --halt soon,fail=10% --range 8-11");
    const Wire__Options *o = &job->batch.options;
    assert_string_equal(o->handler, "h");
    assert_int_equal(o->n_command, 0);
    assert_int_equal(o->deadline->us, 300000000);
    assert_int_equal(o->timeout->us, 250000);
    assert_int_equal(o->grace_us, 0);
    assert_int_equal(o->min_runtime_us, 1000000);
    assert_int_equal(o->retry->retries, 3);
    assert_false(o->retry->on_failed);
    assert_true(o->retry->on_lost);
    assert_int_equal(o->retry->n_on_codes, 2);
    assert_int_equal(o->retry->on_codes[1], 9);
    assert_int_equal(o->retry->backoff_us, 500000);
    assert_int_equal(o->retry->backoff_factor_milli, 1500);
    assert_int_equal(o->priority, -4);
    assert_int_equal(o->weight, 3);
    assert_int_equal(o->n_values, 1);
    assert_string_equal(o->values[0]->key, "user");
    assert_string_equal(o->values[0]->value, "ada=x");
    assert_int_equal(o->halt->when, WIRE__HALT_WHEN__HALT_SOON);
    assert_int_equal(o->halt->percent, 10);
    assert_int_equal(o->range->first, 8);
    assert_int_equal(o->range->count, 4);
    assert_int_equal(o->range->step, 1);
    job_release(job);
}

static void sources(void **state)
{
    struct typed t;
    (void)state;
    struct job *job = parsed(&t, "--files a b c --pipe -- cat ::");
    assert_int_equal(job->spec.kind, ITEMS_FILES);
    assert_int_equal(job->spec.n_words, 3);
    assert_string_equal(job->spec.words[2], "c");
    assert_true(job->batch.options.pipe);
    assert_int_equal(job->words.n_command, 2);
    job_release(job);
    job = parsed(&t, "-a list -0 -- cat");
    assert_int_equal(job->spec.kind, ITEMS_LINES);
    assert_string_equal(job->spec.path, "list");
    assert_int_equal(job->spec.separator, 0);
    job_release(job);
    job = parsed(&t, "--blocks 64K -a list -- cat");
    assert_int_equal(job->spec.kind, ITEMS_BLOCKS);
    assert_int_equal(job->spec.block_size, 65536);
    job_release(job);
    job = parsed(&t, "-- cat");
    assert_int_equal(job->spec.kind, ITEMS_LINES);
    assert_null(job->spec.path);
    job_release(job);
    job = parsed(&t, "--handler h ::: --not-a-flag --");
    assert_int_equal(job->spec.n_words, 2);
    assert_string_equal(job->spec.words[0], "--not-a-flag");
    job_release(job);
}

static void what_is_refused(void **state)
{
    (void)state;
    refused("", "nothing to run");
    refused("echo {}", "a command comes behind --");
    refused("--handler h -- echo", "one of both");
    refused("--range 9-1 -- true", "--range 9-1");
    refused("--range x -- true", "--range x");
    refused("--range 1-2 -- true ::: a", "one source");
    refused("-0 -- true ::: a", "-0");
    refused("-- echo {} ::: a b ::: c d", "':::' among the items");
    refused("-- echo {} ::: a ::::+ list", "'::::+' among the items");
    refused("-- echo {} :::: list", "'::::' in the command");
    refused("--handler h ::: a :::+ b", "':::+' among the items");
    refused("--blocks 0 -- true", "--blocks");
    refused("--deadline 0 -- true", "--deadline 0s: it must be more than 0");
    refused("--timeout 99999d -- true", "--timeout");
    refused("--retry-on sometimes -- true", "--retry-on sometimes");
    refused("--retry-on 256 -- true", "exit codes");
    refused("--backoff 1s,0.5,60s -- true", "--backoff");
    refused("--backoff 1s,2 -- true", "--backoff");
    refused("--backoff 2m,2,60s -- true", "--backoff");
    refused("--halt now,fail=0 -- true", "--halt");
    refused("--halt soon,fail=101% -- true", "--halt");
    refused("--halt later,fail=1 -- true", "--halt");
    refused("--value novalue -- true", "--value novalue");
    refused("--value 1k=v -- true", "--value 1k=v");
    refused("--value a=1 --value a=2 -- true", "given before");
    refused("--traceparent junk -- true", "--traceparent junk");
    refused("--max-output 1G -- true", "--max-output");
    refused("--verdict ok,fine -- true", "--verdict");
    refused("--ventilator nonsense -- true", "nonsense");
}

static void tracing(void **state)
{
    static const char tp[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    struct typed t;
    (void)state;
    setenv("TRACEPARENT", tp, 1);
    setenv("TRACESTATE", "a=b", 1);
    struct job *job = parsed(&t, "-- true");
    assert_string_equal(job->batch.options.traceparent, tp);
    assert_string_equal(job->batch.options.tracestate, "a=b");
    job_release(job);
    setenv("TRACEPARENT", "junk", 1);
    job = parsed(&t, "-- true");
    assert_string_equal(job->batch.options.traceparent, "");
    job_release(job);
    unsetenv("TRACEPARENT");
    unsetenv("TRACESTATE");
}

static void spans(void **state)
{
    const char *const texts[] = {"3,7-9", "0"};
    const char *const wrong[] = {"", "a", "9-7", "1-", "-1", "1,,2"};
    struct string_list list = {(const char **)(uintptr_t)texts, 2};
    struct why why = {""};
    Wire__Span **got;
    size_t n;
    (void)state;
    assert_int_equal(cli_parse_spans(&list, &got, &n, &why), 0);
    assert_int_equal(n, 3);
    assert_int_equal(got[1]->first, 7);
    assert_int_equal(got[1]->count, 3);
    assert_int_equal(got[2]->first, 0);
    assert_int_equal(got[2]->count, 1);
    cli_free_spans(got, n);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        list = (struct string_list){(const char **)(uintptr_t)&wrong[i], 1};
        assert_int_equal(cli_parse_spans(&list, &got, &n, &why), -1);
        assert_non_null(strstr(why.text, "--task"));
    }
}

/* ---- rendering ---- */

static Wire__Value user = {.key = (char *)(uintptr_t)"user", .value = (char *)(uintptr_t)"ada"};
static Wire__Value file = {.key = (char *)(uintptr_t)"file", .value = (char *)(uintptr_t)"/x/photo.a.jpg"};
static Wire__Value *const batch_values[] = {&user};
static Wire__Value *const task_values[] = {&file};

static const struct render_batch batch = {
    .short_id = "b7k2", .traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    .values = batch_values, .n_values = 1,
};

static struct stream_task a_task(const char *output, size_t len)
{
    return (struct stream_task){
        .index = 3, .verdict = WIRE__VERDICT__OK, .attempts = 1, .worker = "w1", .has_code = true, .queued_us = 4100,
        .run_us = 103249, .output = (const uint8_t *)output, .output_len = len, .errors = (const uint8_t *)"e", .errors_len = 1,
        .values = task_values, .n_values = 1, .sentence = "",
    };
}

static void as_json(void **state)
{
    struct text out = {0};
    struct stream_task task = a_task("x\n\0y", 4);
    (void)state;
    render_json(&out, &batch, &task);
    text_add(&out, "", 1);
    assert_string_equal((char *)out.bytes,
                        "{\"batch\":\"b7k2\",\"index\":3,\"verdict\":\"ok\",\"attempts\":1,\"worker\":\"w1\",\"exit\":0,\"signal\":null,"
                        "\"queued_ms\":4.1,\"run_ms\":103.2,\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\","
                        "\"values\":{\"user\":\"ada\",\"file\":\"/x/photo.a.jpg\"},\"stdout\":\"x\\n\\u0000y\",\"stderr\":\"e\","
                        "\"reason\":null}\n");
    text_release(&out);
}

static void as_json_what_is_not_text(void **state)
{
    struct text out = {0};
    struct stream_task task = a_task("\377\376", 2);
    json_error_t error;
    (void)state;
    task.verdict = WIRE__VERDICT__FAILED;
    task.reason = WIRE__REASON__SIGNAL;
    task.has_code = false;
    task.signal = 9;
    task.worker = "";
    task.output_cut = true;
    task.sentence = "it was killed";
    render_json(&out, &batch, &task);
    json_t *object = json_loadb((char *)out.bytes, out.len, 0, &error);
    assert_non_null(object);
    assert_string_equal(json_string_value(json_object_get(object, "stdout_base64")), "//4=");
    assert_null(json_object_get(object, "stdout"));
    assert_true(json_is_null(json_object_get(object, "worker")));
    assert_true(json_is_null(json_object_get(object, "exit")));
    assert_int_equal(json_integer_value(json_object_get(object, "signal")), 9);
    assert_string_equal(json_string_value(json_object_get(object, "reason")), "signal");
    assert_string_equal(json_string_value(json_object_get(object, "sentence")), "it was killed");
    assert_true(json_is_true(json_object_get(object, "truncated")));
    json_decref(object);
    text_release(&out);
}

static void as_csv(void **state)
{
    struct text out = {0};
    struct stream_task task = a_task("say \"hi\", you", 13);
    (void)state;
    render_csv_header(&out);
    render_csv(&out, &batch, &task);
    task = a_task("", 0);
    task.n_values = 0;
    render_csv(&out, &batch, &task);
    text_add(&out, "", 1);
    assert_string_equal((char *)out.bytes,
                        "batch,index,verdict,attempts,worker,exit,signal,queued_ms,run_ms,trace_id,values,stdout,stderr,reason\r\n"
                        "b7k2,3,ok,1,w1,0,,4.1,103.2,4bf92f3577b34da6a3ce929d0e0e4736,"
                        "\"{\"\"user\"\":\"\"ada\"\",\"\"file\"\":\"\"/x/photo.a.jpg\"\"}\",\"say \"\"hi\"\", you\",e,\r\n"
                        "b7k2,3,ok,1,w1,0,,4.1,103.2,4bf92f3577b34da6a3ce929d0e0e4736,\"{\"\"user\"\":\"\"ada\"\"}\",,e,\r\n");
    text_release(&out);
}

static void exit_codes(void **state)
{
    uint64_t counts[WIRE_VERDICTS] = {0};
    Wire__StreamEnd end = WIRE__STREAM_END__INIT;
    (void)state;
    end.n_counts = WIRE_VERDICTS;
    end.counts = counts;
    end.complete = true;
    assert_int_equal(cli_exit_code(&end), 0);
    end.recorded = counts[WIRE__VERDICT__OK] = 5;
    assert_int_equal(cli_exit_code(&end), 0);
    end.recorded = 6;
    counts[WIRE__VERDICT__DEADLINE_EXCEEDED] = 1;
    assert_int_equal(cli_exit_code(&end), 1);      /* an attempt's timeout */
    end.by_deadline = 1;
    assert_int_equal(cli_exit_code(&end), 124);
    end.whole_cancelled = true;
    assert_int_equal(cli_exit_code(&end), 130);
    end = (Wire__StreamEnd)WIRE__STREAM_END__INIT;
    assert_int_equal(cli_exit_code(&end), 1);      /* not complete */
}

static void one_line_of_progress(void **state)
{
    struct bar_state s = {.short_id = "b7k2", .recorded = 512, .total = 1024, .total_known = true, .rate = 103.4,
                          .deadline_left = 272 * NS_PER_S, .running = 4};
    char line[256];
    (void)state;
    s.counts[WIRE__VERDICT__OK] = 510;
    s.counts[WIRE__VERDICT__FAILED] = 2;
    bar_line(&s, true, 200, line, sizeof line);
    assert_string_equal(line, "b7k2 [##########..........] 512/1024  ok 510  failed 2  running 4  103/s  eta 4s  deadline 4m32s");
    bar_line(&s, true, 20, line, sizeof line);
    assert_int_equal(strlen(line), 20);
    s = (struct bar_state){.short_id = "b", .total = 7, .rate = -1, .deadline_left = -1, .cancelling = true};
    bar_line(&s, true, 200, line, sizeof line);
    assert_string_equal(line, "b 0 of 7 so far  cancelling  ok 0");
}

/* ---- files of results ---- */

static void name_of(const char *template, const struct stream_task *task, const char *expected)
{
    char dir[] = "/tmp/test_cli.XXXXXX", name[256];
    struct why why = {""};
    assert_non_null(mkdtemp(dir));
    struct out_files *files = out_files_new(dir, template, &why);
    assert_non_null(files);
    assert_int_equal(out_files_name(files, task, name, &why), 0);
    assert_string_equal(name, expected);
    out_files_destroy(&files);
    assert_int_equal(rmdir(dir), 0);
}

static void names_stay_inside(void **state)
{
    struct stream_task task = a_task("", 0);
    (void)state;
    name_of("{#}.out", &task, "4.out");
    name_of("{/.}.png", &task, "photo.a.png");
    name_of("{}", &task, "_x_photo.a.jpg");
    file.value = (char *)(uintptr_t)"..";
    name_of("{}", &task, "_.");
    file.value = (char *)(uintptr_t)"../../etc/passwd";
    name_of("{}", &task, ".._.._etc_passwd");
    file.value = (char *)(uintptr_t)"/";
    name_of("{/}x", &task, "x");
    task.n_values = 0;
    name_of("{}.png", &task, "4.png");
    file.value = (char *)(uintptr_t)"/x/photo.a.jpg";
}

static void content_is(const char *dir, const char *name, const char *expected)
{
    char path[128], got[64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(got, 1, sizeof got - 1, f);
    got[n] = '\0';
    assert_string_equal(got, expected);
    fclose(f);
    assert_int_equal(unlink(path), 0);
}

static void files_of_one_name_stay_apart(void **state)
{
    char dir[] = "/tmp/test_cli.XXXXXX";
    struct why why = {""};
    struct stream_task task = a_task("first", 5);
    (void)state;
    assert_non_null(mkdtemp(dir));
    struct out_files *files = out_files_new(dir, "{/.}.png", &why);
    assert_non_null(files);
    task.errors_len = 0;
    const uint64_t first = task.index;
    assert_int_equal(out_files_put(files, &task, &why), 0);
    task = a_task("second", 6);
    task.errors_len = 0;
    task.index = 16;
    assert_int_equal(out_files_put(files, &task, &why), 0);
    assert_int_equal(out_files_put(files, &task, &why), 0);    /* again, in the same place */
    task = a_task("FIRST", 5);
    task.errors_len = 0;
    task.index = first;
    assert_int_equal(out_files_put(files, &task, &why), 0);
    char name[256], plain[256], apart[300];
    assert_int_equal(out_files_name(files, &task, name, &why), 0);
    snprintf(plain, sizeof plain, "%.200s", name);
    snprintf(apart, sizeof apart, "%.*s-17.png", (int)(strlen(name) - 4), name);
    content_is(dir, plain, "FIRST");
    content_is(dir, apart, "second");
    out_files_destroy(&files);
    assert_int_equal(rmdir(dir), 0);
}

static void files_are_whole(void **state)
{
    char dir[] = "/tmp/test_cli.XXXXXX", sub[64];
    struct why why = {""};
    struct stream_task task = a_task("content", 7);
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(sub, sizeof sub, "%s/deep/down", dir);
    struct out_files *files = out_files_new(sub, "{#}.out", &why);
    assert_non_null(files);
    assert_int_equal(out_files_put(files, &task, &why), 0);
    assert_int_equal(out_files_put(files, &task, &why), 0);    /* again, over it */
    content_is(sub, "4.out", "content");
    content_is(sub, "4.out.err", "e");
    task = a_task("", 0);
    task.verdict = WIRE__VERDICT__FAILED;
    task.errors_len = 0;
    assert_int_equal(out_files_put(files, &task, &why), 0);    /* nothing to write, nothing left */
    assert_int_equal(rmdir(sub), 0);
    task = a_task("x", 1);
    assert_int_equal(out_files_put(files, &task, &why), -1);
    assert_non_null(strstr(why.text, sub));
    out_files_destroy(&files);
    snprintf(sub, sizeof sub, "%s/deep", dir);
    assert_int_equal(rmdir(sub), 0);
    assert_int_equal(rmdir(dir), 0);
    assert_null(out_files_new("/dev/null/x", "{#}", &why));
    assert_non_null(strstr(why.text, "/dev/null/x"));
}

/* ---- the writer ---- */

struct sink {
    int fd;
    size_t got;
    bool ended;
    struct loop *loop;
    struct loop_watch watch;
};

static void drain(void *arg, uint32_t events)
{
    struct sink *s = arg;
    char bytes[1000];
    (void)events;
    ssize_t n = read(s->fd, bytes, sizeof bytes);
    if (n > 0)
        s->got += (size_t)n;
    if (s->got == 1000000)
        loop_stop(s->loop);
}

static void a_full_pipe_is_not_waited_for(void **state)
{
    struct loop *loop = loop_new();
    struct writer w;
    int ends[2];
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    writer_open(&w, loop, ends[1]);
    assert_false(w.plain);
    for (int i = 0; i < 1000; i++) {
        char block[1000];
        memset(block, 'x', sizeof block);
        text_add(&w.pending, block, sizeof block);
    }
    writer_push(&w);    /* Returns, though nobody has read a byte. */
    assert_true(writer_pending(&w) > 0);
    struct sink s = {.fd = ends[0], .loop = loop};
    s.watch = (struct loop_watch){.fd = ends[0], .ready = drain, .arg = &s};
    loop_watch(loop, &s.watch, 1 /* EPOLLIN */);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(s.got, 1000000);
    assert_int_equal(writer_pending(&w), 0);
    loop_unwatch(loop, &s.watch);
    close(ends[0]);
    text_add(&w.pending, "more", 4);
    writer_push(&w);
    assert_true(w.broken);
    assert_int_equal(w.error, EPIPE);
    writer_close(&w);
    close(ends[1]);
    loop_destroy(&loop);
}

static void a_file_is_written_at_once(void **state)
{
    char path[] = "/tmp/test_cli.XXXXXX";
    struct loop *loop = loop_new();
    struct writer w;
    int fd = mkstemp(path);
    (void)state;
    writer_open(&w, loop, fd);
    assert_true(w.plain);
    text_say(&w.pending, "%d bytes", 7);
    writer_push(&w);
    assert_int_equal(writer_pending(&w), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 7);
    writer_close(&w);
    close(fd);
    unlink(path);
    loop_destroy(&loop);
}

static int ignore_pipes(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    for (char **e = environ; *e;) {    /* Variables are options too. */
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
        if (strncmp(name, "TARMAC_", 7) == 0 || strncmp(name, "TRACE", 5) == 0)
            unsetenv(name);
        else
            e++;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(everything_given), cmocka_unit_test(sources),
        cmocka_unit_test(what_is_refused), cmocka_unit_test(tracing), cmocka_unit_test(spans), cmocka_unit_test(as_json),
        cmocka_unit_test(as_json_what_is_not_text), cmocka_unit_test(as_csv), cmocka_unit_test(exit_codes),
        cmocka_unit_test(one_line_of_progress), cmocka_unit_test(names_stay_inside), cmocka_unit_test(files_are_whole), cmocka_unit_test(files_of_one_name_stay_apart),
        cmocka_unit_test(a_full_pipe_is_not_waited_for), cmocka_unit_test(a_file_is_written_at_once),
    };
    return cmocka_run_group_tests(tests, ignore_pipes, NULL);
}
