/* Draws the cells of the control tower by ncurses, and reads its keys. The terminal is given back on every way out: by
 * terminal_close, at exit, and by a handler of the faults that end a process without either. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <ncurses.h>

#include "ventilator/cli_watch.h"

struct terminal {
    SCREEN *screen;
    bool colour;
    struct watch_cell *cells;
    size_t n_cells;
};

static struct termios before;            /* as it was; for the handler of faults too */
static volatile sig_atomic_t taken;

/* ---- giving it back ---- */

static void give_back(void)
{
    if (!taken)
        return;
    taken = 0;
    endwin();
}

/* ncurses must not be called here: a fixed sequence leaves the alternate screen and shows the cursor on all that know them. */
static void on_fault(int number)
{
    static const char leave[] = "\033[?1049l\033[?25h\033[m\r\n";
    if (taken) {
        taken = 0;
        tcsetattr(STDOUT_FILENO, TCSANOW, &before);
        (void)!write(STDOUT_FILENO, leave, sizeof leave - 1);
    }
    raise(number);                       /* SA_RESETHAND: this time it ends the process */
}

static void catch_faults(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = (int)SA_RESETHAND | SA_NODEFER}, old;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (sigaction(faults[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(faults[i], &action, NULL);
}

/* ---- colours ---- */

/* By Okabe and Ito: blue, orange and vermillion are told apart by nearly everybody. With 8 colours: blue's cyan, yellow, red. */
static void begin_colours(void)
{
    short good = 6, warn = 3, bad = 1;
    start_color();
    use_default_colors();
    if (COLORS >= 256) {
        good = 38;
        warn = 214;
        bad = 202;
    }
    init_pair(STYLE_GOOD, good, -1);
    init_pair(STYLE_WARN, warn, -1);
    init_pair(STYLE_BAD, bad, -1);
}

static attr_t attributes(enum watch_style style)
{
    static const attr_t all[WATCH_STYLES] = {
        [STYLE_DIM] = A_DIM, [STYLE_TITLE] = A_BOLD | A_UNDERLINE, [STYLE_HEAD] = A_BOLD, [STYLE_SELECTED] = A_REVERSE,
        [STYLE_BAD] = A_BOLD, [STYLE_ALERT] = A_BOLD | A_REVERSE,
    };
    return all[style];
}

/* ---- all of it ---- */

struct terminal *terminal_open(bool colour)
{
    static bool registered;
    struct terminal *self = calloc(1, sizeof *self);
    if (!self || tcgetattr(STDOUT_FILENO, &before) < 0)
        goto fail;
    setenv("ESCDELAY", "50", 0);
    self->screen = newterm(NULL, stdout, stdin);
    if (!self->screen)
        goto fail;
    taken = 1;
    if (!registered)
        atexit(give_back);
    registered = true;
    catch_faults();
    cbreak();
    noecho();
    nonl();
    curs_set(0);
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    self->colour = colour && has_colors();
    if (self->colour)
        begin_colours();
    return self;
fail:
    free(self);
    return NULL;
}

void terminal_close(struct terminal **self_p)
{
    struct terminal *self = *self_p;
    if (!self)
        return;
    give_back();
    delscreen(self->screen);
    free(self->cells);
    free(self);
    *self_p = NULL;
}

void terminal_resize(struct terminal *self)
{
    struct winsize size;
    (void)self;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
        resizeterm(size.ws_row, size.ws_col);
    clearok(stdscr, TRUE);
}

static void draw_row(const struct terminal *self, const struct watch_screen *s, unsigned row)
{
    for (unsigned col = 0; col < s->cols; col++) {
        const struct watch_cell *cell = &s->cells[(size_t)row * s->cols + col];
        wchar_t text[2] = {cell->ch, L'\0'};
        cchar_t ch;
        if (cell->ch == 0)
            continue;
        short pair = self->colour && cell->style >= STYLE_GOOD && cell->style <= STYLE_BAD ? cell->style : 0;
        if (setcchar(&ch, text, attributes(cell->style), pair, NULL) == OK)
            mvadd_wch((int)row, (int)col, &ch);
    }
}

void terminal_draw(struct terminal *self, const struct watch *watch)
{
    int rows, cols;
    getmaxyx(stdscr, rows, cols);
    size_t need = (size_t)rows * (size_t)cols;
    if (need > self->n_cells) {
        struct watch_cell *cells = reallocarray(self->cells, need, sizeof *cells);
        if (!cells)
            return;
        self->cells = cells;
        self->n_cells = need;
    }
    struct watch_screen s = {.cols = (unsigned)cols, .rows = (unsigned)rows, .cells = self->cells};
    watch_layout(watch, &s);
    erase();
    for (unsigned row = 0; row < s.rows; row++)
        draw_row(self, &s, row);
    refresh();
}

bool terminal_key(struct terminal *self, unsigned *ret_key)
{
    static const struct { int code; unsigned key; } keys[] = {
        {KEY_UP, WATCH_KEY_UP}, {KEY_DOWN, WATCH_KEY_DOWN}, {KEY_PPAGE, WATCH_KEY_PAGE_UP}, {KEY_NPAGE, WATCH_KEY_PAGE_DOWN},
        {KEY_BACKSPACE, WATCH_KEY_BACKSPACE}, {127, WATCH_KEY_BACKSPACE}, {'\b', WATCH_KEY_BACKSPACE}, {KEY_ENTER, WATCH_KEY_ENTER},
        {'\r', WATCH_KEY_ENTER}, {'\n', WATCH_KEY_ENTER}, {27, WATCH_KEY_ESCAPE}, {'\t', WATCH_KEY_TAB}, {KEY_BTAB, WATCH_KEY_BACK_TAB},
    };
    (void)self;
    int code = getch();
    if (code == ERR)
        return false;
    *ret_key = code < 256 ? (unsigned)code : 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].code == code)
            *ret_key = keys[i].key;
    return true;
}
