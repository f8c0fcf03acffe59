#include "ventilator/audit.h"

#include <bsd/sys/queue.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"

#define CLOSE_NS (2 * NS_PER_S)

/* An action that waits for its answer. */
struct asked {
    TAILQ_ENTRY(asked) link;
    uint32_t peer;
    uint64_t request;
    char by[160], subject[WIRE_NAME + 1], what[16], words[700];
};

struct audit {
    struct linefile *file;             /* NULL: none */
    TAILQ_HEAD(, asked) asked;
    unsigned n_asked;
};

struct audit *audit_open(const char *path, struct why *why)
{
    struct audit *self = calloc(1, sizeof *self);
    if (self == NULL) {
        why_set(why, "no memory for the audit");
        return NULL;
    }
    TAILQ_INIT(&self->asked);
    if (path == NULL || (self->file = linefile_open(path, AUDIT_MOST, why)) != NULL)
        return self;
    free(self);
    return NULL;
}

void audit_close(struct audit **self_p)
{
    struct audit *self = *self_p;
    struct asked *a;
    *self_p = NULL;
    if (self == NULL)
        return;
    while ((a = TAILQ_FIRST(&self->asked)) != NULL) {
        TAILQ_REMOVE(&self->asked, a, link);
        free(a);
    }
    linefile_close(&self->file, CLOSE_NS);
    free(self);
}

void audit_reopen(struct audit *self)
{
    if (self->file != NULL)
        linefile_reopen(self->file);
}

bool audit_count(struct audit *self, struct linefile_counts *ret)
{
    if (self->file != NULL)
        linefile_count(self->file, ret);
    return self->file != NULL;
}

/* ---- lines ---- */

struct line {
    char *out;
    size_t len, size;
};

static void put(struct line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct line *l, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(l->out + l->len, l->size - l->len, format, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < l->size - l->len)
        l->len += (size_t)n;
    l->out[l->len] = '\0';
}

static bool is_bare(const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("._:@/+%-", *c) != NULL))
            return false;
    return text[0] != '\0';
}

/* A word as it is, or in double quotes; the length of what it may take is bounded, so a line always ends. */
static void put_value(struct line *l, const char *text)
{
    if (is_bare(text) && strlen(text) < l->size - l->len - 8) {
        put(l, "%s", text);
        return;
    }
    put(l, "\"");
    for (; *text != '\0' && l->len + 16 < l->size; text++) {
        if (*text == '"' || *text == '\\')
            put(l, "\\%c", *text);
        else if ((unsigned char)*text < 0x20 || *text == 0x7f)
            put(l, "\\x%02x", (unsigned char)*text);
        else
            put(l, "%c", *text);
    }
    put(l, "\"");
}

static void put_time(struct line *l, wall_t now)
{
    struct tm tm;
    time_t seconds = (time_t)(now.ns / NS_PER_S);
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    put(l, "%s.%03dZ", text, (int)(now.ns % NS_PER_S / NS_PER_MS));
}

static void write_line(struct audit *self, struct line *l)
{
    if (l->len + 1 >= l->size)
        l->len = l->size - 2;
    l->out[l->len++] = '\n';
    linefile_put(self->file, l->out, l->len);
}

/* ---- state changes ---- */

struct change { const char *event, *kind, *word; };

static const struct change changes[] = {
    {"batch_new", "batch", "open"}, {"batch_sealed", "batch", "sealed"}, {"batch_cancel", "batch", "cancelling"}, {"batch_halt", "batch", "halted"},
    {"batch_deadline", "batch", "deadline"}, {"batch_extended", "batch", "extended"}, {"batch_complete", "batch", "complete"},
    {"batch_purged", "batch", "purged"}, {"batch_recovered", "batch", "recovered"}, {"batch_disowned", "batch", "disowned"},
    {"journal_damaged", "batch", "damaged"},
    {"worker_hello", "worker", "opening"}, {"worker_ready", "worker", "ready"}, {"worker_drain", "worker", "draining"}, {"worker_away", "worker", "away"},
    {"worker_lost", "worker", "lost"}, {"worker_left", "worker", "left"}, {"worker_refused", "worker", "refused"},
    {"worker_cut_off", "worker", "cut_off"}, {"worker_heard", "worker", "heard"},
    {"ledger_open", "ventilator", "begins"}, {"draining", "ventilator", "leaves"},
    {"sink_hello", "sink", "here"}, {"sink_gone", "sink", "gone"}, {"sink_full", "sink", "full"}, {"sink_has_room", "sink", "has_room"},
    {"sink_refused", "sink", "refused"},
};

