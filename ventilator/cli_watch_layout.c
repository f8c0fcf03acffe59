/* From what is known to what is on the screen: pure, so that tests can look at every size. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "ventilator/cli_watch.h"

/* ---- cells ---- */

static void put_cell(struct watch_screen *s, unsigned row, unsigned col, wchar_t ch, enum watch_style style)
{
    s->cells[(size_t)row * s->cols + col] = (struct watch_cell){ch, (unsigned char)style};
}

static void fill(struct watch_screen *s, unsigned row, unsigned col, unsigned width, enum watch_style style)
{
    for (unsigned i = 0; i < width && col + i < s->cols && row < s->rows; i++)
        put_cell(s, row, col + i, L' ', style);
}

/* Writes at most `width` columns; returns how many. What has no width of its own (control and joining characters, those that
 * change the direction) would let a name write over its neighbours: it becomes '?'. */
static unsigned put(struct watch_screen *s, unsigned row, unsigned col, unsigned width, enum watch_style style, const char *text)
{
    mbstate_t state = {0};
    unsigned used = 0;
    if (row >= s->rows)
        return 0;
    while (*text != '\0') {
        wchar_t ch;
        size_t len = mbrtowc(&ch, text, strlen(text), &state);
        if (len == (size_t)-1 || len == (size_t)-2) {
            state = (mbstate_t){0};
            len = 1;
            ch = L'?';
        }
        text += len;
        int columns = wcwidth(ch);
        if (columns < 1) {
            ch = L'?';
            columns = 1;
        }
        if (used + (unsigned)columns > width || col + used + (unsigned)columns > s->cols)
            break;
        put_cell(s, row, col + used, ch, style);
        if (columns == 2)
            put_cell(s, row, col + used + 1, 0, style);
        used += (unsigned)columns;
    }
    return used;
}

/* ---- words ---- */

