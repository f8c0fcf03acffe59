/* Logs: each line is built on the stack and leaves in one write, so that lines of different
 * threads and processes never mix. Until log_setup nothing is logged: a library says nothing
 * unless its program wants it to. */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define LINE_MAX_BYTES 4096
#define RESERVE 40           /* room that is kept for a closing quote, the mark of truncation and the line's end */

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

static char program_name[32];
static atomic_int wanted_format = LOG_TEXT;
static atomic_int wanted_level = -1;

void log_setup(const char *program, enum log_format format, enum log_level level)
{
    snprintf(program_name, sizeof program_name, "%s", program);
    atomic_store(&wanted_format, (int)format);
    atomic_store(&wanted_level, (int)level);
}

bool log_wanted(enum log_level level) { return (int)level <= atomic_load_explicit(&wanted_level, memory_order_relaxed); }

/* ---- numbers ---- */

#define NUMBERS 16
#define NUMBER_SIZE 32
static _Thread_local char numbers[NUMBERS][NUMBER_SIZE];
static _Thread_local unsigned next_number;

static char *number_buffer(void) { return numbers[next_number++ % NUMBERS]; }

/* JSON has a type for numbers, and those that were made here are known by their place. */
static bool is_number(const char *value)
{
    uintptr_t at = (uintptr_t)value, from = (uintptr_t)numbers;
    return at >= from && at < from + sizeof numbers;
}

const char *log_u64(unsigned long long value)
{
    char *out = number_buffer();
    snprintf(out, NUMBER_SIZE, "%llu", value);
    return out;
}

const char *log_i64(long long value)
{
    char *out = number_buffer();
    snprintf(out, NUMBER_SIZE, "%lld", value);
    return out;
}

const char *log_ms(long long ns)
{
    char *out = number_buffer();
    /* Negated as unsigned, since the smallest number has no positive twin. */
    unsigned long long us = (ns < 0 ? 0 - (unsigned long long)ns : (unsigned long long)ns) / 1000;
    snprintf(out, NUMBER_SIZE, "%s%llu.%03llu", ns < 0 && us > 0 ? "-" : "", us / 1000, us % 1000);
    return out;
}

/* ---- the line ---- */

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool json;
    bool truncated;
};

