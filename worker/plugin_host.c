/* The host of a plugin. Two threads: the first loads the plugin and works; the second reads what the keeper sends, so that a
 * cancel reaches the context of a task while the plugin works on it. Tasks that come together wait in a queue, in order.
 *
 * A plugin may print, exit and crash. So the protocol isn't on the standard descriptors when it is loaded: a printf lands
 * with the errors of its task; and the rest is seen by the keeper, as of any persistent handler. */
#include "worker/plugin_host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/clock.h"
#include "common/options.h"
#include "common/spawn.h"
#include "proto/handler.h"
#include "proto/wire.h"
#include "tarmac/context_private.h"
#include "tarmac/task_private.h"
#include "worker/bundle.h"
#include "worker/handler_codec.h"

#define ENTRY "tarmac_plugin"
#define READ_AT_ONCE (64u * 1024u)
#define CODE_MOST 255
#define WRITES_MEASURED 32
#define NO_MEMORY 1                        /* exit code */

struct job {
    struct tarmac_task task;
    struct host *host;
    uint64_t id;
    bool cancelled;                        /* a context that is made later is so from the beginning */
    char trace[56], parent[128], key[96];  /* of a bundle: those of the task of now */
    Tarmac__Handler__ToHandler *message;   /* what the task points into */
    struct job *next;
};

struct host {
    int in, out;                           /* the protocol */
    const struct tarmac_plugin *plugin;    /* NULL: it can't work, and why */
    void *state;
    struct why why;
    struct handler_bytes answer;
    struct bundle *bundle;                 /* NULL: none */
    int64_t write_ns;

    pthread_mutex_t lock;                  /* of what both threads use: */
    pthread_cond_t arrived;
    struct job *first, *last;              /* the first one is being worked on */
    bool over;                             /* nothing more will come */
};

/* What plugins may call has to be in this program, also where nothing else here does: one function of each file. */
__attribute__((used)) static void (*const offered[])(void) = {
    (void (*)(void))tarmac_version, (void (*)(void))tarmac_submit, (void (*)(void))tarmac_from_environment,
    (void (*)(void))tarmac_task_payload, (void (*)(void))tarmac_background,
};

/* ---- loading ---- */

static int check(const struct tarmac_plugin *plugin, const char *path, struct why *why)
{
    if (!plugin)
        return why_set(why, "%s: its %s() returned NULL; it returns a struct tarmac_plugin", path, ENTRY);
    if (plugin->abi_major != TARMAC_ABI_MAJOR || plugin->abi_minor > TARMAC_ABI_MINOR)
        return why_set(why, "%s: it was made for version %u.%u of the plugin interface, and this worker has %d.%d; compile it with the header of "
                       "this version", path, plugin->abi_major, plugin->abi_minor, TARMAC_ABI_MAJOR, TARMAC_ABI_MINOR);
    if (plugin->size < sizeof *plugin || !plugin->run)
        return why_set(why, "%s: its struct tarmac_plugin has no %s; it begins with TARMAC_PLUGIN, and has a run", path,
                       plugin->size < sizeof *plugin ? "right size" : "run");
    return 0;
}

/* NULL: why. What was loaded stays so until the end of the process. */
static const struct tarmac_plugin *load(const char *path, struct why *why)
{
    const struct tarmac_plugin *(*entry)(void) = NULL;
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol = object ? dlsym(object, ENTRY) : NULL;
    if (!object) {
        const char *detail = dlerror();
        why_set(why, "it can't be loaded: %s", detail ? detail : path);
        return NULL;
    }
    if (!symbol) {
        why_set(why, "%s: it has no %s(); a plugin defines that, see tarmac.h", path, ENTRY);
        return NULL;
    }
    memcpy(&entry, &symbol, sizeof entry);
    const struct tarmac_plugin *plugin = entry();
    return check(plugin, path, why) == 0 ? plugin : NULL;
}

