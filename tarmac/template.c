/* Templates of command lines.
 *
 * A parsed template is a row of parts: literal bytes, placeholders, ends of words. Expanding goes over
 * them twice, first to measure and then to write, so a line costs one block and no guess. */
#include "tarmac/template.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum part_kind {
    PART_LITERAL,
    PART_WORD_END,
    PART_NUMBER,
    PART_SLOT,
    PART_ITEM,                     /* this and the following take the item */
    PART_STEM,
    PART_BASE,
    PART_FOLDER,
    PART_BASE_STEM,
    PART_COUNT,
};

struct bytes {
    const char *data;
    size_t len;
};

struct part {
    enum part_kind kind;
    struct bytes literal;          /* lies in the template's text */
};

struct template {
    char *text;                    /* the words, one behind the other */
    struct part *parts;
    size_t n_parts, n_words;
    bool takes_item;
};

static const struct { const char *text; enum part_kind kind; } placeholders[] = {
    {"{}", PART_ITEM},   {"{.}", PART_STEM},       {"{/}", PART_BASE},   {"{//}", PART_FOLDER},
    {"{/.}", PART_BASE_STEM}, {"{#}", PART_NUMBER}, {"{%}", PART_SLOT},
};

/* ---- parsing ---- */

static enum part_kind placeholder_at(const char *text, size_t *ret_len)
{
    for (size_t i = 0; i < sizeof placeholders / sizeof *placeholders; i++) {
        size_t len = strlen(placeholders[i].text);
        if (strncmp(text, placeholders[i].text, len) == 0) {
            *ret_len = len;
            return placeholders[i].kind;
        }
    }
    return PART_LITERAL;
}

static void add_part(struct template *self, enum part_kind kind, const char *data, size_t len)
{
    self->parts[self->n_parts++] = (struct part){kind, {data, len}};
    self->takes_item = self->takes_item || kind >= PART_ITEM;
}

static void parse_word(struct template *self, const char *word)
{
    const char *literal = word;
    for (const char *at = strchr(word, '{'); at; at = strchr(at, '{')) {
        size_t len = 0;
        enum part_kind kind = placeholder_at(at, &len);
        if (kind == PART_LITERAL) {
            at++;
            continue;
        }
        if (at > literal)
            add_part(self, PART_LITERAL, literal, (size_t)(at - literal));
        add_part(self, kind, NULL, 0);
        at += len;
        literal = at;
    }
    if (*literal)
        add_part(self, PART_LITERAL, literal, strlen(literal));
    add_part(self, PART_WORD_END, NULL, 0);
    self->n_words++;
}

/* Each brace may begin a placeholder and end a literal; each word may end a literal, and ends; and an item may be appended. */
static struct template *template_new(size_t n_bytes, size_t n_braces, size_t n_words)
{
    struct template *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->text = malloc(n_bytes);
    self->parts = calloc(2 * (n_braces + n_words + 1), sizeof *self->parts);
    if (!self->text || !self->parts)
        template_destroy(&self);
    return self;
}

int template_parse(const char *const *words, size_t n, bool pipe, struct template **ret_template, struct why *why)
{
    size_t total = 0, braces = 0;
    if (n == 0 || words[0][0] == '\0')
        return why_set(why, "the command line is empty: it needs at least the name of a program");
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(words[i]) + 1;
        total += size + sizeof(char *);
        if (size > TEMPLATE_WORD_MOST || total > TEMPLATE_LINE_MOST)
            return why_set(why, "the command line is too long at its word %zu: a word may have %d bytes, all of them %d", i,
                           TEMPLATE_WORD_MOST - 1, TEMPLATE_LINE_MOST);
        for (const char *at = words[i]; (at = strchr(at, '{')); at++)
            braces++;
    }
    struct template *self = template_new(total, braces, n);
    if (!self)
        return why_set(why, "no memory for a command line of %zu bytes", total);
    char *text = self->text;
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(words[i]) + 1;
        memcpy(text, words[i], size);
        parse_word(self, text);
        text += size;
    }
    if (!self->takes_item && !pipe) {
        add_part(self, PART_ITEM, NULL, 0);
        add_part(self, PART_WORD_END, NULL, 0);
        self->n_words++;
    }
    *ret_template = self;
    return 0;
}

void template_destroy(struct template **self_p)
{
    struct template *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    free(self->text);
    free(self->parts);
    free(self);
}

bool template_takes_item(const struct template *self) { return self->takes_item; }

/* ---- the parts of an item that is a path ---- */

/* Behind the last slash. */
static size_t base_at(struct bytes path)
{
    const char *slash = path.len > 0 ? memrchr(path.data, '/', path.len) : NULL;
    return slash ? (size_t)(slash - path.data) + 1 : 0;
}

static struct bytes base_of(struct bytes path)
{
    size_t at = base_at(path);
    return at > 0 ? (struct bytes){path.data + at, path.len - at} : path;
}