static const char *time_text(int64_t us, char out[32])
{
    int64_t s = us / 1000000;
    if (us < 0)
        snprintf(out, 32, "over");
    else if (us < 10000000)
        snprintf(out, 32, "%" PRId64 ".%" PRId64 "s", s, us / 100000 % 10);
    else if (s < 60)
        snprintf(out, 32, "%" PRId64 "s", s);
    else if (s < 3600)
        snprintf(out, 32, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, 32, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    else
        snprintf(out, 32, "%" PRId64 "d%02" PRId64 "h", s / 86400, s / 3600 % 24);
    return out;
}

static const char *count_text(uint64_t n, char out[32])
{
    if (n < 100000)
        snprintf(out, 32, "%" PRIu64, n);
    else if (n < 10000000)
        snprintf(out, 32, "%.*fk", n < 1000000 ? 1 : 0, (double)n / 1e3);
    else
        snprintf(out, 32, "%.1f%c", (double)n / (n < 1000000000 ? 1e6 : 1e9), n < 1000000000 ? 'M' : 'G');
    return out;
}

static void rate_text(double rate, char *out, size_t size)
{
    if (rate >= 100000)
        snprintf(out, size, "%.0fk/s", rate / 1000);
    else
        snprintf(out, size, "%.*f/s", rate < 100 ? 1 : 0, rate);
}

static uint64_t settled(const struct watch_batch *b)
{
    uint64_t n = 0;
    for (size_t v = WIRE__VERDICT__OK; v < WIRE_VERDICTS; v++)
        n += b->counts[v];
    return n;
}

/* A bar of `width` cells; in a locale without blocks by plain characters. */
static void bar_text(uint64_t part, uint64_t whole, unsigned width, char *out, size_t size)
{
    bool blocks = wcwidth(L'█') == 1;
    uint64_t done = whole == 0 ? 0 : (uint64_t)((unsigned __int128)(part < whole ? part : whole) * width / whole);
    size_t n = 0;
    for (unsigned i = 0; i < width && n + 4 < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s", i < done ? (blocks ? "█" : "#") : (blocks ? "░" : "."));
}

/* ---- columns ---- */

struct field {
    char text[256];
    enum watch_style style;
};

/* Columns appear from a width of the screen on; the last one of a panel gets what is left. */
struct column {
    const char *title;
    unsigned width, from;
    bool left;
    void (*show)(const struct watch *w, const void *row, struct field *f);
};

#define SHOW(name, type) static void name(const struct watch *w, const void *row, struct field *f)
#define BATCH const struct watch_batch *b = row; (void)w
#define WORKER const struct watch_worker *r = row; (void)w
#define ATTEMPT const struct watch_attempt *a = row; (void)w

static void show_count(struct field *f, uint64_t n, enum watch_style style)
{
    if (n == 0 && style != STYLE_PLAIN)
        snprintf(f->text, sizeof f->text, "-");
    else
        count_text(n, f->text);
    f->style = n == 0 ? STYLE_DIM : style;
}

SHOW(batch_id, b) { BATCH; snprintf(f->text, sizeof f->text, "%s", b->id); }
SHOW(batch_name, b)
{
    BATCH;
    bool note = b->note[0] != '\0' && b->state != WIRE__STATE__COMPLETE;
    snprintf(f->text, sizeof f->text, "%s%s%s", b->name, note && b->name[0] ? ": " : "", note ? b->note : "");
    f->style = note ? STYLE_WARN : STYLE_PLAIN;
}
SHOW(batch_state, b) { BATCH; snprintf(f->text, sizeof f->text, "%s", wire_state_name(b->state)); }
SHOW(batch_bar, b)
{
    BATCH;
    char bar[64] = "";
    bar_text(settled(b), b->total, 6, bar, sizeof bar);
    snprintf(f->text, sizeof f->text, "%s %3u%%", bar, b->total == 0 ? 0u : (unsigned)((unsigned __int128)settled(b) * 100 / b->total));
    f->style = b->state == WIRE__STATE__CANCELLING ? STYLE_WARN : STYLE_GOOD;
}
SHOW(batch_done, b)
{
    BATCH;
    char done[32], total[32];
    snprintf(f->text, sizeof f->text, "%s/%s%s", count_text(settled(b), done), count_text(b->total, total), b->state == WIRE__STATE__OPEN ? "+" : "");
}
SHOW(batch_running, b) { BATCH; show_count(f, b->running, STYLE_PLAIN); }
SHOW(batch_queued, b) { BATCH; show_count(f, b->queued, STYLE_PLAIN); }
SHOW(batch_ok, b) { BATCH; show_count(f, b->counts[WIRE__VERDICT__OK], STYLE_GOOD); }
SHOW(batch_failed, b) { BATCH; show_count(f, b->counts[WIRE__VERDICT__FAILED], STYLE_BAD); }
SHOW(batch_late, b) { BATCH; show_count(f, b->counts[WIRE__VERDICT__DEADLINE_EXCEEDED], STYLE_WARN); }
SHOW(batch_cancelled, b) { BATCH; show_count(f, b->counts[WIRE__VERDICT__CANCELLED], STYLE_WARN); }
SHOW(batch_lost, b) { BATCH; show_count(f, b->counts[WIRE__VERDICT__LOST] + b->counts[WIRE__VERDICT__REJECTED], STYLE_BAD); }
SHOW(batch_not_ok, b) { BATCH; show_count(f, settled(b) - b->counts[WIRE__VERDICT__OK], STYLE_BAD); }
SHOW(batch_rate, b)
{
    BATCH;
    if (b->state == WIRE__STATE__COMPLETE)
        snprintf(f->text, sizeof f->text, "-");
    else
        rate_text(b->rate, f->text, sizeof f->text);
}
SHOW(batch_eta, b)
{
    BATCH;
    char text[32];
    f->style = b->state == WIRE__STATE__COMPLETE ? STYLE_GOOD : b->state == WIRE__STATE__CANCELLING ? STYLE_WARN : STYLE_PLAIN;
    snprintf(f->text, sizeof f->text, "%s", b->state == WIRE__STATE__COMPLETE ? "done" : b->state == WIRE__STATE__CANCELLING ? "stops"
             : b->has_eta ? time_text(b->eta_us - w->age_us > 0 ? b->eta_us - w->age_us : 0, text) : "-");
}
SHOW(batch_deadline, b)
{
    BATCH;
    int64_t left = b->deadline_us - w->age_us;
    if (!b->has_deadline || b->state == WIRE__STATE__COMPLETE) {
        snprintf(f->text, sizeof f->text, "-");
        return;
    }
    time_text(left, f->text);
    f->style = left < 10000000 ? STYLE_BAD : left < 60000000 || (b->has_eta && b->eta_us > b->deadline_us) ? STYLE_WARN : STYLE_PLAIN;
}

static const struct column batch_columns[] = {
    {"BATCH", 7, 0, true, batch_id}, {"STATE", 10, 120, true, batch_state}, {"PROGRESS", 11, 60, true, batch_bar},
    {"DONE", 11, 0, false, batch_done}, {"QUEUED", 7, 140, false, batch_queued}, {"RUN", 5, 50, false, batch_running},
    {"OK", 7, 110, false, batch_ok}, {"FAILED", 7, 110, false, batch_failed}, {"LATE", 6, 110, false, batch_late},
    {"CANCELLED", 9, 130, false, batch_cancelled}, {"LOST", 5, 130, false, batch_lost}, {"NOT OK", 6, 40, false, batch_not_ok},
    {"RATE", 8, 70, false, batch_rate}, {"ETA", 6, 60, false, batch_eta}, {"DEADLINE", 8, 40, false, batch_deadline},
    {"NAME", 6, 0, true, batch_name},
};

SHOW(worker_name, r) { WORKER; snprintf(f->text, sizeof f->text, "%s", r->name); }
SHOW(worker_state, r)
{
    WORKER;
    bool bad = strcmp(r->state, "silent") == 0 || strcmp(r->state, "away") == 0 || strcmp(r->state, "cut_off") == 0;
    snprintf(f->text, sizeof f->text, "%s", r->state);
    f->style = bad ? STYLE_BAD : strcmp(r->state, "ready") == 0 ? STYLE_GOOD : STYLE_WARN;
}
SHOW(worker_slots, r)
{
    WORKER;
    char bar[64] = "";
    bar_text(r->busy, r->slots, 8, bar, sizeof bar);
    snprintf(f->text, sizeof f->text, "%s %" PRIu32 "/%" PRIu32, bar, r->busy, r->slots);
    f->style = STYLE_GOOD;
}
SHOW(worker_held, r) { WORKER; snprintf(f->text, sizeof f->text, "%" PRIu64 "/%" PRIu64, r->held, r->window); }
SHOW(worker_finished, r) { WORKER; show_count(f, r->finished, STYLE_PLAIN); }
SHOW(worker_service, r) { WORKER; time_text((int64_t)r->service_us, f->text); if (r->service_us < 100000) snprintf(f->text, 32, "%.1fms", (double)r->service_us / 1e3); }
SHOW(worker_silent, r)
{
    WORKER;
    int64_t silent = (int64_t)r->silent_us + w->age_us;
    time_text(silent, f->text);
    f->style = silent > 5000000 && !w->stale ? STYLE_WARN : STYLE_PLAIN;
}
SHOW(worker_address, r) { WORKER; snprintf(f->text, sizeof f->text, "%s", r->address); }
SHOW(worker_handlers, r) { WORKER; snprintf(f->text, sizeof f->text, "%s", r->handlers); }

static const struct column worker_columns[] = {
    {"WORKER", 16, 0, true, worker_name}, {"STATE", 8, 40, true, worker_state}, {"SLOTS", 16, 60, true, worker_slots},
    {"HELD", 9, 0, false, worker_held}, {"FINISHED", 8, 70, false, worker_finished}, {"A TASK", 8, 110, false, worker_service},
    {"SILENT", 7, 50, false, worker_silent}, {"ADDRESS", 20, 140, true, worker_address}, {"HANDLERS", 6, 0, true, worker_handlers},
};

SHOW(attempt_id, a) { ATTEMPT; snprintf(f->text, sizeof f->text, "%s", a->id); }
SHOW(attempt_index, a) { ATTEMPT; snprintf(f->text, sizeof f->text, "%" PRIu64, a->index); }
SHOW(attempt_number, a) { ATTEMPT; snprintf(f->text, sizeof f->text, "%" PRIu32, a->attempt); }
SHOW(attempt_worker, a) { ATTEMPT; snprintf(f->text, sizeof f->text, "%s", a->worker); }
SHOW(attempt_age, a) { ATTEMPT; time_text((int64_t)a->age_us + w->age_us, f->text); }
SHOW(attempt_left, a)
{
    ATTEMPT;
    int64_t left = a->left_us - w->age_us;
    if (!a->has_left) {
        snprintf(f->text, sizeof f->text, "-");
        return;
    }
    time_text(left, f->text);
    f->style = left < 10000000 ? STYLE_BAD : left < 60000000 ? STYLE_WARN : STYLE_PLAIN;
}
SHOW(attempt_fuel, a)
{
    ATTEMPT;
    int64_t left = a->left_us - w->age_us, whole = (int64_t)a->age_us + a->left_us;
    if (!a->has_left || whole <= 0)
        return;
    bar_text((uint64_t)(left > 0 ? left : 0), (uint64_t)whole, 16, f->text, sizeof f->text);
    f->style = left * 10 < whole ? STYLE_BAD : left * 4 < whole ? STYLE_WARN : STYLE_GOOD;
}

static const struct column attempt_columns[] = {
    {"BATCH", 7, 0, true, attempt_id}, {"TASK", 11, 0, false, attempt_index}, {"ATTEMPT", 7, 50, false, attempt_number},
    {"WORKER", 16, 40, true, attempt_worker}, {"RUNS FOR", 8, 0, false, attempt_age}, {"LEFT", 7, 40, false, attempt_left},
    {"FUEL", 6, 60, true, attempt_fuel},
};

static const struct panel {
    const char *title, *none;
    const struct column *columns;
    size_t n;
} panels[WATCH_PANELS] = {
    [WATCH_BATCHES] = {"1 Batches", "no batches", batch_columns, sizeof batch_columns / sizeof *batch_columns},
    [WATCH_WORKERS] = {"2 Workers", "no workers", worker_columns, sizeof worker_columns / sizeof *worker_columns},
    [WATCH_SLOWEST] = {"3 Slowest", "nothing runs", attempt_columns, sizeof attempt_columns / sizeof *attempt_columns},
};

static void put_field(struct watch_screen *s, unsigned row, unsigned col, unsigned width, bool left, enum watch_style style, const char *text)
{
    struct watch_cell room[32];
    struct watch_screen one = {.cols = sizeof room / sizeof *room, .rows = 1, .cells = room};
    unsigned used = left || width > one.cols ? width : put(&one, 0, 0, width, style, text);
    put(s, row, col + (width - used), used, style, text);
}

static void put_row(struct watch_screen *s, const struct watch *w, const struct panel *p, unsigned row, const void *of, bool selected)
{
    unsigned col = 2;
    for (size_t i = 0; i < p->n && col < s->cols; i++) {
        const struct column *c = &p->columns[i];
        struct field f = {"", STYLE_PLAIN};
        if (s->cols < c->from)
            continue;
        unsigned width = i + 1 == p->n ? s->cols - col : c->width;
        if (of)
            c->show(w, of, &f);
        else
            snprintf(f.text, sizeof f.text, "%s", c->title);
        put_field(s, row, col, width, c->left, of ? selected ? STYLE_SELECTED : w->stale ? STYLE_DIM : f.style : STYLE_HEAD, f.text);
        col += width + 1;
    }
}

static size_t selected_of(const struct watch *w, enum watch_panel panel, const void *const *rows, size_t n)
{
    char key[2 * WATCH_NAME];
    for (size_t i = 0; i < n; i++) {
        watch_key_of(panel, rows[i], key, sizeof key);
        if (strcmp(key, w->chosen[panel]) == 0)
            return i;
    }
    return 0;
}

static void put_title(struct watch_screen *s, const struct watch *w, enum watch_panel panel, unsigned row, size_t n, size_t room)
{
    char text[200];
    bool here = w->panel == panel;
    fill(s, row, 0, s->cols, STYLE_TITLE);
    snprintf(text, sizeof text, "%s%s  %zu%s%s, by %s%s%s", here ? "> " : "  ", panels[panel].title, n, n > room ? ", some not shown" : "",
             w->filter[0] ? " that match" : "", watch_sort_name(w, panel), w->filter[0] ? "  filter: " : "", w->filter);
    put(s, row, 0, s->cols, STYLE_TITLE, text);
}

/* A panel of `height` lines: title, heads, rows; the rows scroll so that the selected one is seen. */
static void put_panel(struct watch_screen *s, const struct watch *w, enum watch_panel panel, unsigned row, unsigned height)
{
    const void **rows;
    if (height < 3)
        return;
    size_t n = watch_rows(w, panel, &rows), room = height - 2, at = selected_of(w, panel, rows, n);
    size_t first = at >= room ? at - room + 1 : 0;
    put_title(s, w, panel, row, n, room);
    put_row(s, w, &panels[panel], row + 1, NULL, false);
    for (size_t i = 0; i < room && first + i < n; i++) {
        bool selected = first + i == at && w->panel == panel;
        unsigned line = row + 2 + (unsigned)i;
        if (selected) {
            fill(s, line, 0, s->cols, STYLE_SELECTED);
            put(s, line, 0, 2, STYLE_SELECTED, ">");
        }
        put_row(s, w, &panels[panel], line, rows[first + i], selected);
    }
    if (n == 0)
        put(s, row + 2, 2, s->cols, STYLE_DIM, w->heard ? w->filter[0] ? "nothing matches the filter" : panels[panel].none : "waiting for the first answer");
    free(rows);
}

/* ---- the whole ---- */

static void put_top(struct watch_screen *s, const struct watch *w)
{
    char text[400], age[32];
    fill(s, 0, 0, s->cols, STYLE_HEAD);
    put(s, 0, 0, s->cols, STYLE_HEAD, " Tarmac control tower");
    if (!w->heard)
        snprintf(text, sizeof text, " connecting to %s ", w->endpoint);
    else if (w->stale)
        snprintf(text, sizeof text, " STALE: no answer for %s ", time_text(w->age_us, age));
    else
        snprintf(text, sizeof text, " live  %s ", w->endpoint);
    unsigned len = (unsigned)strlen(text);
    put(s, 0, s->cols > len + 22 ? s->cols - len : 22, len, w->stale || !w->heard ? STYLE_ALERT : STYLE_HEAD, text);
    watch_line_of_system(w, text, sizeof text);
    put(s, 1, 1, s->cols - 1, w->stale ? STYLE_DIM : STYLE_PLAIN, text);
}

void watch_line_of_system(const struct watch *w, char *out, size_t size)
{
    uint64_t queued = 0, running = 0;
    uint32_t busy = 0;
    double rate = 0;
    char q[32], r[32], speed[32];
    for (size_t i = 0; i < w->n_batches; i++) {
        queued += w->batches[i].queued;
        running += w->batches[i].running;
        rate += w->batches[i].state == WIRE__STATE__COMPLETE ? 0 : w->batches[i].rate;
    }
    for (size_t i = 0; i < w->n_workers; i++)
        busy += w->workers[i].busy;
    rate_text(rate, speed, sizeof speed);
    snprintf(out, size, "%" PRIu32 " worker%s, %" PRIu32 "/%" PRIu32 " slots busy, %s queued, %s at workers, %s%s%s%s%s", w->system.workers,
             w->system.workers == 1 ? "" : "s", busy, w->system.slots, count_text(queued, q), count_text(running, r), speed,
             w->heard && !w->system.sink ? ", NO SINK" : "", w->system.sink_full ? ", SINK'S DISK FULL" : "",
             w->system.journal_full ? ", JOURNAL'S DISK FULL" : "", w->system.draining ? ", DRAINING" : "");
}

void watch_line_of_batch(const struct watch_batch *b, int64_t age_us, char *out, size_t size)
{
    char text[32];
    size_t n = (size_t)snprintf(out, size, "%s%s%s%s %s %" PRIu64 "/%" PRIu64, b->id, b->name[0] ? " \"" : "", b->name, b->name[0] ? "\"" : "",
                                wire_state_name(b->state), settled(b), b->total);
    for (int v = WIRE__VERDICT__OK; v < (int)WIRE_VERDICTS && n < size; v++)
        if (b->counts[v] > 0)
            n += (size_t)snprintf(out + n, size - n, "  %s %" PRIu64, wire_verdict_name((Wire__Verdict)v), b->counts[v]);
    if (b->state == WIRE__STATE__COMPLETE || n >= size)
        return;
    n += (size_t)snprintf(out + n, size - n, "  running %" PRIu64 "  queued %" PRIu64 "  %.1f/s", b->running, b->queued, b->rate);
    if (b->has_eta && n < size)
        n += (size_t)snprintf(out + n, size - n, "  eta %s", time_text(b->eta_us, text));
    if (b->has_deadline && n < size)
        n += (size_t)snprintf(out + n, size - n, "  deadline %s", time_text(b->deadline_us - age_us, text));
    if (b->note[0] != '\0' && n < size)
        snprintf(out + n, size - n, "  (%s)", b->note);
}

static void question(const struct watch *w, char *out, size_t size)
{
    const struct watch_target *t = &w->target;
    char text[32];
    switch (t->action) {
    case WATCH_CANCEL:
        if (t->has_index)
            snprintf(out, size, " cancel task %" PRIu64 " of batch %s? (y/n) ", t->index, t->name);
        else
            snprintf(out, size, " cancel all of batch %s? (y/n) ", t->name);
        break;
    case WATCH_EXTEND: snprintf(out, size, " let batch %s end within %s from now? (y/n) ", t->name, time_text(t->deadline / NS_PER_US, text)); break;
    case WATCH_DRAIN:  snprintf(out, size, " empty worker %s, and let it leave? (y/n) ", t->name); break;
    default: out[0] = '\0';
    }
}

static void put_bottom(struct watch_screen *s, const struct watch *w)
{
    char text[700];
    enum watch_style style = STYLE_ALERT;
    if (w->mode == WATCH_CONFIRM) {
        question(w, text, sizeof text);
    } else if (w->mode == WATCH_TYPE_FILTER) {
        snprintf(text, sizeof text, " filter: %s_   (Enter keeps it, Esc shows all) ", w->typed);
    } else if (w->mode == WATCH_TYPE_DEADLINE) {
        snprintf(text, sizeof text, " new deadline of %s, from now, such as 10m: %s_ ", w->target.name, w->typed);
    } else if (w->message[0] != '\0') {
        snprintf(text, sizeof text, " %s", w->message);
        style = w->message_bad ? STYLE_ALERT : STYLE_HEAD;
    } else {
        snprintf(text, sizeof text, " ? help  Tab panel  jk move  s sort  / filter  x why  c cancel  e extend  d drain");
        style = STYLE_HEAD;
    }
    fill(s, s->rows - 1, 0, s->cols, style == STYLE_ALERT ? STYLE_ALERT : STYLE_HEAD);
    put(s, s->rows - 1, 0, s->cols, style, text);
}

static const char help[] =
    "The control tower shows what flies, where, and how long it has left.\n"
    "\n"
    "  Tab, 1 2 3     batches, workers, the attempts that have run longest\n"
    "  j k, arrows    move        PgUp PgDn  by tens\n"
    "  s              sort by something else\n"
    "  /              filter by a part of the id, the name, the worker\n"
    "  x, Enter       why does it not run?\n"
    "  c              cancel the batch, or the task (it asks first)\n"
    "  e              extend: a new deadline for the batch (it asks first)\n"
    "  d              drain the worker: it finishes and leaves (it asks first)\n"
    "  q, Ctrl-C      quit; everything goes on flying\n"
    "\n"
    "  DONE 80/100+   the + means: more tasks may come\n"
    "  LATE           ended by a timeout or the deadline\n"
    "  FUEL           how much of its time an attempt has left\n"
    "  STALE          the ventilator does not answer: what you see is old\n";

static void put_text(struct watch_screen *s, const char *title, const char *text)
{
    for (unsigned r = 2; r + 1 < s->rows; r++)
        fill(s, r, 0, s->cols, STYLE_PLAIN);
    put(s, 2, 0, s->cols, STYLE_TITLE, title);
    for (unsigned r = 4; *text != '\0' && r + 1 < s->rows; r++) {
        char line[512];
        size_t len = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(len < sizeof line ? len : sizeof line - 1), text);
        put(s, r, 2, s->cols > 2 ? s->cols - 2 : 0, STYLE_PLAIN, line);
        text += len + (text[len] == '\n');
    }
}

void watch_layout(const struct watch *w, struct watch_screen *s)
{
    if (s->rows == 0 || s->cols == 0)
        return;
    for (unsigned r = 0; r < s->rows; r++)
        fill(s, r, 0, s->cols, STYLE_PLAIN);
    /* A screen this low shows the panel that is looked at, and nothing of the others. */
    unsigned top = s->rows >= 4 ? 2 : 0, body = s->rows > top + 1 ? s->rows - top - 1 : 0;
    if (top > 0)
        put_top(s, w);
    if (body < 12) {
        put_panel(s, w, w->panel, top, body);
    } else {
        unsigned batches = body * 2 / 5, workers = (body - batches) / 2;
        put_panel(s, w, WATCH_BATCHES, top, batches);
        put_panel(s, w, WATCH_WORKERS, top + batches, workers);
        put_panel(s, w, WATCH_SLOWEST, top + batches + workers, body - batches - workers);
    }
    if (w->mode == WATCH_HELP)
        put_text(s, " Help (any key goes back) ", help);
    if (w->mode == WATCH_STORY)
        put_text(s, " Explain (any key goes back) ", w->story);
    put_bottom(s, w);
}
