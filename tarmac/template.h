/* Templates of command lines: words with placeholders, parsed once, expanded for many tasks. Pure.
 *
 *   {}    the item                     {/}   its base name
 *   {.}   without extension            {//}  its folder
 *   {/.}  base name without extension  {#}   index + 1         {%}  slot, from 1
 *
 * What they yield is what GNU parallel yields, for any item; but nothing is ever quoted, since no shell
 * reads it, and an item is always a part of one word. Other braces stay as they are. When none of the
 * placeholders takes the item, it becomes the last word, unless the task's payload goes to standard input. */
#ifndef TARMAC_TEMPLATE_H
#define TARMAC_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/why.h"

struct template;

/* Copies the words. `pipe`: the item goes to standard input and is not appended. -1 and why: no words, an
 * empty command, too large, or no memory. */
int template_parse(const char *const *words, size_t n, bool pipe, struct template **ret_template, struct why *why);
void template_destroy(struct template **self_p);
bool template_takes_item(const struct template *self);     /* false: expanding looks at no item */

struct template_task {
    const void *item;              /* lent; may hold any byte if the template takes no item, else no NUL */
    size_t len;
    uint64_t index;                /* from 0: {#} is one more, and messages name the task by it */
    unsigned slot;                 /* as it is printed, from 1 */
};

/* The words of one task: one block, which the next expansion into the same line uses again. {0} is a fresh one. */
struct template_line {
    char **argv;                   /* argc words and a NULL */
    size_t argc;
    void *block;
    size_t room;
};

#define TEMPLATE_WORD_MOST (128 * 1024)        /* bytes of a word with its NUL: Linux takes no longer one */
#define TEMPLATE_LINE_MOST (2 * 1024 * 1024)   /* bytes of all words with their NULs and pointers: Linux's usual limit */

/* 0; or -EINVAL (the item has a NUL), -E2BIG (a word or the line is larger than `most`, at most TEMPLATE_LINE_MOST, 0
 * for that) or -ENOMEM, with why; the line is then as it was. */
int template_expand(const struct template *self, const struct template_task *task, size_t most,
                    struct template_line *line, struct why *why);
void template_line_clear(struct template_line *line);

#endif