static void open_plugin(struct host *self, const char *path, const char *argument)
{
    const struct tarmac_plugin *plugin = load(path, &self->why);
    int result = plugin && plugin->open ? plugin->open(argument, &self->state) : 0;
    fflush(stdout);
    if (result != 0)
        why_set(&self->why, "%s: its open() returned %d; 0 would be right", path, result);
    else
        self->plugin = plugin;
}

/* ---- what comes in ---- */

static const char *or_null(const char *text) { return text[0] != '\0' ? text : NULL; }

static tarmac_context *context_of(const Tarmac__Handler__Task *task, const char *trace, const char *parent)
{
    int64_t ms = task->budget_ms < INT64_MAX / NS_PER_MS ? task->budget_ms : INT64_MAX / NS_PER_MS;
    tarmac_context *context = ms < 0 ? tarmac_with_cancel(tarmac_background()) : tarmac_with_timeout(tarmac_background(), ms * NS_PER_MS);
    for (size_t i = 0; i < task->n_values; i++)
        context_add(&context, task->values[i]->key, task->values[i]->value, false);
    context_add(&context, "traceparent", or_null(trace), false);
    context_add(&context, "tracestate", or_null(task->tracestate), false);
    context_add(&context, CONTEXT_PARENT, or_null(parent), true);
    return context;
}

static void release_job(struct job *self)
{
    tarmac_release(&self->task.context);
    tarmac__handler__to_handler__free_unpacked(self->message, NULL);
    free(self->task.output);
    free(self);
}

/* A payload is often text: it gets a NUL behind it. NULL: no memory. */
static const uint8_t *with_nul(ProtobufCBinaryData *payload)
{
    uint8_t *data = realloc(payload->data, payload->len + 1);
    if (!data)
        return NULL;
    data[payload->len] = '\0';
    return payload->data = data;
}

/* A large one stays where it is. */
static const uint8_t *shared_payload(const struct host *self, const Tarmac__Handler__Task *task)
{
    return self->bundle && task->shared <= SIZE_MAX ? bundle_large(self->bundle, (size_t)task->shared) : NULL;
}

static struct job *make_job(struct host *self, Tarmac__Handler__ToHandler *message)
{
    Tarmac__Handler__Task *from = message->task;
    const uint8_t *payload = from->shared > 0 ? shared_payload(self, from) : with_nul(&from->payload);
    struct job *job = calloc(1, sizeof *job);
    if (!payload || !job) {
        free(job);
        return NULL;
    }
    *job = (struct job){.id = from->id, .message = message, .host = self};
    job->task = (struct tarmac_task){
        .context = from->bundle > 0 ? NULL : context_of(from, from->traceparent, from->parent), .batch = from->batch, .key = from->key, .payload = payload,
        .payload_len = from->shared > 0 ? (size_t)from->shared : from->payload.len,
        .index = from->index, .attempt = from->attempt, .slot = from->slot,
    };
    return job;
}

/* Without memory for a task there is nobody to answer it; a new process may have more. */
static void take_task(struct host *self, Tarmac__Handler__ToHandler *message)
{
    struct job *job = make_job(self, message);
    if (!job) {
        fprintf(stderr, "%s: no memory for a task\n", PLUGIN_HOST);
        _exit(NO_MEMORY);
    }
    pthread_mutex_lock(&self->lock);
    if (self->first)
        self->last->next = job;
    else
        self->first = job;
    self->last = job;
    pthread_cond_signal(&self->arrived);
    pthread_mutex_unlock(&self->lock);
}

static void cancel(struct host *self, uint64_t id)
{
    pthread_mutex_lock(&self->lock);
    for (struct job *job = self->first; job; job = job->next) {
        if (job->id != id)
            continue;
        job->cancelled = true;
        if (job->task.context)
            tarmac_cancel(job->task.context, "the attempt is cancelled");
    }
    pthread_mutex_unlock(&self->lock);
}

static void take_message(struct host *self, const uint8_t *frame, size_t len)
{
    Tarmac__Handler__ToHandler *message = tarmac__handler__to_handler__unpack(NULL, len, frame);
    if (message && message->what_case == TARMAC__HANDLER__TO_HANDLER__WHAT_TASK) {
        take_task(self, message);
        return;
    }
    if (message && message->what_case == TARMAC__HANDLER__TO_HANDLER__WHAT_CANCEL)
        cancel(self, message->cancel->id);
    tarmac__handler__to_handler__free_unpacked(message, NULL);
}

