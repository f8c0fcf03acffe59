/* Item sources: words, numbers, the content of files, and streams that are cut at separators. */
#include "tarmac/items.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/wire_check.h"
#include "tarmac/items_private.h"

/* ---- names in sentences ---- */

static bool is_stdin(const struct items *self) { return !self->spec.path || strcmp(self->spec.path, "-") == 0; }
static const char *source_name(const struct items *self) { return is_stdin(self) ? "standard input" : self->spec.path; }

static bool is_stream(const struct items *self)
{
    return self->spec.kind == ITEMS_LINES || self->spec.kind == ITEMS_JSON_LINES || self->spec.kind == ITEMS_BLOCKS;
}

static enum items_result bad(struct items *self, struct why *why)
{
    self->broken = *why;
    return ITEMS_BAD;
}

/* ---- opening ---- */

static int check_size(struct items *self, const char *name, uint64_t size, struct why *why)
{
    if (size <= self->max_payload)
        return 0;
    self->too_large = true;
    return why_set(why, "%.300s: the payload has %" PRIu64 " bytes, and the largest that is taken has %" PRIu64, name,
                   size, self->max_payload);
}

static int check_file(const char *name, uint64_t *ret_size, struct why *why)
{
    struct stat st;
    if (stat(name, &st) < 0)
        return why_set(why, "%.300s: %s", name, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return why_set(why, "%.300s: this is a folder; --files takes files", name);
    if (!S_ISREG(st.st_mode))
        return why_set(why, "%.300s: this is no regular file; --files takes regular files", name);
    if (access(name, R_OK) < 0)
        return why_set(why, "%.300s: can't be read: %s", name, strerror(errno));
    if (strlen(name) > WIRE_VALUE || wire_text_fault(name, strlen(name), false))
        return why_set(why, "%.300s: the name of a file must be UTF-8 of at most %u bytes, since it becomes the value 'file'",
                       name, WIRE_VALUE);
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int check_files(struct items *self, bool sizes, struct why *why)
{
    for (size_t i = 0; self->spec.kind == ITEMS_FILES && i < self->spec.n_words; i++) {
        uint64_t size = 0;
        if (check_file(self->spec.words[i], &size, why) < 0)
            return -1;
        if (sizes && check_size(self, self->spec.words[i], size, why) < 0)
            return -1;
    }
    return 0;
}

static void on_readable(void *arg, uint32_t events)
{
    struct items *self = arg;
    (void)events;
    loop_unwatch(self->loop, &self->watch);
    self->ready(self->arg);
}

static int open_stream(struct items *self, struct why *why)
{
    struct stat st;
    self->fd = STDIN_FILENO;
    if (!is_stdin(self)) {
        self->fd = open(self->spec.path, O_RDONLY | O_CLOEXEC);
        if (self->fd < 0)
            return why_set(why, "%.300s: %s", self->spec.path, strerror(errno));
        self->own_fd = true;
    }
    if (fstat(self->fd, &st) < 0)
        return why_set(why, "%.300s: %s", source_name(self), strerror(errno));
    if (S_ISDIR(st.st_mode))
        return why_set(why, "%.300s: this is a folder; items come from a file", source_name(self));
    return 0;
}

struct items *items_new(struct loop *loop, const struct items_spec *spec, void (*ready)(void *arg), void *arg,
                        struct why *why)
{
    struct items *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "there is no memory left");
        return NULL;
    }
    self->spec = *spec;
    self->loop = loop;
    self->ready = ready;
    self->arg = arg;
    self->max_payload = WIRE_PAYLOAD;
    self->fd = self->file_fd = -1;
    self->watch = (struct loop_watch){.fd = -1, .ready = on_readable, .arg = self};
    if ((is_stream(self) && open_stream(self, why) < 0) || check_files(self, false, why) < 0)
        items_destroy(&self);
    return self;
}

static void close_file(struct items *self)
{
    if (self->file_fd >= 0)
        close(self->file_fd);
    self->file_fd = -1;
}

void items_destroy(struct items **self_p)
{
    struct items *self = *self_p;
    if (!self)
        return;
    if (self->loop)
        loop_unwatch(self->loop, &self->watch);
    if (self->own_fd)
        close(self->fd);
    close_file(self);
    buf_unref(&self->file);
    items_json_release(self);
    free(self->bytes);
    free(self);
    *self_p = NULL;
}

int items_limit(struct items *self, uint64_t max_payload, struct why *why)
{
    self->max_payload = max_payload;
    return check_files(self, true, why);
}

bool items_too_large(const struct items *self) { return self->too_large; }
uint64_t items_given(const struct items *self) { return self->given; }

