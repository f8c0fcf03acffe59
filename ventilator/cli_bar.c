/* Progress on standard error: a bar on a terminal, redrawn at most ten times a second; elsewhere a
 * line every few seconds. The stream says what is recorded; the ventilator is asked once a second for
 * what only it knows (running, queued, time left). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ventilator/cli_output.h"

#define REDRAW (100 * NS_PER_MS)
#define SAY_AGAIN (5 * NS_PER_S)
#define ASK_AGAIN NS_PER_S
#define RATE_POINTS 8              /* the rate is that of the last so many looks, half a second apart */
#define RATE_EVERY (NS_PER_S / 2)

struct bar {
    struct cli *cli;
    struct bar_state state;
    char ref[33];
    bool terminal, drawn;
    struct loop_timer show, ask;
    uint64_t asked;                /* the request that is outstanding */
    mono_t deadline;
    struct { mono_t at; uint64_t recorded; } points[RATE_POINTS];
    size_t n_points;
    char said[512];
};

/* ---- one line ---- */

static void add(char *out, size_t size, const char *text)
{
    size_t len = strlen(out);
    snprintf(out + len, size - len, "%s", text);
}

static const char *short_time(int64_t ns, char out[32])
{
    int64_t s = ns / NS_PER_S;
    if (s < 60)
        snprintf(out, 32, "%" PRId64 "s", s);
    else if (s < 3600)
        snprintf(out, 32, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    else
        snprintf(out, 32, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    return out;
}

static void add_counts(const struct bar_state *s, char *out, size_t size)
{
    char part[96];
    if (s->total_known)
        snprintf(part, sizeof part, " %" PRIu64 "/%" PRIu64, s->recorded, s->total);
    else
        snprintf(part, sizeof part, " %" PRIu64 " of %" PRIu64 " so far", s->recorded, s->total);
    add(out, size, part);
    if (s->cancelling)
        add(out, size, "  cancelling");
    for (int v = WIRE__VERDICT__OK; v < (int)WIRE_VERDICTS; v++) {
        if (s->counts[v] == 0 && v != WIRE__VERDICT__OK)
            continue;
        snprintf(part, sizeof part, "  %s %" PRIu64, wire_verdict_name((Wire__Verdict)v), s->counts[v]);
        add(out, size, part);
    }
    if (s->running > 0) {
        snprintf(part, sizeof part, "  running %" PRIu64, s->running);
        add(out, size, part);
    }
}

static void add_times(const struct bar_state *s, char *out, size_t size)
{
    char part[96], text[32];
    if (s->rate >= 0) {
        snprintf(part, sizeof part, "  %.*f/s", s->rate < 10 ? 1 : 0, s->rate);
        add(out, size, part);
    }
    if (s->total_known && s->rate > 0 && s->recorded < s->total) {
        double eta = (double)(s->total - s->recorded) / s->rate;
        snprintf(part, sizeof part, "  eta %s", short_time((int64_t)(eta < 1e9 ? eta : 1e9) * NS_PER_S, text));
        add(out, size, part);
    }
    if (s->deadline_left >= 0) {
        snprintf(part, sizeof part, "  deadline %s", short_time(s->deadline_left, text));
        add(out, size, part);
    }
}

void bar_line(const struct bar_state *s, bool drawn, size_t width, char *out, size_t size)
{
    snprintf(out, size, "%s", s->short_id);
    if (drawn && s->total_known && s->total > 0) {
        char bar[23] = " [....................]";
        uint64_t done = s->recorded < s->total ? s->recorded : s->total;
        memset(bar + 2, '#', (size_t)((unsigned __int128)done * 20 / s->total));
        char whole[32];
        snprintf(whole, sizeof whole, "%.22s]", bar);
        add(out, size, whole);
    }
    add_counts(s, out, size);
    add_times(s, out, size);
    if (strlen(out) > width)
        out[width] = '\0';
}

/* ---- drawing ---- */

static size_t terminal_width(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 10 ? w.ws_col - 1u : 79u;
}

void bar_clear(struct bar *self)
{
    if (!self || !self->drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    self->drawn = false;
}

static void look_at_rate(struct bar *self, mono_t now)
{
    if (self->n_points > 0 && mono_since(now, self->points[self->n_points - 1].at) < RATE_EVERY)
        return;
    if (self->n_points == RATE_POINTS)
        memmove(self->points, self->points + 1, --self->n_points * sizeof *self->points);
    self->points[self->n_points].at = now;
    self->points[self->n_points++].recorded = self->state.recorded;
    int64_t took = mono_since(now, self->points[0].at);
    if (took > 0)
        self->state.rate = (double)(self->state.recorded - self->points[0].recorded) * 1e9 / (double)took;
}

static void show(void *arg)
{
    struct bar *self = arg;
    char line[512];
    mono_t now = loop_now(self->cli->loop);
    look_at_rate(self, now);
    int64_t left = mono_since(self->deadline, now);
    self->state.deadline_left = mono_is_never(self->deadline) ? -1 : left > 0 ? left : 0;
    bar_line(&self->state, self->terminal, self->terminal ? terminal_width() : sizeof line - 1, line, sizeof line);
    if (self->terminal)
        fprintf(stderr, "\r%s\033[K", line);
    else if (strcmp(line, self->said) != 0)
        fprintf(stderr, "ventilator: %s\n", line);
    fflush(stderr);
    snprintf(self->said, sizeof self->said, "%s", line);
    self->drawn = self->terminal;
    loop_timer_set(self->cli->loop, &self->show, mono_add(now, self->terminal ? REDRAW : SAY_AGAIN));
}

/* ---- asking ---- */

static void on_status(void *arg, const Wire__Reply *reply)
{
    struct bar *self = arg;
    self->asked = 0;
    if (reply->what_case != WIRE__REPLY__WHAT_STATUS || reply->status->n_batches != 1)
        return;
    const Wire__BatchStatus *s = reply->status->batches[0];
    self->state.running = s->running;
    self->state.queued = s->queued;
    self->state.total = s->total > self->state.total ? s->total : self->state.total;
    self->deadline = s->deadline_left ? mono_add(loop_now(self->cli->loop), s->deadline_left->us * NS_PER_US) : MONO_NEVER;
}

static void ask(void *arg)
{
    struct bar *self = arg;
    struct client *client = self->cli->client;
    /* Only by the way: its absence is not for the bar to complain about. */
    if (client_is_up(client) && !self->asked) {
        Wire__Status status = WIRE__STATUS__INIT;
        Wire__Request m = WIRE__REQUEST__INIT;
        status.ref = self->ref;
        m.what_case = WIRE__REQUEST__WHAT_STATUS;
        m.status = &status;
        self->asked = client_request(client, &m, on_status, self);
    } else if (!client_is_up(client)) {
        client_forget(client, self->asked);
        self->asked = 0;
    }
    loop_timer_set(self->cli->loop, &self->ask, mono_add(loop_now(self->cli->loop), ASK_AGAIN));
}

/* ---- all of it ---- */

struct bar *bar_new(struct cli *cli, const char *short_id, const uint8_t batch[WIRE_ID])
{
    const struct cli_options *o = cli->options;
    bool terminal = isatty(STDERR_FILENO);
    if (o->bar_given && !o->bar)
        return NULL;
    struct bar *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->cli = cli;
    self->terminal = terminal;
    self->deadline = MONO_NEVER;
    self->state.rate = -1;
    snprintf(self->state.short_id, sizeof self->state.short_id, "%s", short_id);
    wire_id_hex(batch, self->ref);
    self->show = (struct loop_timer){.fire = show, .arg = self};
    self->ask = (struct loop_timer){.fire = ask, .arg = self};
    mono_t now = mono_now();
    loop_timer_set(cli->loop, &self->show, mono_add(now, terminal ? REDRAW : SAY_AGAIN));
    loop_timer_set(cli->loop, &self->ask, mono_add(now, terminal ? REDRAW : ASK_AGAIN));
    return self;
}

void bar_destroy(struct bar **self_p)
{
    struct bar *self = *self_p;
    if (!self)
        return;
    bar_clear(self);
    loop_timer_clear(self->cli->loop, &self->show);
    loop_timer_clear(self->cli->loop, &self->ask);
    client_forget(self->cli->client, self->asked);
    free(self);
    *self_p = NULL;
}

void bar_progress(struct bar *self, uint64_t recorded, const uint64_t *counts, size_t n_counts, bool total_known, uint64_t total)
{
    if (!self)
        return;
    self->state.recorded = recorded;
    for (size_t v = 0; v < n_counts && v < WIRE_VERDICTS; v++)
        self->state.counts[v] = counts[v];
    self->state.total_known = total_known;
    if (total_known)
        self->state.total = total;
}

void bar_cancelling(struct bar *self)
{
    if (self)
        self->state.cancelling = true;
}
