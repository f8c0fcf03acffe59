/* What the keys of the control tower do. Nothing that changes the world is done without a question first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "ventilator/cli_watch.h"

#define PAGE 10

static void say(struct watch *self, const char *text)
{
    snprintf(self->message, sizeof self->message, "%s", text);
    self->message_bad = false;
}

/* ---- moving ---- */

static size_t find_chosen(const struct watch *self, enum watch_panel panel, const void *const *rows, size_t n)
{
    char key[2 * WATCH_NAME];
    for (size_t i = 0; i < n; i++) {
        watch_key_of(panel, rows[i], key, sizeof key);
        if (strcmp(key, self->chosen[panel]) == 0)
            return i;
    }
    return 0;
}

static void move_by(struct watch *self, int by)
{
    const void **rows;
    size_t n = watch_rows(self, self->panel, &rows);
    if (n > 0) {
        size_t at = find_chosen(self, self->panel, rows, n), step = (size_t)(by < 0 ? -by : by);
        at = by < 0 ? (at > step ? at - step : 0) : (n - 1 - at > step ? at + step : n - 1);
        watch_key_of(self->panel, rows[at], self->chosen[self->panel], sizeof self->chosen[self->panel]);
    }
    free(rows);
}

/* ---- questions ---- */

static bool aim(struct watch *self, enum watch_action action)
{
    const void **rows;
    size_t n = watch_rows(self, self->panel, &rows);
    self->target = (struct watch_target){.action = action};
    if (n > 0) {
        const void *row = rows[find_chosen(self, self->panel, rows, n)];
        const struct watch_attempt *a = row;
        const struct watch_batch *b = row;
        const struct watch_worker *w = row;
        bool of_worker = action == WATCH_DRAIN;
        const char *name = self->panel == WATCH_BATCHES ? b->id : self->panel == WATCH_WORKERS ? w->name : of_worker ? a->worker : a->id;
        snprintf(self->target.name, sizeof self->target.name, "%s", name);
        self->target.has_index = self->panel == WATCH_SLOWEST && !of_worker;
        self->target.index = self->target.has_index ? a->index : 0;
    }
    free(rows);
    return n > 0;
}

static void ask_for(struct watch *self, enum watch_action action)
{
    bool of_worker = action == WATCH_DRAIN;
    if (of_worker ? self->panel == WATCH_BATCHES : self->panel == WATCH_WORKERS) {
        say(self, of_worker ? "choose a worker first: Tab goes to the workers" : "choose a batch first: Tab goes to the batches");
    } else if (!aim(self, action)) {
        say(self, "there is nothing here to choose");
    } else if (action == WATCH_EXTEND) {
        self->target.has_index = false;
        self->typed[0] = '\0';
        self->mode = WATCH_TYPE_DEADLINE;
    } else {
        self->mode = WATCH_CONFIRM;
    }
}

static enum watch_action look(struct watch *self, unsigned key)
{
    self->message[0] = '\0';
    switch (key) {
    case 'q': case 'Q':                  return WATCH_QUIT;
    case 'k': case WATCH_KEY_UP:         move_by(self, -1); break;
    case 'j': case WATCH_KEY_DOWN:       move_by(self, 1); break;
    case WATCH_KEY_PAGE_UP:              move_by(self, -PAGE); break;
    case WATCH_KEY_PAGE_DOWN:            move_by(self, PAGE); break;
    case WATCH_KEY_TAB:                  self->panel = (self->panel + 1) % WATCH_PANELS; break;
    case WATCH_KEY_BACK_TAB:             self->panel = (self->panel + WATCH_PANELS - 1) % WATCH_PANELS; break;
    case '1': case '2': case '3':        self->panel = (enum watch_panel)(key - '1'); break;
    case 's':                            self->sort[self->panel]++; break;
    case '/':                            snprintf(self->typed, sizeof self->typed, "%s", self->filter); self->mode = WATCH_TYPE_FILTER; break;
    case WATCH_KEY_ESCAPE:               self->filter[0] = '\0'; break;
    case '?': case 'h':                  self->mode = WATCH_HELP; break;
    case 'c':                            ask_for(self, WATCH_CANCEL); break;
    case 'e':                            ask_for(self, WATCH_EXTEND); break;
    case 'd':                            ask_for(self, WATCH_DRAIN); break;
    case 'x': case WATCH_KEY_ENTER:
        if (self->panel != WATCH_WORKERS && aim(self, WATCH_EXPLAIN))
            return WATCH_EXPLAIN;
        break;
    default: break;
    }
    return WATCH_NOTHING;
}

/* ---- typing ---- */

static void type(struct watch *self, unsigned key)
{
    size_t n = strlen(self->typed);
    if (key == WATCH_KEY_BACKSPACE && n > 0)
        self->typed[n - 1] = '\0';
    else if (key >= ' ' && key < 0x7F && n + 1 < sizeof self->typed)
        snprintf(self->typed + n, sizeof self->typed - n, "%c", (char)key);
}

static enum watch_action type_filter(struct watch *self, unsigned key)
{
    if (key == WATCH_KEY_ESCAPE)
        self->typed[0] = '\0';
    else
        type(self, key);
    snprintf(self->filter, sizeof self->filter, "%s", self->typed);
    if (key == WATCH_KEY_ENTER || key == WATCH_KEY_ESCAPE)
        self->mode = WATCH_LOOK;
    return WATCH_NOTHING;
}

static enum watch_action type_deadline(struct watch *self, unsigned key)
{
    struct why why;
    if (key == WATCH_KEY_ESCAPE) {
        self->mode = WATCH_LOOK;
        say(self, "nothing was changed");
    } else if (key != WATCH_KEY_ENTER) {
        type(self, key);
    } else if (parse_duration(self->typed, &self->target.deadline, &why) < 0 || self->target.deadline <= 0) {
        self->mode = WATCH_LOOK;
        snprintf(self->message, sizeof self->message, "'%s' is no time; a number and ms, s, m, h or d, such as 10m", self->typed);
        self->message_bad = true;
    } else {
        self->mode = WATCH_CONFIRM;
    }
    return WATCH_NOTHING;
}

static enum watch_action confirm(struct watch *self, unsigned key)
{
    self->mode = WATCH_LOOK;
    if (key == 'y' || key == 'Y')
        return self->target.action;
    say(self, "nothing was changed");
    return WATCH_NOTHING;
}

enum watch_action watch_key(struct watch *self, unsigned key)
{
    switch (self->mode) {
    case WATCH_HELP: case WATCH_STORY:
        self->mode = WATCH_LOOK;
        return WATCH_NOTHING;
    case WATCH_CONFIRM:       return confirm(self, key);
    case WATCH_TYPE_FILTER:   return type_filter(self, key);
    case WATCH_TYPE_DEADLINE: return type_deadline(self, key);
    case WATCH_LOOK: break;
    }
    return look(self, key);
}
