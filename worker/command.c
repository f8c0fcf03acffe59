#include "worker/command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "proto/handler.h"
#include "tarmac/template.h"

#define VARIABLES (16u + 2 * WIRE_VALUES)
#define VALUES_MOST (100u * 1024)

/* A handler's template, once for payloads that are arguments and once for those that go to standard input. */
struct handler {
    const char *name;
    const char *const *words;        /* persistent, and of a plugin's host: as they are */
    struct template *templates[2];
};

struct worker_command {
    struct handler *handlers;
    size_t n_handlers;
    char *submit_to;
    uint8_t batch[WIRE_ID];          /* whose own command is parsed in `own` */
    struct template *own;
    struct template_line line;
    char *text;                      /* the variables, one behind the other */
    size_t len, room;
    size_t at[VARIABLES];            /* where each begins */
    size_t n;
    bool no_memory;
    char *env[VARIABLES + 1];
    struct keeper_task task;
    uint8_t *head;                   /* of the task */
    size_t head_room;
};

/* ---- making it ---- */

static size_t count_words(const char *const *words)
{
    size_t n = 0;
    while (words[n])
        n++;
    return n;
}

struct worker_command *worker_command_new(const struct agent_handler *handlers, size_t n, const char *submit_to)
{
    struct why why;
    struct worker_command *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->submit_to = strdup(submit_to);
    self->handlers = calloc(n + 1, sizeof *self->handlers);
    bool complete = self->submit_to && self->handlers;
    for (size_t i = 0; complete && i < n; i++) {
        struct handler *handler = &self->handlers[self->n_handlers++];
        handler->name = handlers[i].name;
        handler->words = handlers[i].kind != AGENT_COMMAND ? handlers[i].command : NULL;
        for (int pipe = 0; pipe < 2 && !handler->words; pipe++)
            complete &= template_parse(handlers[i].command, count_words(handlers[i].command), pipe, &handler->templates[pipe], &why) == 0;
    }
    if (!complete)
        worker_command_destroy(&self);
    return self;
}

void worker_command_destroy(struct worker_command **self_p)
{
    struct worker_command *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    for (size_t i = 0; i < self->n_handlers; i++)
        for (int pipe = 0; pipe < 2; pipe++)
            template_destroy(&self->handlers[i].templates[pipe]);
    template_destroy(&self->own);
    template_line_clear(&self->line);
    free(self->handlers);
    free(self->submit_to);
    free(self->text);
    free(self->head);
    free(self);
}

/* ---- the environment ---- */

static void put(struct worker_command *self, const char *bytes, size_t len)
{
    if (self->room - self->len < len) {
        size_t room = self->room ? self->room * 2 : 4096;
        while (room - self->len < len)
            room *= 2;
        char *text = realloc(self->text, room);
        if (!text) {
            self->no_memory = true;
            return;
        }
        self->text = text;
        self->room = room;
    }
    memcpy(self->text + self->len, bytes, len);
    self->len += len;
}