/* The next key=value of a note; its value may be in double quotes. false: there is none. */
static bool next_pair(const char **text, char *key, size_t key_size, char *value, size_t value_size)
{
    const char *at = *text + strspn(*text, " "), *end;
    size_t n = strcspn(at, "= ");
    if (n == 0 || at[n] != '=' || n >= key_size)
        return false;
    memcpy(key, at, n);
    key[n] = '\0';
    at += n + 1;
    bool quoted = *at == '"';
    if (quoted)
        at++;
    end = at + strcspn(at, quoted ? "\"" : " ");
    size_t len = (size_t)(end - at) < value_size ? (size_t)(end - at) : value_size - 1;
    memcpy(value, at, len);
    value[len] = '\0';
    *text = quoted && *end == '"' ? end + 1 : end;
    return true;
}

/* The note's first pair names the subject of a batch or a worker; of the others there is one. */
static void write_change(struct audit *self, wall_t now, const struct change *c, const char *text)
{
    char bytes[AUDIT_LINE], key[64], value[1200];
    struct line l = {.out = bytes, .size = sizeof bytes};
    const char *word = c->word;
    put_time(&l, now);
    put(&l, " %s ", c->kind);
    if (c->kind[0] == 'b' || c->kind[0] == 'w') {
        if (!next_pair(&text, key, sizeof key, value, sizeof value))
            return;
        put_value(&l, value);
        /* A cancel of single tasks ends no batch. */
        if (strcmp(word, "cancelling") == 0 && strstr(text, "tasks=0 ") == NULL)
            word = "tasks_cancelled";
        put(&l, " ");
    }
    put(&l, "%s", word);
    while (next_pair(&text, key, sizeof key, value, sizeof value) && l.len + 80 < l.size) {
        put(&l, " %s=", key);
        put_value(&l, value);
    }
    write_line(self, &l);
}

void audit_note(struct audit *self, wall_t now, const char *event, const char *text)
{
    for (size_t i = 0; self->file != NULL && i < sizeof changes / sizeof *changes; i++)
        if (strcmp(changes[i].event, event) == 0) {
            write_change(self, now, &changes[i], text);
            return;
        }
}

/* ---- actions ---- */

static void write_action(struct audit *self, wall_t now, const struct asked *a, const char *subject, const char *outcome, const char *words)
{
    char bytes[AUDIT_LINE];
    struct line l = {.out = bytes, .size = sizeof bytes};
    put_time(&l, now);
    put(&l, " action %s", a->what);
    put(&l, " by=");
    put_value(&l, a->by);
    put(&l, " subject=");
    put_value(&l, subject);
    put(&l, " outcome=%s%s%s", outcome, a->words, words);
    if (self->file != NULL)
        write_line(self, &l);
    bool is_often = strcmp(a->what, "submit") == 0;
    log_event(is_often ? LOG_DEBUG : LOG_INFO, "action", "action", a->what, "by", a->by, "subject", subject, "outcome", outcome, NULL);
}

static void forget(struct audit *self, struct asked *a)
{
    TAILQ_REMOVE(&self->asked, a, link);
    self->n_asked--;
    free(a);
}

static void add_reason(struct line *l, const char *reason)
{
    if (reason[0] == '\0')
        return;
    put(l, " reason=");
    put_value(l, reason);
}

