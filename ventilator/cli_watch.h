/* The control tower in a terminal. What is known (struct watch) and what is being looked at are plain data; the layout
 * is a pure function from them to cells, and so are the keys to actions. The shell (cli_watch.c) asks the ventilator,
 * cli_watch_screen.c draws cells by ncurses, cli_watch_lines.c prints lines where there is no terminal. */
#ifndef VENTILATOR_CLI_WATCH_H
#define VENTILATOR_CLI_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <wchar.h>

#include "proto/wire.h"

#define WATCH_NAME 64                    /* bytes of a name that are kept, with the NUL */

/* ---- what is known ---- */

struct watch_batch {
    char id[WATCH_NAME], name[WATCH_NAME], note[160];
    Wire__State state;
    uint64_t total, queued, running, counts[WIRE_VERDICTS];
    double rate;
    bool has_eta, has_deadline;
    int64_t eta_us, deadline_us;         /* left, when it was told */
    uint64_t place;                      /* in the order of admission */
};

struct watch_worker {
    char name[WATCH_NAME], state[16], address[WATCH_NAME], handlers[WATCH_NAME];
    uint32_t slots, busy;
    uint64_t held, window, finished, silent_us, service_us;
};

struct watch_attempt {
    char id[WATCH_NAME], worker[WATCH_NAME];
    uint64_t index, age_us;
    uint32_t attempt;
    bool has_left;
    int64_t left_us;
};

enum watch_panel { WATCH_BATCHES, WATCH_WORKERS, WATCH_SLOWEST, WATCH_PANELS };

struct watch_system {
    uint32_t workers, slots, recovering;
    bool sink, journal_full, sink_full, draining;
};

/* ---- what is looked at ---- */

enum watch_mode { WATCH_LOOK, WATCH_HELP, WATCH_STORY, WATCH_CONFIRM, WATCH_TYPE_FILTER, WATCH_TYPE_DEADLINE };
enum watch_action { WATCH_NOTHING, WATCH_QUIT, WATCH_CANCEL, WATCH_EXTEND, WATCH_DRAIN, WATCH_EXPLAIN };

/* What an action is about, fixed when it is asked for: the rows move while somebody reads the question. */
struct watch_target {
    enum watch_action action;
    char name[WATCH_NAME];               /* of the batch or the worker */
    bool has_index;
    uint64_t index;
    int64_t deadline;                    /* ns */
};

struct watch {
    struct watch_batch *batches;
    size_t n_batches;
    struct watch_worker *workers;
    size_t n_workers;
    struct watch_attempt *attempts;
    size_t n_attempts;
    struct watch_system system;
    char endpoint[256];
    bool heard;                          /* ever */
    bool stale;                          /* the last answer is older than it should be */
    int64_t age_us;                      /* since that answer */

    enum watch_panel panel;
    enum watch_mode mode;
    unsigned sort[WATCH_PANELS];
    char chosen[WATCH_PANELS][2 * WATCH_NAME];       /* the selected row by its key: it keeps its place when rows move */
    char filter[WATCH_NAME], typed[WATCH_NAME];
    struct watch_target target;
    char message[512];                   /* what came of the last action */
    bool message_bad;
    char story[2048];                    /* the answer to an explain */
};

/* What others have named is shown with control characters replaced, cut to the room there is. */
void watch_copy(char *out, size_t size, const char *text);
/* The rows of a panel as they are shown: filtered and sorted. Returns how many; *ret is owned by the caller, NULL
 * without memory. Each is a struct watch_batch, watch_worker or watch_attempt of self. */
size_t watch_rows(const struct watch *self, enum watch_panel panel, const void ***ret);
void watch_key_of(enum watch_panel panel, const void *row, char *out, size_t size);
const char *watch_sort_name(const struct watch *self, enum watch_panel panel);

/* ---- keys ---- */

/* Plain characters are themselves; these are the others. */
enum watch_key {
    WATCH_KEY_UP = 0x110000, WATCH_KEY_DOWN, WATCH_KEY_PAGE_UP, WATCH_KEY_PAGE_DOWN, WATCH_KEY_BACKSPACE, WATCH_KEY_ENTER,
    WATCH_KEY_ESCAPE, WATCH_KEY_TAB, WATCH_KEY_BACK_TAB,
};
/* What a key does to what is looked at; an action that is confirmed is returned, and described by self->target. */
enum watch_action watch_key(struct watch *self, unsigned key);

/* ---- the layout ---- */

enum watch_style {
    STYLE_PLAIN, STYLE_DIM, STYLE_TITLE, STYLE_HEAD, STYLE_SELECTED, STYLE_GOOD, STYLE_WARN, STYLE_BAD, STYLE_ALERT, WATCH_STYLES,
};

struct watch_cell {
    wchar_t ch;                          /* 0: the second half of a wide one */
    unsigned char style;
};

struct watch_screen {
    unsigned cols, rows;
    struct watch_cell *cells;            /* rows × cols, owned by the caller */
};

/* Fills the whole screen. Characters that the locale (LC_CTYPE) can't show become '?'. */
void watch_layout(const struct watch *self, struct watch_screen *screen);

/* One line for people on how it goes: a batch; the system. */
void watch_line_of_batch(const struct watch_batch *b, int64_t age_us, char *out, size_t size);
void watch_line_of_system(const struct watch *self, char *out, size_t size);

/* ---- the terminal (cli_watch_screen.c) ---- */

struct terminal;
/* Takes the terminal of standard output over. NULL: it can't be drawn on (TERM), and nothing was changed. It is given back by
 * terminal_close, and when the process exits or is ended by a fault. */
struct terminal *terminal_open(bool colour);
void terminal_close(struct terminal **self_p);
void terminal_resize(struct terminal *self);                         /* after SIGWINCH */
void terminal_draw(struct terminal *self, const struct watch *watch);
bool terminal_key(struct terminal *self, unsigned *ret_key);         /* one that waits; false: none */

#endif