/* ---- words, numbers, files ---- */

static enum items_result next_word(struct items *self, struct item *ret, struct why *why)
{
    if (self->given == self->spec.n_words)
        return ITEMS_END;
    const char *word = self->spec.words[self->given];
    size_t len = strlen(word);
    if (check_size(self, "an item behind :::", len, why) < 0)
        return bad(self, why);
    ret->payload = (struct slice){.data = (const uint8_t *)word, .len = len};
    return ITEMS_ITEM;
}

static enum items_result next_number(struct items *self, struct item *ret)
{
    if (self->given == self->spec.count)
        return ITEMS_END;
    int n = snprintf(self->number, sizeof self->number, "%" PRIu64, self->spec.first + self->given);
    ret->payload = (struct slice){.data = (const uint8_t *)self->number, .len = (size_t)n};
    return ITEMS_ITEM;
}

static int open_file(struct items *self, const char *name, struct why *why)
{
    struct stat st;
    self->file_fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (self->file_fd < 0 || fstat(self->file_fd, &st) < 0)
        return why_set(why, "%.300s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return why_set(why, "%.300s: this is no regular file; --files takes regular files", name);
    if (check_size(self, name, (uint64_t)st.st_size, why) < 0)
        return -1;
    self->filled = 0;
    self->file = buf_new((size_t)st.st_size);
    return self->file ? 0 : why_set(why, "%.300s: there is no memory for its %jd bytes", name, (intmax_t)st.st_size);
}

static void give_file(struct items *self, const char *name, struct item *ret)
{
    self->value[0] = (Wire__Value)WIRE__VALUE__INIT;
    self->value[0].key = (char *)(uintptr_t)"file";
    self->value[0].value = (char *)(uintptr_t)name;
    self->values[0] = &self->value[0];
    ret->payload = slice_cut(slice_of(self->file), 0, self->filled);
    ret->values = self->values;
    ret->n_values = 1;
    close_file(self);
}

/* The size of a file is what it was when it was opened: what is written behind that is not looked at. */
static enum items_result next_file(struct items *self, struct item *ret, struct why *why)
{
    if (self->given == self->spec.n_words)
        return ITEMS_END;
    const char *name = self->spec.words[self->given];
    if (self->file_fd < 0) {
        buf_unref(&self->file);
        if (open_file(self, name, why) < 0)
            return bad(self, why);
    }
    for (size_t budget = ITEMS_FILE_READ; self->filled < buf_len(self->file);) {
        size_t left = buf_len(self->file) - self->filled;
        if (budget == 0)
            return ITEMS_MORE;
        ssize_t n = read(self->file_fd, buf_data(self->file) + self->filled, left < budget ? left : budget);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            why_set(why, "%.300s: can't be read: %s", name, strerror(errno));
            return bad(self, why);
        }
        if (n == 0)
            break;
        self->filled += (size_t)n;
        budget -= (size_t)n;
    }
    give_file(self, name, ret);
    return ITEMS_ITEM;
}

/* ---- streams ---- */

static int make_room(struct items *self, struct why *why)
{
    if (self->from > 0) {
        memmove(self->bytes, self->bytes + self->from, self->to - self->from);
        self->to -= self->from;
        self->seen -= self->from;
        self->from = 0;
    }
    if (self->room - self->to >= ITEMS_READ)
        return 0;
    size_t room = self->room < ITEMS_READ ? 2 * ITEMS_READ : 2 * self->room;
    uint8_t *bytes = realloc(self->bytes, room);
    if (!bytes)
        return why_set(why, "%.300s: there is no memory for an item of more than %zu bytes", source_name(self), self->room);
    self->bytes = bytes;
    self->room = room;
    return 0;
}

/* Whether a read would wait. A file never does, and epoll doesn't take it either. */
static bool must_wait(struct items *self)
{
    struct pollfd p = {.fd = self->fd, .events = POLLIN};
    if (!self->loop || poll(&p, 1, 0) != 0)
        return false;
    self->watch.fd = self->fd;
    return loop_watch(self->loop, &self->watch, EPOLLIN) == 0;
}

/* One read. ITEMS_MORE: there are more bytes than before, or the end was seen. */
static enum items_result fill(struct items *self, struct why *why)
{
    if (self->watch.active || must_wait(self))
        return ITEMS_WAIT;
    if (make_room(self, why) < 0)
        return bad(self, why);
    ssize_t n;
    do
        n = read(self->fd, self->bytes + self->to, ITEMS_READ);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)    /* Somebody else made it nonblocking, and was faster. */
        return self->loop ? ITEMS_MORE : bad(self, why);
    if (n < 0) {
        why_set(why, "%.300s: can't be read: %s", source_name(self), strerror(errno));
        return bad(self, why);
    }
    self->to += (size_t)n;
    self->ended = n == 0;
    return ITEMS_MORE;
}

