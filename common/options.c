/* Options: one table is parsed from the defaults, the command line and the environment. What has
 * been given on the command line is known before a variable is looked at, so that a broken variable
 * can always be overruled by a flag. */
#include "common/options.h"

#include <ctype.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/options_table.h"

/* ---- numbers ---- */

/* Reads digits, at least one, and returns what comes after them; NULL when there is none.
 * Sets *overflow when they are more than a uint64_t holds. */
static const char *read_digits(const char *text, uint64_t *ret, bool *overflow)
{
    uint64_t value = 0;
    const char *s = text;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
            *overflow = true;
    if (s == text)
        return NULL;
    *ret = value;
    return s;
}

static const struct unit {
    const char *name;
    int64_t ns;
} units[] = {    /* The largest last: format_duration goes through them from there. */
    {"ms", NS_PER_MS},
    {"s", NS_PER_S},
    {"m", 60 * NS_PER_S},
    {"h", 3600 * NS_PER_S},
    {"d", 86400 * NS_PER_S},
};
#define UNITS (sizeof units / sizeof *units)

static const struct unit *find_unit(const char *name)
{
    for (size_t i = 0; i < UNITS; i++)
        if (strcmp(units[i].name, name) == 0)
            return &units[i];
    return NULL;
}

static int duration_refused(struct why *why)
{
    return why_set(why, "a duration is a number with ms, s, m, h or d, such as 30s");
}

int parse_duration(const char *text, int64_t *ret_ns, struct why *why)
{
    uint64_t whole = 0, part = 0, scale = 1;
    bool overflow = false, too_fine = false;
    if (strcmp(text, "0") == 0) {
        *ret_ns = 0;
        return 0;
    }
    const char *s = read_digits(text, &whole, &overflow);
    if (s && *s == '.') {
        const char *point = s;
        s = read_digits(s + 1, &part, &too_fine);
        for (const char *p = point + 1; s && p < s && !too_fine; p++)
            too_fine = __builtin_mul_overflow(scale, UINT64_C(10), &scale);
    }
    const struct unit *unit = s ? find_unit(s) : NULL;
    if (!unit)
        return duration_refused(why);

    int64_t ns;
    unsigned __int128 fine = (unsigned __int128)part * (uint64_t)unit->ns;
    if (too_fine || fine % scale != 0)
        return why_set(why, "a duration is no finer than a nanosecond");
    if (overflow || __builtin_mul_overflow(whole, unit->ns, &ns) ||
        __builtin_add_overflow(ns, (int64_t)(fine / scale), &ns))
        return why_set(why, "a duration is at most 106751d");
    *ret_ns = ns;
    return 0;
}

const char *format_duration(int64_t ns, char out[32])
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t size = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    for (size_t i = UNITS; i-- > 0 && size > 0;) {
        uint64_t unit = (uint64_t)units[i].ns;
        if (size % unit == 0) {
            snprintf(out, 32, "%s%llu%s", sign, (unsigned long long)(size / unit), units[i].name);
            return out;
        }
    }
    if (size == 0) {
        snprintf(out, 32, "0s");
        return out;
    }
    int n = snprintf(out, 32, "%s%llu.%06llu", sign, (unsigned long long)(size / 1000000),
                     (unsigned long long)(size % 1000000));
    while (out[n - 1] == '0')
        n--;
    snprintf(out + n, 32 - (size_t)n, "ms");
    return out;
}

int parse_size(const char *text, uint64_t *ret_bytes, struct why *why)
{
    static const char letters[] = "KMGT";
    uint64_t bytes = 0;
    bool overflow = false;
    const char *s = read_digits(text, &bytes, &overflow);
    const char *letter = s && *s ? strchr(letters, *s) : NULL;
    if (!s || (*s && (!letter || s[1])))
        return why_set(why, "a size is a whole number of bytes, or one with K, M, G or T, such as 64K");
    unsigned shift = letter ? 10 * (unsigned)(letter - letters + 1) : 0;
    if (overflow || bytes > UINT64_MAX >> shift)
        return why_set(why, "a size is at most 16777215T");
    *ret_bytes = bytes << shift;
    return 0;
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct why *why)
{
    uint64_t value = 0;
    bool overflow = false;
    const char *s = read_digits(text, &value, &overflow);
    if (!s || *s || overflow || value < min || value > max) {
        if (max == UINT64_MAX)
            return why_set(why, "expected a whole number, %llu or more", (unsigned long long)min);
        return why_set(why, "expected a whole number from %llu to %llu", (unsigned long long)min,
                       (unsigned long long)max);
    }
    *ret = value;
    return 0;
}