/* Its word, its subject, and what else was said; NULL: it is no action. */
static const char *describe(const Wire__Request *m, const char **subject, struct line *words)
{
    switch (m->what_case) {
    case WIRE__REQUEST__WHAT_SUBMIT:
        *subject = m->submit->key;
        return "submit";
    case WIRE__REQUEST__WHAT_SEAL:
        *subject = m->seal->ref;
        return m->seal->ref[0] != '\0' ? "seal" : NULL;     /* by its id: the submitter's own end of input */
    case WIRE__REQUEST__WHAT_CANCEL:
        *subject = m->cancel->ref;
        put(words, " spans=%zu", m->cancel->n_tasks);
        add_reason(words, m->cancel->reason);
        return "cancel";
    case WIRE__REQUEST__WHAT_EXTEND:
        *subject = m->extend->ref;
        put(words, " deadline_ms=%" PRIu64, m->extend->deadline_us / 1000);
        return "extend";
    case WIRE__REQUEST__WHAT_DRAIN:
        *subject = m->drain->worker;
        return "drain";
    case WIRE__REQUEST__WHAT_PURGE:
        *subject = m->purge->ref;
        if (m->purge->older_than != NULL)
            put(words, " older_than_ms=%" PRIu64, m->purge->older_than->us / 1000);
        return "purge";
    case WIRE__REQUEST__WHAT_RETRY:
        *subject = m->retry->ref;
        return m->retry->n_tasks == 0 && !m->retry->last ? "retry" : NULL;      /* its first piece stands for all */
    default:
        return NULL;
    }
}

void audit_asked(struct audit *self, wall_t now, uint32_t peer, const char *by, const Wire__Request *request)
{
    struct asked made = {.peer = peer, .request = request->id};
    struct line words = {.out = made.words, .size = sizeof made.words};
    const char *subject = "", *what = describe(request, &subject, &words);
    if (what == NULL)
        return;
    snprintf(made.what, sizeof made.what, "%s", what);
    snprintf(made.by, sizeof made.by, "%s", by);
    snprintf(made.subject, sizeof made.subject, "%s", subject);
    struct asked *a = malloc(sizeof *a);
    if (a == NULL) {
        write_action(self, now, &made, made.subject, "unknown", "");
        return;
    }
    *a = made;
    TAILQ_INSERT_TAIL(&self->asked, a, link);
    if (++self->n_asked <= AUDIT_ASKED)
        return;
    a = TAILQ_FIRST(&self->asked);
    write_action(self, now, a, a->subject, "unknown", "");
    forget(self, a);
}

void audit_answered(struct audit *self, wall_t now, uint32_t peer, const Wire__Reply *reply)
{
    char bytes[1400];
    struct line words = {.out = bytes, .size = sizeof bytes};
    struct asked *a;
    bytes[0] = '\0';
    TAILQ_FOREACH(a, &self->asked, link)
        if (a->request == reply->id && a->peer == peer)
            break;
    if (a == NULL)
        return;
    const char *subject = a->subject, *outcome = "done";
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        outcome = "refused";
        put(&words, " why=");
        put_value(&words, reply->refused->sentence);
    } else if (reply->what_case == WIRE__REPLY__WHAT_SAY_HELLO) {
        outcome = "again";                  /* the connection was unknown: the client says hello, and repeats it */
    } else if (reply->what_case == WIRE__REPLY__WHAT_SUBMITTED) {
        subject = reply->submitted->short_id;
    } else if (reply->what_case == WIRE__REPLY__WHAT_CANCELLED) {
        subject = reply->cancelled->short_id;
        put(&words, " queued=%" PRIu64 " running=%" PRIu64 " finished=%" PRIu64 " unreachable=%" PRIu64, reply->cancelled->queued,
            reply->cancelled->running, reply->cancelled->finished, reply->cancelled->unreachable);
    } else if (reply->what_case == WIRE__REPLY__WHAT_EXTENDED) {
        subject = reply->extended->short_id;
    } else if (reply->what_case == WIRE__REPLY__WHAT_PURGED) {
        put(&words, " batches=%" PRIu64, reply->purged->batches);
    }
    write_action(self, now, a, subject, outcome, bytes);
    forget(self, a);
}