static void take(struct items *self, size_t len, size_t separators, struct slice *ret)
{
    *ret = (struct slice){.data = self->bytes + self->from, .len = len};
    self->from += len + separators;
    self->seen = self->from;
    self->line++;
}

static enum items_result too_long(struct items *self, struct why *why)
{
    self->too_large = true;
    why_set(why, "%.300s: item %" PRIu64 " has more than %" PRIu64 " bytes, the largest payload that is taken",
            source_name(self), self->line + 1, self->max_payload);
    return bad(self, why);
}

/* The next piece up to a separator, or up to the end when it has any bytes. */
static enum items_result next_piece(struct items *self, char separator, struct slice *ret, struct why *why)
{
    for (size_t budget = 4; budget > 0; budget--) {
        const uint8_t *end = self->seen < self->to ? memchr(self->bytes + self->seen, separator, self->to - self->seen) : NULL;
        size_t len = (end ? (size_t)(end - self->bytes) : self->to) - self->from;
        if (len > self->max_payload)
            return too_long(self, why);
        if (end || (self->ended && len > 0)) {
            take(self, len, end ? 1 : 0, ret);
            return ITEMS_ITEM;
        }
        if (self->ended)
            return ITEMS_END;
        self->seen = self->to;
        enum items_result r = fill(self, why);
        if (r != ITEMS_MORE)
            return r;
    }
    return ITEMS_MORE;
}

/* As many whole lines as fit; a line that is longer than a block is a block of its own. */
static size_t block_len(const struct items *self)
{
    const uint8_t *start = self->bytes + self->from;
    size_t have = self->to - self->from;
    if (have >= self->spec.block_size) {
        const uint8_t *end = memrchr(start, '\n', self->spec.block_size);
        if (!end)
            end = memchr(start + self->spec.block_size, '\n', have - self->spec.block_size);
        if (end)
            return (size_t)(end - start) + 1;
    }
    return self->ended ? have : 0;    /* The rest fits, or is a line that nothing ends. */
}

static enum items_result next_block(struct items *self, struct item *ret, struct why *why)
{
    for (size_t budget = 4; budget > 0; budget--) {
        size_t len = self->to > self->from ? block_len(self) : 0;
        if (len > self->max_payload || (len == 0 && self->to - self->from > self->max_payload))
            return too_long(self, why);
        if (len > 0) {
            take(self, len, 0, &ret->payload);
            return ITEMS_ITEM;
        }
        if (self->ended)
            return ITEMS_END;
        enum items_result r = fill(self, why);
        if (r != ITEMS_MORE)
            return r;
    }
    return ITEMS_MORE;
}

static bool blank(struct slice line)
{
    for (size_t i = 0; i < line.len; i++)
        if (!strchr(" \t\r", line.data[i]))
            return false;
    return true;
}

static enum items_result next_json(struct items *self, struct item *ret, struct why *why)
{
    struct slice line;
    struct why what = {""};
    enum items_result r;
    int blanks = 0;
    while ((r = next_piece(self, '\n', &line, why)) == ITEMS_ITEM && blank(line))
        if (++blanks == 1000)
            return ITEMS_MORE;
    if (r != ITEMS_ITEM)
        return r;
    r = items_json(self, line.data, line.len, ret, &what);
    if (r == ITEMS_BAD) {
        why_set(why, "%.100s: line %" PRIu64 ": %.280s", source_name(self), self->line, what.text);
        return bad(self, why);
    }
    return r;
}

/* ---- all of them ---- */

enum items_result items_next(struct items *self, struct item *ret, struct why *why)
{
    enum items_result r = ITEMS_END;
    if (self->broken.text[0] != '\0') {
        *why = self->broken;
        return ITEMS_BAD;
    }
    *ret = (struct item){0};
    switch (self->spec.kind) {
    case ITEMS_WORDS:      r = next_word(self, ret, why); break;
    case ITEMS_RANGE:      r = next_number(self, ret); break;
    case ITEMS_FILES:      r = next_file(self, ret, why); break;
    case ITEMS_LINES:      r = next_piece(self, self->spec.separator, &ret->payload, why); break;
    case ITEMS_JSON_LINES: r = next_json(self, ret, why); break;
    case ITEMS_BLOCKS:     r = next_block(self, ret, why); break;
    case ITEMS_CALLED:     r = self->spec.next(self->arg, ret, why); break;
    }
    self->given += r == ITEMS_ITEM;
    return r;
}