int parse_i64(const char *text, int64_t min, int64_t max, int64_t *ret, struct why *why)
{
    uint64_t size = 0;
    bool overflow = false, negative = *text == '-';
    const char *s = read_digits(text + negative, &size, &overflow);
    uint64_t most = (uint64_t)INT64_MAX + negative;
    int64_t value = (int64_t)(negative ? 0 - size : size);
    if (!s || *s || overflow || size > most || value < min || value > max) {
        if (min == INT64_MIN && max == INT64_MAX)
            return why_set(why, "expected a whole number");
        if (max == INT64_MAX)
            return why_set(why, "expected a whole number, %lld or more", (long long)min);
        return why_set(why, "expected a whole number from %lld to %lld", (long long)min, (long long)max);
    }
    *ret = value;
    return 0;
}

/* ---- the table ---- */

const struct option_spec *option_next(struct option_walk *walk)
{
    while (walk->tables && *walk->tables) {
        if (!walk->next)
            walk->next = *walk->tables;
        if (walk->next->name)
            return walk->next++;
        walk->next = NULL;
        walk->tables++;
    }
    return NULL;
}

bool option_takes_value(const struct option_spec *spec)
{
    return spec->type != OPT_FLAG && spec->type != OPT_NO_FLAG;
}

bool option_env_name(const struct option_spec *spec, char out[ENV_NAME_SIZE])
{
    if (spec->env) {
        snprintf(out, ENV_NAME_SIZE, "%s", spec->env);
        return *spec->env != '\0';
    }
    snprintf(out, ENV_NAME_SIZE, "TARMAC_%s", spec->name);
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    return true;
}

bool option_letter_is_free(const struct command_spec *command, char letter)
{
    struct option_walk walk = {.tables = command->tables};
    const struct option_spec *spec;
    while ((spec = option_next(&walk)))
        if (spec->letter == letter)
            return false;
    return true;
}

/* ---- one field ---- */

static void *field_of(const struct option_spec *spec, void *into) { return (char *)into + spec->offset; }

static int parse_yes_no(const char *text, bool *ret, struct why *why)
{
    static const char *const words[][4] = {{"0", "no", "false", "off"}, {"1", "yes", "true", "on"}};
    for (int yes = 0; yes < 2; yes++)
        for (size_t i = 0; i < 4; i++)
            if (strcmp(text, words[yes][i]) == 0) {
                *ret = yes;
                return 0;
            }
    return why_set(why, "expected 1, yes, true or on, or else 0, no, false or off");
}

static int parse_choice(const char *text, const char *choices, int *ret, struct why *why)
{
    int index = 0;
    for (const char *s = choices; *s; index++) {
        size_t len = strcspn(s, "|");
        if (strlen(text) == len && strncmp(text, s, len) == 0) {
            *ret = index;
            return 0;
        }
        s += len + (s[len] == '|');
    }
    return why_set(why, "expected one of %s", choices);
}

static void strings_free(struct string_list *list)
{
    free(list->items);
    *list = (struct string_list){0};
}

static int strings_add(struct string_list *list, const char *text, struct why *why)
{
    const char **items = reallocarray(list->items, list->n + 1, sizeof *items);
    if (!items)
        return why_set(why, "there is no memory left");
    items[list->n++] = text;
    list->items = items;
    return 0;
}

/* The lines of a variable. The list owns one block, so the lines are copied behind its array. */
static int strings_split(struct string_list *list, const char *text, struct why *why)
{
    size_t lines = 1, n = 0;
    for (const char *s = text; *s; s++)
        lines += *s == '\n';
    const char **items = malloc(lines * sizeof *items + strlen(text) + 1);
    if (!items)
        return why_set(why, "there is no memory left");
    char *copy = (char *)(items + lines), *line;
    memcpy(copy, text, strlen(text) + 1);
    while ((line = strsep(&copy, "\n")))
        if (*line)
            items[n++] = line;
    *list = (struct string_list){items, n};
    return 0;
}

static int set_u64(const struct option_spec *spec, void *field, const char *text, struct why *why)
{
    uint64_t min = spec->min > 0 ? (uint64_t)spec->min : 0;
    bool bounded = spec->max > 0 && spec->max >= spec->min;
    return parse_u64(text, min, bounded ? (uint64_t)spec->max : UINT64_MAX, field, why);
}