/* Takes the whole frames from the front of what was read. */
static void take_frames(struct host *self, struct handler_bytes *in)
{
    size_t at = 0;
    while (in->len - at >= HANDLER_FRAME_HEAD) {
        size_t len = handler_frame_length(in->data + at);
        if (in->len - at - HANDLER_FRAME_HEAD < len)
            break;
        take_message(self, in->data + at + HANDLER_FRAME_HEAD, len);
        at += HANDLER_FRAME_HEAD + len;
    }
    if (at > 0)
        memmove(in->data, in->data + at, in->len - at);
    in->len -= at;
}

/* The keeper wants no more answers: what runs has nobody to run for. */
static void end_input(struct host *self)
{
    pthread_mutex_lock(&self->lock);
    self->over = true;
    for (struct job *job = self->first; job; job = job->next) {
        job->cancelled = true;
        if (job->task.context)
            tarmac_cancel(job->task.context, "the worker has gone");
    }
    pthread_cond_signal(&self->arrived);
    pthread_mutex_unlock(&self->lock);
}

static void *read_messages(void *arg)
{
    struct host *self = arg;
    struct handler_bytes in = {0};
    while (handler_bytes_reserve(&in, READ_AT_ONCE)) {
        ssize_t got = read(self->in, in.data + in.len, in.room - in.len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        in.len += (size_t)got;
        take_frames(self, &in);
    }
    handler_bytes_release(&in);
    end_input(self);
    return NULL;
}

/* ---- what goes out ---- */

static void send_answer(struct host *self, const struct handler_result *from)
{
    struct handler_result result = *from;
    self->answer.len = 0;
    if (self->bundle && result.output_len >= BUNDLE_LARGE_LEAST && bundle_leave_large(self->bundle, result.output, result.output_len)) {
        result.shared = result.output_len;
        result.output_len = 0;
    }
    if (handler_put_result(&self->answer, &result) < 0) {
        fprintf(stderr, "%s: no memory for a result\n", PLUGIN_HOST);
        _exit(NO_MEMORY);
    }
    for (size_t at = 0; at < self->answer.len;) {
        ssize_t put = write(self->out, self->answer.data + at, self->answer.len - at);
        if (put < 0 && errno != EINTR)
            _exit(EXIT_STOPPED);           /* nobody is there to be told */
        at += put > 0 ? (size_t)put : 0;
    }
    if (self->answer.room > READ_AT_ONCE)
        handler_bytes_release(&self->answer);
}

static void answer_fault(struct host *self, uint64_t id, const char *sentence)
{
    send_answer(self, &(struct handler_result){.id = id, .error = sentence, .code = 1, .fault = true});
}

/* ---- many tasks at once ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Each attempt is a span of its own, and the sink writes it by the same numbers: they are in the words that name the attempt,
 * "batch/index/epoch/attempt". */
static bool span_of(const Tarmac__Handler__Task *first, uint64_t index, char out[17])
{
    const char *at = first->parent;
    uint8_t batch[WIRE_ID], span[8];
    char word[24];
    uint64_t epoch;
    struct why ignored;
    for (size_t i = 0; i < WIRE_ID; i++, at += 2) {
        int high = hex_digit(at[0]), low = high < 0 ? -1 : hex_digit(at[1]);
        if (low < 0)
            return false;
        batch[i] = (uint8_t)(high << 4 | low);
    }
    at = at[0] == '/' ? strchr(at + 1, '/') : NULL;
    size_t n = at ? strcspn(at + 1, "/") : 0;
    if (n == 0 || n >= sizeof word)
        return false;
    memcpy(word, at + 1, n);
    word[n] = '\0';
    if (parse_u64(word, 0, UINT64_MAX, &epoch, &ignored) < 0)
        return false;
    wire_span_id(batch, index, epoch, (uint32_t)first->attempt, span);
    for (size_t i = 0; i < sizeof span; i++)
        snprintf(out + 2 * i, 3, "%02x", span[i]);
    return true;
}

/* Few plugins look at the context of a tiny task: it is made for those. */
static tarmac_context *make_context(struct tarmac_task *task)
{
    struct job *job = (struct job *)((char *)task - offsetof(struct job, task));
    const Tarmac__Handler__Task *from = job->message->task;
    const char *rest = strchr(from->parent, '/');
    rest = rest ? strchr(rest + 1, '/') : NULL;
    if (rest)
        snprintf(job->parent, sizeof job->parent, "%.*s/%llu%s", (int)strcspn(from->parent, "/"), from->parent, (unsigned long long)task->index, rest);
    char span[17];
    snprintf(job->trace, sizeof job->trace, "%s", from->traceparent);
    if (strlen(job->trace) == 55 && span_of(from, task->index, span))
        memcpy(job->trace + 36, span, 16);
    tarmac_context *made = context_of(from, job->trace, job->parent);
    if (!made) {
        fprintf(stderr, "%s: no memory for a context\n", PLUGIN_HOST);
        _exit(NO_MEMORY);
    }
    pthread_mutex_lock(&job->host->lock);
    task->context = made;
    if (job->cancelled)
        tarmac_cancel(made, "the attempt is cancelled");
    pthread_mutex_unlock(&job->host->lock);
    return made;
}

static const char *make_key(struct tarmac_task *task)
{
    struct job *job = (struct job *)((char *)task - offsetof(struct job, task));
    snprintf(job->key, sizeof job->key, "%s/%llu", task->batch, (unsigned long long)task->index);
    return task->key = job->key;
}

static void begin_one(struct host *self, struct job *job, uint32_t number)
{
    struct tarmac_task *task = &job->task;
    if (task->context) {
        pthread_mutex_lock(&self->lock);
        tarmac_release(&task->context);
        pthread_mutex_unlock(&self->lock);
    }
    task->payload = bundle_payload(self->bundle, number, &task->payload_len);
    task->index = job->message->task->index + number;
    task->key = NULL;
    task->output_len = 0;
    task->error[0] = '\0';
}

/* The least time that a write to a pipe takes here. */
static int64_t measure_write(void)
{
    int ends[2];
    int64_t least = INT64_MAX;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return 0;
    for (int i = 0; i < WRITES_MEASURED; i++) {
        mono_t began = mono_now();
        if (write(ends[1], "", 1) == 1) {
            int64_t took = mono_since(mono_now(), began);
            least = took < least ? took : least;
        }
    }
    close(ends[0]);
    close(ends[1]);
    return least == INT64_MAX ? 0 : least;
}

/* What it printed is in the pipe still: the keeper reads there only when no further task begins. The question costs more than many a
 * task, so it isn't asked after one that was over before anything could have been written. */
static bool has_printed(const struct host *self, int64_t took)
{
    int waiting = 0;
    if (took < self->write_ns / 4 * 3)
        return false;
    return ioctl(STDERR_FILENO, FIONREAD, &waiting) == 0 && waiting > 0;
}

static int run_one(struct host *self, struct tarmac_task *task)
{
    int code = self->plugin->run(self->state, task);
    fflush(stdout);                        /* it belongs to this task's errors */
    bool known = code >= 0 && code <= CODE_MOST;
    if (!known && task->error[0] == '\0')
        tarmac_task_error(task, tarmac_code_name(code));
    return known ? code : 1;
}

/* The result of the last one is sent, as if it had come alone. */
static void work_bundle(struct host *self, struct job *job)
{
    struct tarmac_task *task = &job->task;
    struct handler_result result = {.id = job->id, .ok = true, .error = ""};
    mono_t began = mono_now();
    task->make_context = make_context;
    task->make_key = make_key;
    for (int64_t number; (number = bundle_claim(self->bundle, began)) >= 0;) {
        begin_one(self, job, (uint32_t)number);
        int code = run_one(self, task);
        mono_t ended = mono_now();
        result = (struct handler_result){
            .id = job->id, .ok = code == 0, .code = code, .output = task->output, .output_len = task->output_len, .error = task->error,
        };
        const struct bundle_left left = {
            .code = code, .output = task->output, .output_len = task->output_len, .sentence = task->error, .run_ns = mono_since(ended, began),
        };
        began = ended;
        if (has_printed(self, left.run_ns) || !bundle_leave(self->bundle, (uint32_t)number, &left))
            break;
    }
    bundle_close(self->bundle, false);
    send_answer(self, &result);
}

static void work(struct host *self, struct job *job)
{
    struct tarmac_task *task = &job->task;
    bool bundle = job->message->task->bundle > 0;
    if (bundle && self->plugin && self->bundle) {
        work_bundle(self, job);
        return;
    }
    if (bundle && self->plugin) {
        answer_fault(self, job->id, "it has no memory that it shares with its worker");
        return;
    }
    if (!self->plugin || !task->context) {
        answer_fault(self, job->id, self->plugin ? "no memory for a context" : self->why.text);
        return;
    }
    int code = run_one(self, task);
    struct handler_result result = {
        .id = job->id, .ok = code == 0, .code = code, .output = task->output, .output_len = task->output_len, .error = task->error,
    };
    send_answer(self, &result);
}

/* ---- the process ---- */

/* Blocks; NULL at the end. It stays in the queue, where a cancel finds it. */
static struct job *next_job(struct host *self)
{
    pthread_mutex_lock(&self->lock);
    while (!self->first && !self->over)
        pthread_cond_wait(&self->arrived, &self->lock);
    struct job *job = self->first;
    pthread_mutex_unlock(&self->lock);
    return job;
}

static void end_job(struct host *self, struct job *job)
{
    pthread_mutex_lock(&self->lock);
    self->first = job->next;
    pthread_mutex_unlock(&self->lock);
    release_job(job);
}

/* The protocol goes to other descriptors; a plugin's own input is empty, and its output goes where its errors go. */
static int take_descriptors(struct host *self)
{
    self->bundle = bundle_map(SPAWN_KEPT_FD);
    if (self->bundle) {
        bundle_not_inherited(self->bundle);
        close(SPAWN_KEPT_FD);
    }
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    self->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    self->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    bool done = null >= 0 && self->in >= 0 && self->out >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0;
    if (null >= 0)
        close(null);
    return done ? 0 : -errno;
}

/* Signals are the plugin's business, on the thread that it knows. */
static int start_reader(struct host *self, pthread_t *ret)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(ret, NULL, read_messages, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

static int serve(const char *path, const char *argument)
{
    struct host host = {.in = -1, .out = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER};
    pthread_t reader;
    int error = take_descriptors(&host);
    if (error == 0)
        error = start_reader(&host, &reader);
    if (error < 0) {
        fprintf(stderr, "%s: cannot start: %s\n", PLUGIN_HOST, strerror(-error));
        return EXIT_BUG;
    }
    host.write_ns = measure_write();
    open_plugin(&host, path, argument);
    for (struct job *job; (job = next_job(&host));) {
        work(&host, job);
        end_job(&host, job);
    }
    pthread_join(reader, NULL);
    if (host.plugin && host.plugin->close)
        host.plugin->close(host.state);
    handler_bytes_release(&host.answer);
    return EXIT_STOPPED;
}

static int try(const char *path)
{
    struct host host = {0};
    /* Whatever it prints while it is loaded is not the sentence that is waited for. */
    if (take_descriptors(&host) < 0)
        return EXIT_BUG;
    if (load(path, &host.why))
        return EXIT_STOPPED;
    size_t len = strlen(host.why.text);
    return write(host.out, host.why.text, len) == (ssize_t)len ? EXIT_USAGE : EXIT_BUG;
}

bool plugin_host_is_asked_for(int argc, char **argv) { return (argc == 2 || argc == 3) && strcmp(argv[0], PLUGIN_HOST) == 0; }

int plugin_host_main(int argc, char **argv)
{
    prctl(PR_SET_NAME, PLUGIN_HOST);
    return argc == 3 ? serve(argv[1], argv[2]) : try(argv[1]);
}