/* An extension begins at the last dot, if that is in the base name: the first byte counts too. */
static struct bytes stem_of(struct bytes path)
{
    struct bytes base = base_of(path);
    const char *dot = base.len > 0 ? memrchr(base.data, '.', base.len) : NULL;
    return dot ? (struct bytes){path.data, (size_t)(dot - path.data)} : path;
}

static struct bytes without_slashes(struct bytes path)
{
    while (path.len > 1 && path.data[path.len - 1] == '/')
        path.len--;
    return path;
}

/* As dirname does: a path that ends in slashes is taken without them. */
static struct bytes folder_of(struct bytes path)
{
    static const struct bytes here = {".", 1};
    size_t base = base_at(path);
    if (base == 0)
        return here;
    struct bytes folder = without_slashes((struct bytes){path.data, base});
    if (base < path.len)
        return folder;
    base = base_at(folder);
    return base == 0 ? here : without_slashes((struct bytes){folder.data, base});
}

/* ---- expanding ---- */

/* What each kind of part stands for in one task. */
struct values {
    struct bytes of[PART_COUNT];
    char number[24], slot[12];
};

static struct bytes print_number(char *text, size_t size, uint64_t number)
{
    int len = snprintf(text, size, "%" PRIu64, number);
    return (struct bytes){text, len > 0 ? (size_t)len : 0};
}

static void set_values(struct values *values, const struct template_task *task)
{
    struct bytes item = {task->len > 0 ? task->item : "", task->len};
    values->of[PART_LITERAL] = values->of[PART_WORD_END] = (struct bytes){"", 0};
    values->of[PART_NUMBER] = print_number(values->number, sizeof values->number, task->index + 1);
    values->of[PART_SLOT] = print_number(values->slot, sizeof values->slot, task->slot);
    values->of[PART_ITEM] = item;
    values->of[PART_STEM] = stem_of(item);
    values->of[PART_BASE] = base_of(item);
    values->of[PART_FOLDER] = folder_of(item);
    values->of[PART_BASE_STEM] = stem_of(base_of(item));
}

static struct bytes bytes_of(const struct part *part, const struct values *values)
{
    return part->kind == PART_LITERAL ? part->literal : values->of[part->kind];
}

/* The size of the whole block. -E2BIG as soon as it is too large, before a sum could overflow. */
static int measure(const struct template *self, const struct template_task *task, const struct values *values,
                   size_t most, size_t *ret_size, struct why *why)
{
    size_t word = 1, word_at = 0, total = (self->n_words + 1) * sizeof(char *);
    for (size_t i = 0; i < self->n_parts; i++) {
        size_t len = bytes_of(&self->parts[i], values).len;
        if (len >= TEMPLATE_WORD_MOST || (word += len) > TEMPLATE_WORD_MOST) {
            why_set(why, "word %zu of the command line of task %" PRIu64 " would be too long: %d bytes are the most; use --pipe",
                    word_at, task->index, TEMPLATE_WORD_MOST - 1);
            return -E2BIG;
        }
        if (self->parts[i].kind != PART_WORD_END)
            continue;
        total += word;
        word = 1;
        word_at++;
        if (total > most) {
            why_set(why, "the command line of task %" PRIu64 " would be too long: %zu bytes are the most; use --pipe", task->index, most);
            return -E2BIG;
        }
    }
    *ret_size = total;
    return 0;
}

static void write_line(const struct template *self, const struct values *values, char **argv)
{
    char *to = (char *)(argv + self->n_words + 1), **word = argv;
    *word = to;
    for (size_t i = 0; i < self->n_parts; i++) {
        struct bytes bytes = bytes_of(&self->parts[i], values);
        memcpy(to, bytes.data, bytes.len);
        to += bytes.len;
        if (self->parts[i].kind == PART_WORD_END) {
            *to++ = '\0';
            *++word = to;
        }
    }
    *word = NULL;
}

int template_expand(const struct template *self, const struct template_task *task, size_t most,
                    struct template_line *line, struct why *why)
{
    struct values values;
    size_t size;
    if (self->takes_item && task->len > 0 && memchr(task->item, '\0', task->len)) {
        why_set(why, "argument of task %" PRIu64 " has a NUL byte: use --pipe", task->index);
        return -EINVAL;
    }
    if (most == 0 || most > TEMPLATE_LINE_MOST)
        most = TEMPLATE_LINE_MOST;
    set_values(&values, task);
    int result = measure(self, task, &values, most, &size, why);
    if (result < 0)
        return result;
    if (size > line->room) {
        void *block = realloc(line->block, size);
        if (!block) {
            why_set(why, "no memory for the command line of task %" PRIu64 ", %zu bytes", task->index, size);
            return -ENOMEM;
        }
        line->block = block;
        line->room = size;
    }
    write_line(self, &values, line->block);
    line->argv = line->block;
    line->argc = self->n_words;
    return 0;
}

void template_line_clear(struct template_line *line)
{
    free(line->block);
    *line = (struct template_line){0};
}