static int set_i64(const struct option_spec *spec, void *field, const char *text, struct why *why)
{
    bool any = spec->min == 0 && spec->max == 0;
    bool bounded = !any && spec->max >= spec->min;
    return parse_i64(text, any ? INT64_MIN : spec->min, bounded ? spec->max : INT64_MAX, field, why);
}

/* `text` is NULL for a flag that stands alone on the command line. */
static int set_field(const struct option_spec *spec, void *into, const char *text, struct why *why)
{
    void *field = field_of(spec, into);
    bool yes = true;
    switch (spec->type) {
    case OPT_FLAG:
    case OPT_NO_FLAG:
        if (text && parse_yes_no(text, &yes, why) < 0)
            return -1;
        *(bool *)field = yes == (spec->type == OPT_FLAG);
        return 0;
    case OPT_STRING:
        *(const char **)field = text;
        return 0;
    case OPT_STRINGS:
        return strings_add(field, text, why);
    case OPT_DURATION:
        return parse_duration(text, field, why);
    case OPT_SIZE:
        return parse_size(text, field, why);
    case OPT_U64:
        return set_u64(spec, field, text, why);
    case OPT_I64:
        return set_i64(spec, field, text, why);
    case OPT_CHOICE:
        return parse_choice(text, spec->choices, field, why);
    case OPT_CUSTOM:
        return spec->parse(field, text, why);
    }
    return why_set(why, "the option is of no known type");
}

static void clear_field(const struct option_spec *spec, void *into)
{
    static const size_t sizes[] = {
        [OPT_FLAG] = sizeof(bool), [OPT_STRING] = sizeof(char *), [OPT_STRINGS] = sizeof(struct string_list),
        [OPT_DURATION] = sizeof(int64_t), [OPT_SIZE] = sizeof(uint64_t), [OPT_U64] = sizeof(uint64_t),
        [OPT_I64] = sizeof(int64_t), [OPT_CHOICE] = sizeof(int), [OPT_NO_FLAG] = 0, [OPT_CUSTOM] = 0,
    };
    memset(field_of(spec, into), 0, sizes[spec->type]);
    if (spec->given_offset)
        *(bool *)((char *)into + spec->given_offset) = false;
}

static void mark_given(const struct option_spec *spec, void *into)
{
    if (spec->given_offset)
        *(bool *)((char *)into + spec->given_offset) = true;
}

/* ---- sentences ---- */

/* A value as it may be shown: short, and without what a terminal would obey. */
static const char *shown(const char *value, char out[64])
{
    size_t n = 0;
    for (; value[n] && n < 60; n++)
        out[n] = iscntrl((unsigned char)value[n]) ? '?' : value[n];
    snprintf(out + n, 64 - n, "%s", value[n] ? "..." : "");
    return out;
}

static int refuse_value(struct why *why, const char *dashes, const char *name, const char *value)
{
    char text[64];
    return why_set(why, "%s%s '%s': %s", dashes, name, shown(value, text), why->text);
}

#define NAME_MOST 47

/* How many letters were left out, added, changed or swapped: Damerau and Levenshtein's distance. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][NAME_MOST + 1];
    size_t n = strlen(b);
    if (n > NAME_MOST || strlen(a) > NAME_MOST)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        rows[0][j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *higher = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && higher[j - 2] + 1 < best)
                best = higher[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[strlen(a) % 3][n];
}

struct parse {
    const struct option_spec **specs;
    bool *given;              /* on the command line */
    size_t n;
    struct option *longs;     /* the specs in their order, then help and version */
    char *shorts;
    const char *last_value;   /* of the option read last, when it was an element of its own */
    void *into;
    struct why *why;
};

/* The name that was probably meant: the nearest one, or the one that was only begun. */
static const char *nearest_name(const struct parse *self, const char *typed)
{
    const char *near = NULL, *begun = NULL;
    size_t least = strlen(typed) < 5 ? 2 : 3;    /* Two mistakes, in a short name one. */
    size_t beginnings = 0;
    for (const struct option *l = self->longs; l->name; l++) {
        size_t d = distance(typed, l->name);
        if (d < least && d < strlen(l->name)) {
            least = d;
            near = l->name;
        }
        if (*typed && strncmp(typed, l->name, strlen(typed)) == 0) {
            begun = l->name;
            beginnings++;
        }
    }
    return near ? near : beginnings == 1 ? begun : NULL;
}

static int refuse_unknown(const struct parse *self, const char *typed)
{
    char text[64];
    const char *near = nearest_name(self, typed);
    if (near)
        return why_set(self->why, "--%s: there is no such flag; did you mean --%s?", shown(typed, text), near);
    return why_set(self->why, "--%s: there is no such flag; --help lists them all", shown(typed, text));
}

