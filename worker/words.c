#include "worker/words.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n'; }

/* Copies what is between quotes to *to and returns the place behind the closing one; NULL: there is none. */
static const char *quoted(const char *from, char quote, char **to)
{
    for (; *from && *from != quote; from++) {
        if (quote == '"' && from[0] == '\\' && (from[1] == '"' || from[1] == '\\'))
            from++;
        *(*to)++ = *from;
    }
    return *from ? from + 1 : NULL;
}

/* One word, without its quotes, and a NUL. Returns the place behind it; NULL: a quote is open. */
static const char *word(const char *from, char **to)
{
    while (from && *from && !is_blank(*from)) {
        if (*from == '\'' || *from == '"') {
            from = quoted(from + 1, *from, to);
            continue;
        }
        if (from[0] == '\\' && from[1] != '\0')
            from++;
        *(*to)++ = *from++;
    }
    *(*to)++ = '\0';
    return from;
}

int worker_words_split(const char *line, const char ***ret_words, size_t *ret_n, struct why *why)
{
    /* Words take no more bytes than the line, and there are at most half as many as bytes. */
    size_t len = strlen(line), most = len / 2 + 2, n = 0;
    const char **words = malloc(most * sizeof *words + len + 1);
    if (!words)
        return why_set(why, "no memory for the command line");
    char *to = (char *)(words + most);
    const char *from = line;
    for (;;) {
        while (is_blank(*from))
            from++;
        if (!*from)
            break;
        words[n++] = to;
        from = word(from, &to);
        if (!from) {
            free(words);
            return why_set(why, "a quote is not closed in: %s", line);
        }
    }
    words[n] = NULL;
    if (n == 0) {
        free(words);
        return why_set(why, "the command line is empty; it is a program and its arguments");
    }
    *ret_words = words;
    *ret_n = n;
    return 0;
}