/* Adds all of it or, when it doesn't fit, nothing, now and later. */
static void put(struct line *line, const char *text, size_t len)
{
    if (line->truncated || len > sizeof line->text - RESERVE - line->len) {
        line->truncated = true;
        return;
    }
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void put_text(struct line *line, const char *text) { put(line, text, strlen(text)); }

/* The reserve is for these: they are added also to a truncated line. */
static void put_reserved(struct line *line, const char *text)
{
    size_t len = strlen(text);
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

/* The length of the valid UTF-8 sequence at `s`, or 0: for what isn't one, and for the control
 * characters beyond ASCII, which terminals obey as well. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool outside = (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF4 && s[1] > 0x8F);
    bool control = s[0] == 0xC2 && s[1] < 0xA0;
    return overlong || outside || control ? 0 : n;
}

static void put_escape(struct line *line, unsigned char c)
{
    char escape[8];
    const char *known = c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r"
                      : c == '"' ? "\\\"" : c == '\\' ? "\\\\" : NULL;
    if (known)
        snprintf(escape, sizeof escape, "%s", known);
    else if (!line->json)
        snprintf(escape, sizeof escape, "\\x%02x", c);
    else if (c < 0x80)
        snprintf(escape, sizeof escape, "\\u%04x", c);
    else
        snprintf(escape, sizeof escape, "\\ufffd");    /* JSON text has no word for a byte that is no character. */
    put_text(line, escape);
}

static void put_quoted(struct line *line, const char *value)
{
    put_text(line, "\"");
    bool open = !line->truncated;
    for (const unsigned char *s = (const unsigned char *)value; *s && !line->truncated;) {
        size_t n = *s >= 0x80 ? utf8_length(s) : (*s < 0x20 || *s == 0x7F || *s == '"' || *s == '\\') ? 0 : 1;
        if (n > 0)
            put(line, (const char *)s, n);
        else
            put_escape(line, *s);
        s += n > 0 ? n : 1;
    }
    if (open)
        put_reserved(line, "\"");
}

static bool is_plain(const char *value)
{
    for (const char *s = value; *s; s++)
        if (*s <= ' ' || *s >= 0x7F || *s == '"' || *s == '\\' || *s == '=')
            return false;
    return *value != '\0';
}

/* As it is where that is clear, else in quotes; cut where the line ends. */
static void put_word(struct line *line, const char *word)
{
    if (line->json || !is_plain(word)) {
        put_quoted(line, word);
        return;
    }
    for (; *word && !line->truncated; word++)
        put(line, word, 1);
}

static void put_pair(struct line *line, const char *key, const char *value)
{
    size_t before = line->len;
    put_text(line, line->json ? "," : " ");
    put_word(line, key);
    put_text(line, line->json ? ":" : "=");
    size_t value_at = line->len;
    if (!value)
        put_text(line, line->json ? "null" : "-");
    else if (line->json && is_number(value))
        put_text(line, value);
    else
        put_word(line, value);
    /* A key without a value would be half a pair, in JSON half an object. */
    if (line->truncated && line->len == value_at)
        line->len = before;
}

static void put_head(struct line *line, enum log_level level, const char *event)
{
    char when[40], micros[16];
    wall_t now = wall_now();
    time_t seconds = (time_t)(now.ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    when[strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm)] = '\0';
    snprintf(micros, sizeof micros, ".%06dZ", (int)(now.ns % NS_PER_S / NS_PER_US));
    put_text(line, line->json ? "{\"time\":\"" : "");
    put_text(line, when);
    put_text(line, micros);
    if (line->json) {
        put_text(line, "\"");
        put_pair(line, "level", level_names[level]);
        put_pair(line, "program", program_name);
        put_pair(line, "event", event);
        return;
    }
    put_text(line, " ");
    put_text(line, level_names[level]);
    put_text(line, " ");
    put_text(line, program_name);
    put_text(line, " ");
    put_text(line, event);
}

static void write_line(const struct line *line)
{
    /* A log that can't be written has nobody to be told: the rest of the line is let go. */
    for (size_t done = 0; done < line->len;) {
        ssize_t n = write(STDERR_FILENO, line->text + done, line->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        done += (size_t)n;
    }
}

static void begin_line(struct line *line, enum log_level level, const char *event)
{
    line->len = 0;
    line->truncated = false;
    line->json = atomic_load(&wanted_format) == LOG_JSON;
    put_head(line, level, event);
}

static void end_line(struct line *line)
{
    if (line->truncated)
        put_reserved(line, line->json ? ",\"truncated\":true" : " truncated=true");
    put_reserved(line, line->json ? "}\n" : "\n");
    write_line(line);
}

void log_event(enum log_level level, const char *event, ...)
{
    if (!log_wanted(level))
        return;
    int error = errno;    /* A caller may log first and read errno after. */
    struct line line;
    begin_line(&line, level, event);

    va_list args;
    va_start(args, event);
    const char *key, *value;
    while ((key = va_arg(args, const char *)) != NULL) {
        value = va_arg(args, const char *);
        put_pair(&line, key, value);
        /* A missing value may be the end of the list: what lies behind it is not ours to read. */
        if (!value)
            break;
    }
    va_end(args);

    end_line(&line);
    errno = error;
}

/* The next key=value of *text into key and value; false at its end, or where it is no pair. */
static bool next_pair(const char **text, char key[64], char value[1024])
{
    const char *at = *text + strspn(*text, " ");
    size_t n = strcspn(at, "= ");
    if (n == 0 || n >= 64 || at[n] != '=')
        return false;
    memcpy(key, at, n);
    key[n] = '\0';
    at += n + 1;
    bool quoted = *at == '"';
    at += quoted;
    n = 0;
    for (; *at != '\0' && (quoted ? !(*at == '"' && (at[1] == ' ' || at[1] == '\0')) : *at != ' '); at++)
        if (n + 1 < 1024)
            value[n++] = *at;
    value[n] = '\0';
    *text = at + (quoted && *at == '"');
    return true;
}

static bool reads_as_number(const char *text)
{
    size_t sign = text[0] == '-', whole = strspn(text + sign, "0123456789");
    const char *rest = text + sign + whole;
    size_t part = rest[0] == '.' ? strspn(rest + 1, "0123456789") : 0;
    bool ends = rest[0] == '.' ? part > 0 && rest[1 + part] == '\0' : rest[0] == '\0';
    return whole > 0 && ends && strlen(text) < 20 && !(text[sign] == '0' && whole > 1);
}

void log_text(enum log_level level, const char *event, const char *text)
{
    if (!log_wanted(level))
        return;
    int error = errno;
    struct line line;
    begin_line(&line, level, event);
    char key[64], value[1024];
    while (next_pair(&text, key, value)) {
        const char *shown = value;
        if (reads_as_number(value)) {
            char *copy = number_buffer();       /* JSON knows numbers by their place */
            memcpy(copy, value, strlen(value) + 1);
            shown = copy;
        }
        put_pair(&line, key, shown);
    }
    end_line(&line);
    errno = error;
}