/* ---- the command line ---- */

#define LONG_BASE 256    /* Values of long options begin beyond those of letters. */
#define HELP_OF(p) (LONG_BASE + (int)(p)->n)
#define VERSION_OF(p) (HELP_OF(p) + 1)

static void parse_free(struct parse *self)
{
    free(self->specs);
    free(self->given);
    free(self->longs);
    free(self->shorts);
}

static void describe(struct parse *self, const struct command_spec *command)
{
    struct option_walk walk = {.tables = command->tables};
    const struct option_spec *spec;
    char *letter = self->shorts;
    if (command->stop_at_first_argument)
        *letter++ = '+';
    *letter++ = ':';    /* A missing value is told apart from an unknown flag. */
    if (option_letter_is_free(command, 'h'))
        *letter++ = 'h';
    for (size_t i = 0; (spec = option_next(&walk)); i++) {
        bool value = option_takes_value(spec);
        self->specs[i] = spec;
        self->longs[i] = (struct option){spec->name, value ? required_argument : no_argument, NULL,
                                         LONG_BASE + (int)i};
        if (!spec->letter)
            continue;
        *letter++ = spec->letter;
        if (value)
            *letter++ = ':';
    }
    self->longs[self->n] = (struct option){"help", no_argument, NULL, HELP_OF(self)};
    self->longs[self->n + 1] = (struct option){"version", no_argument, NULL, VERSION_OF(self)};
}

static int parse_init(struct parse *self, const struct command_spec *command, void *into, struct why *why)
{
    struct option_walk walk = {.tables = command->tables};
    *self = (struct parse){.into = into, .why = why};
    while (option_next(&walk))
        self->n++;
    self->specs = calloc(self->n + 1, sizeof *self->specs);
    self->given = calloc(self->n + 1, sizeof *self->given);
    self->longs = calloc(self->n + 3, sizeof *self->longs);
    self->shorts = calloc(2 * self->n + 4, 1);
    if (!self->specs || !self->given || !self->longs || !self->shorts)
        return why_set(why, "there is no memory left");
    describe(self, command);
    return 0;
}

/* The name in the element that getopt has just read, when it was a long one. getopt takes
 * abbreviations; we don't, because a flag added later would change what they mean. */
static int check_exact(const struct parse *self, char **argv, int index)
{
    const char *element = argv[optind - 1];
    if (optarg && optarg == element)
        element = argv[optind - 2];
    char typed[NAME_MOST + 1];
    size_t len = strcspn(element, "=");
    if (strncmp(element, "--", 2) == 0 && len > 2)
        snprintf(typed, sizeof typed, "%.*s", (int)(len - 2), element + 2);
    else
        snprintf(typed, sizeof typed, "%s", element);
    if (index >= 0 && strcmp(typed, self->longs[index].name) == 0)
        return 0;
    return refuse_unknown(self, typed);
}

/* An unknown flag, a value that is missing, or one that nobody asked for. */
static int refuse_usage(const struct parse *self, char **argv, int code)
{
    char text[64];
    int index = optopt >= LONG_BASE ? optopt - LONG_BASE : -1;
    if (optopt != 0 && optopt < LONG_BASE) {
        char letter[2] = {optopt > 0 ? (char)optopt : '?', '\0'};
        if (code == ':')
            return why_set(self->why, "-%s: its value is missing", letter);
        return why_set(self->why, "-%s: there is no such flag; --help lists them all", shown(letter, text));
    }
    optarg = NULL;
    if (check_exact(self, argv, index) < 0)
        return -1;
    if (code == ':')
        return why_set(self->why, "--%s: its value is missing", self->longs[index].name);
    return why_set(self->why, "%s: --%s takes no value", shown(argv[optind - 1], text), self->longs[index].name);
}

static int take_option(struct parse *self, size_t index, const char *value)
{
    const struct option_spec *spec = self->specs[index];
    if (value && !*value)
        return why_set(self->why, "--%s '': the value is empty; give one, or leave --%s out", spec->name, spec->name);
    if (spec->type == OPT_STRINGS && !self->given[index])
        strings_free(field_of(spec, self->into));    /* The default goes; it isn't added to. */
    if (set_field(spec, self->into, value, self->why) < 0)
        return refuse_value(self->why, "--", spec->name, value ? value : "");
    self->given[index] = true;
    mark_given(spec, self->into);
    return 0;
}