static void variable(struct worker_command *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void variable(struct worker_command *self, const char *format, ...)
{
    char text[WIRE_TRACE + 600];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    self->at[self->n++] = self->len;
    put(self, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    put(self, "", 1);
}

/* TARMAC_VALUE_<NAME>: upper case, and _ for what a variable's name can't have. */
static char as_name(char c)
{
    if (c >= 'a' && c <= 'z')
        return (char)(c - 'a' + 'A');
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
}

static bool same_name(const char *a, const char *b)
{
    while (*a && as_name(*a) == as_name(*b)) {
        a++;
        b++;
    }
    return *a == *b || (*a && *b && as_name(*a) == as_name(*b));
}

static bool is_among(const char *key, Wire__Value *const *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (same_name(key, values[i]->key))
            return true;
    return false;
}

static void value(struct worker_command *self, const Wire__Value *from)
{
    static const char prefix[] = "TARMAC_VALUE_";
    self->at[self->n++] = self->len;
    put(self, prefix, sizeof prefix - 1);
    for (const char *c = from->key; *c; c++)
        put(self, &(char){as_name(*c)}, 1);
    put(self, "=", 1);
    put(self, from->value, strlen(from->value) + 1);
}

/* The task's own values stand before the batch's, and of two keys with one name the last. */
static void values(struct worker_command *self, const struct agent_run *run)
{
    const Wire__Options *options = run->options;
    size_t n_own = run->extra ? run->extra->n_values : 0;
    for (size_t i = 0; i < options->n_values; i++)
        if (!is_among(options->values[i]->key, options->values + i + 1, options->n_values - i - 1)
            && !(n_own && is_among(options->values[i]->key, run->extra->values, n_own)))
            value(self, options->values[i]);
    for (size_t i = 0; i < n_own; i++)
        if (!is_among(run->extra->values[i]->key, run->extra->values + i + 1, n_own - i - 1))
            value(self, run->extra->values[i]);
}

static void set_all(json_t *object, Wire__Value *const *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_object_set_new(object, values[i]->key, json_string(values[i]->value));
}

/* By their own keys, for nested submissions: the variables' names have lost them. Left out where it would be longer than
 * a variable may be, which takes thousands of control characters. */
static void values_as_json(struct worker_command *self, const struct agent_run *run)
{
    json_t *object = json_object();
    set_all(object, run->options->values, run->options->n_values);
    if (run->extra)
        set_all(object, run->extra->values, run->extra->n_values);
    char *text = json_object_size(object) > 0 ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text && strlen(text) < VALUES_MOST) {
        static const char name[] = "TARMAC_VALUES=";
        self->at[self->n++] = self->len;
        put(self, name, sizeof name - 1);
        put(self, text, strlen(text) + 1);
    }
    free(text);
    json_decref(object);
}

/* The attempt's span is a child of the batch's: the same trace and flags, a span of its own. */
static bool child_span(const struct agent_run *run, char ret_id[33], char ret_traceparent[64])
{
    const char *parent = run->options->traceparent;
    char span[17];
    if (!wire_traceparent_ok(parent))
        return false;
    wire_trace_id(parent, ret_id);
    for (size_t i = 0; i < sizeof run->span_id; i++)
        snprintf(span + 2 * i, 3, "%02x", run->span_id[i]);
    snprintf(ret_traceparent, 64, "00-%s-%s-%.2s", ret_id, span, parent + 53);
    return true;
}

static void trace(struct worker_command *self, const struct agent_run *run)
{
    char id[33], traceparent[64];
    if (!child_span(run, id, traceparent))
        return;
    variable(self, "TARMAC_TRACE_ID=%s", id);
    variable(self, "TRACEPARENT=%s", traceparent);
    if (run->options->tracestate[0] != '\0')
        variable(self, "TRACESTATE=%s", run->options->tracestate);
}

static int make_environment(struct worker_command *self, const struct agent_run *run)
{
    char batch[33];
    self->len = self->n = 0;
    self->no_memory = false;
    wire_id_hex(run->batch, batch);
    variable(self, "TARMAC_BATCH=%s", run->short_id);
    variable(self, "TARMAC_INDEX=%" PRIu64, run->index);
    variable(self, "TARMAC_ATTEMPT=%" PRIu32, run->attempt);
    variable(self, "TARMAC_KEY=%s/%" PRIu64, run->short_id, run->index);
    variable(self, "TARMAC_SLOT=%" PRIu32, run->slot + 1);
    if (run->budget >= 0)
        variable(self, "TARMAC_BUDGET_MS=%" PRId64, run->budget / NS_PER_MS);
    /* What a nested submission names as its parent. */
    variable(self, "TARMAC_PARENT=%s/%" PRIu64 "/%" PRIu64 "/%" PRIu32, batch, run->index, run->epoch, run->attempt);
    if (self->submit_to[0] != '\0')
        variable(self, "TARMAC_VENTILATOR=%s", self->submit_to);
    trace(self, run);
    values(self, run);
    values_as_json(self, run);
    for (size_t i = 0; i < self->n && !self->no_memory; i++)
        self->env[i] = self->text + self->at[i];
    self->env[self->n] = NULL;
    return self->no_memory ? -ENOMEM : 0;
}

/* ---- a task of a persistent handler ---- */

static size_t list_values(const struct agent_run *run, Tarmac__Handler__Value *list, Tarmac__Handler__Value **pointers)
{
    const Wire__Options *options = run->options;
    size_t n = 0, n_own = run->extra ? run->extra->n_values : 0;
    for (size_t i = 0; i < options->n_values + n_own; i++) {
        bool own = i >= options->n_values;
        const Wire__Value *from = own ? run->extra->values[i - options->n_values] : options->values[i];
        size_t at = 0;
        while (at < n && strcmp(list[at].key, from->key) != 0)
            at++;
        if (at == n) {
            tarmac__handler__value__init(&list[n]);
            pointers[n] = &list[n];
            n++;
        }
        /* The task's own come last and replace the batch's. */
        list[at].key = from->key;
        list[at].value = from->value;
    }
    return n;
}

static int pack_task(struct worker_command *self, const Tarmac__Handler__Task *task)
{
    size_t size = tarmac__handler__task__get_packed_size(task);
    if (size > self->head_room) {
        uint8_t *head = realloc(self->head, size);
        if (!head)
            return -ENOMEM;
        self->head = head;
        self->head_room = size;
    }
    self->task = (struct keeper_task){.head = {.data = self->head, .len = tarmac__handler__task__pack(task, self->head)}};
    return 0;
}

static int make_task(struct worker_command *self, const struct agent_run *run)
{
    Tarmac__Handler__Value values[2 * WIRE_VALUES], *pointers[2 * WIRE_VALUES];
    char id[33] = "", traceparent[64] = "", key[64], parent[128], batch[33];
    wire_id_hex(run->batch, batch);
    snprintf(key, sizeof key, "%s/%" PRIu64, run->short_id, run->index);
    snprintf(parent, sizeof parent, "%s/%" PRIu64 "/%" PRIu64 "/%" PRIu32, batch, run->index, run->epoch, run->attempt);
    bool traced = child_span(run, id, traceparent);
    Tarmac__Handler__Task task = TARMAC__HANDLER__TASK__INIT;
    task.batch = (char *)(uintptr_t)run->short_id;
    task.index = run->index;
    task.attempt = run->attempt;
    task.slot = run->slot + 1;
    task.key = key;
    task.budget_ms = run->budget < 0 ? -1 : run->budget / NS_PER_MS;
    task.trace_id = id;
    task.traceparent = traceparent;
    task.tracestate = traced ? run->options->tracestate : task.tracestate;
    task.bundle = run->count > 1 ? run->count : 0;
    task.ventilator = self->submit_to;
    task.parent = parent;
    task.n_values = list_values(run, values, pointers);
    task.values = pointers;
    return pack_task(self, &task);
}

static int make_persistent(struct worker_command *self, const struct agent_run *run, const struct handler *handler, struct keeper_run *ret, struct why *why)
{
    self->len = self->n = 0;
    self->no_memory = false;
    variable(self, "TARMAC_SLOT=%" PRIu32, run->slot + 1);
    if (self->submit_to[0] != '\0')
        variable(self, "TARMAC_VENTILATOR=%s", self->submit_to);
    if (self->no_memory || make_task(self, run) < 0) {
        why_set(why, "no memory for the context of task %" PRIu64, run->index);
        return -ENOMEM;
    }
    for (size_t i = 0; i < self->n; i++)
        self->env[i] = self->text + self->at[i];
    self->env[self->n] = NULL;
    *ret = (struct keeper_run){
        .task = &self->task, .argv = (char *const *)(uintptr_t)handler->words, .env = self->env, .has_input = true,
        .input = run->count > 1 ? (struct slice){0} : run->payload,
        .max_output = run->options->max_output, .max_errors = WIRE_ERRORS, .grace = (int64_t)run->options->grace_us * NS_PER_US,
    };
    return 0;
}

static const struct handler *find_persistent(const struct worker_command *self, const struct agent_run *run)
{
    for (size_t i = 0; run->handler && i < self->n_handlers; i++)
        if (self->handlers[i].words && strcmp(self->handlers[i].name, run->handler->name) == 0)
            return &self->handlers[i];
    return NULL;
}

/* ---- the words ---- */

static struct template *own_template(struct worker_command *self, const struct agent_run *run, struct why *why)
{
    if (self->own && memcmp(self->batch, run->batch, WIRE_ID) == 0)
        return self->own;
    template_destroy(&self->own);
    if (template_parse((const char *const *)run->options->command, run->options->n_command, run->options->pipe, &self->own, why) < 0)
        return NULL;
    memcpy(self->batch, run->batch, WIRE_ID);
    return self->own;
}

static struct template *find_template(struct worker_command *self, const struct agent_run *run, bool pipe, struct why *why)
{
    if (!run->handler)
        return own_template(self, run, why);
    for (size_t i = 0; i < self->n_handlers; i++)
        if (strcmp(self->handlers[i].name, run->handler->name) == 0)
            return self->handlers[i].templates[pipe];
    why_set(why, "this worker has no handler %s", run->handler->name);
    return NULL;
}

int worker_command_make(struct worker_command *self, const struct agent_run *run, struct keeper_run *ret, struct why *why)
{
    const struct handler *persistent = find_persistent(self, run);
    if (persistent)
        return make_persistent(self, run, persistent, ret, why);
    bool pipe = run->options->pipe;
    struct template *template = find_template(self, run, pipe, why);
    if (!template)
        return -EINVAL;
    struct template_task task = {.item = run->payload.data, .len = run->payload.len, .index = run->index, .slot = run->slot + 1};
    int error = template_expand(template, &task, 0, &self->line, why);
    if (error < 0)
        return error;
    if (make_environment(self, run) < 0) {
        why_set(why, "no memory for the environment of task %" PRIu64, run->index);
        return -ENOMEM;
    }
    *ret = (struct keeper_run){
        .argv = self->line.argv,
        .env = self->env,
        .input = pipe ? run->payload : (struct slice){0},
        .has_input = pipe,
        .max_output = run->options->max_output,
        .max_errors = WIRE_ERRORS,
        .grace = (int64_t)run->options->grace_us * NS_PER_US,
    };
    return 0;
}