static size_t index_of_letter(const struct parse *self, int letter)
{
    size_t i = 0;
    while (i < self->n && self->specs[i]->letter != letter)
        i++;
    return i;
}

static enum options_result read_arguments(struct parse *self, int argc, char **argv)
{
    int code;
    opterr = 0;
    optind = 0;    /* Makes glibc forget what it read before. */
    optarg = NULL;
    while ((code = getopt_long(argc, argv, self->shorts, self->longs, NULL)) != -1) {
        if (code == '?' || code == ':') {
            refuse_usage(self, argv, code);
            return OPTIONS_BAD;
        }
        if (code >= LONG_BASE && check_exact(self, argv, code - LONG_BASE) < 0)
            return OPTIONS_BAD;
        if (code == VERSION_OF(self))
            return OPTIONS_VERSION;
        size_t index = code >= LONG_BASE ? (size_t)(code - LONG_BASE) : index_of_letter(self, code);
        if (index >= self->n)    /* --help, or -h that no table has. */
            return OPTIONS_HELP;
        self->last_value = optarg;
        if (take_option(self, index, optarg) < 0)
            return OPTIONS_BAD;
        optarg = NULL;
    }
    return OPTIONS_OK;
}

/* ---- all of it ---- */

static int set_preset(const struct option_spec *spec, void *into, struct why *why)
{
    int r = 0;
    if (!spec->preset || spec->type == OPT_NO_FLAG)
        return 0;
    if (spec->type == OPT_DURATION && strcmp(spec->preset, "-1") == 0)
        *(int64_t *)field_of(spec, into) = -1;    /* "Not given": no person can type it. */
    else if (spec->type == OPT_STRINGS)
        r = strings_split(field_of(spec, into), spec->preset, why);
    else
        r = set_field(spec, into, spec->preset, why);
    return r < 0 ? refuse_value(why, "the default of --", spec->name, spec->preset) : 0;
}

static bool given_by_flag(const struct parse *self, size_t index)
{
    /* --bar on the command line also overrules the variable of --no-bar: they share the field. */
    for (size_t i = 0; i < self->n; i++)
        if (self->given[i] && self->specs[i]->offset == self->specs[index]->offset)
            return true;
    return false;
}

static int read_variable(struct parse *self, size_t index)
{
    const struct option_spec *spec = self->specs[index];
    char name[ENV_NAME_SIZE];
    const char *text = option_env_name(spec, name) ? getenv(name) : NULL;
    if (!text || !*text)
        return 0;
    int r;
    if (spec->type == OPT_STRINGS) {
        strings_free(field_of(spec, self->into));
        r = strings_split(field_of(spec, self->into), text, self->why);
    } else {
        r = set_field(spec, self->into, text, self->why);
    }
    if (r < 0)
        return refuse_value(self->why, "", name, text);
    mark_given(spec, self->into);
    return 0;
}

static int read_environment(struct parse *self)
{
    for (size_t i = 0; i < self->n; i++)
        if (!given_by_flag(self, i) && read_variable(self, i) < 0)
            return -1;
    return 0;
}

enum options_result options_parse(const struct command_spec *command, int argc, char **argv, void *into,
                                  int *ret_rest, bool *ret_dashes, struct why *why)
{
    struct parse self;
    enum options_result result = OPTIONS_BAD;
    struct option_walk walk = {.tables = command->tables};
    const struct option_spec *spec;
    while ((spec = option_next(&walk)))
        clear_field(spec, into);
    if (parse_init(&self, command, into, why) < 0)
        goto done;
    for (size_t i = 0; i < self.n; i++)
        if (set_preset(self.specs[i], into, why) < 0)
            goto done;
    result = read_arguments(&self, argc, argv);
    if (result == OPTIONS_OK && read_environment(&self) < 0)
        result = OPTIONS_BAD;
    if (result == OPTIONS_OK) {
        /* A "--" that was the value of an option ended nothing. */
        const char *before = argv[optind - 1];
        *ret_dashes = optind > 1 && before != self.last_value && strcmp(before, "--") == 0;
        *ret_rest = optind;
    }
done:
    if (result != OPTIONS_OK)
        options_release(command, into);
    parse_free(&self);
    return result;
}

void options_release(const struct command_spec *command, void *into)
{
    struct option_walk walk = {.tables = command->tables};
    const struct option_spec *spec;
    while ((spec = option_next(&walk)))
        if (spec->type == OPT_STRINGS)
            strings_free(field_of(spec, into));
}
