/* Reading handlers. A refusal names the file and the line, also for what is well-formed JSON and means nothing here: the line is
 * then that of the word in question, found in the text again. */
#include "worker/handlers.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tarmac/template.h"
#include "worker/plugin_host.h"
#include "worker/words.h"

#define FILE_MOST (4u << 20)
#define RECYCLE_MOST 1000000000

/* ---- the list ---- */

/* Takes the words (one block); the name is copied. */
static int add(struct handlers *self, const char *where, const char *name, const char **words, struct handler_setup setup,
               enum agent_handler_kind kind, struct why *why)
{
    for (size_t i = 0; i < self->n; i++)
        if (strcmp(self->list[i].name, name) == 0) {
            free(words);
            return why_set(why, "%s: handler %s is given twice; each has a name of its own", where, name);
        }
    struct agent_handler *list = reallocarray(self->list, self->n + 1, sizeof *list);
    if (list)
        self->list = list;
    struct handler_setup *setups = reallocarray(self->setups, self->n + 1, sizeof *setups);
    if (setups)
        self->setups = setups;
    char *copy = strdup(name);
    if (!list || !setups || !copy) {
        free(copy);
        free(words);
        return why_set(why, "%s: no memory for handler %s", where, name);
    }
    self->list[self->n] = (struct agent_handler){.name = copy, .kind = kind, .command = words};
    self->setups[self->n++] = setup;
    return 0;
}

static int check_template(const char *where, const char *name, const char *const *words, size_t n, struct why *why)
{
    struct why detail;
    struct template *template;
    if (template_parse(words, n, false, &template, &detail) < 0)
        return why_set(why, "%s %s: %s", where, name, detail.text);
    template_destroy(&template);
    return 0;
}

int handlers_add_line(struct handlers *self, const char *where, const char *text, struct why *why)
{
    struct why detail;
    char name[WIRE_NAME + 1];
    const char **words = NULL, *equals = strchr(text, '=');
    size_t n, len = equals ? (size_t)(equals - text) : 0;
    if (len == 0 || len >= sizeof name)
        return why_set(why, "%s %.100s: a handler is NAME=COMMAND LINE", where, text);
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    if (worker_words_split(equals + 1, &words, &n, &detail) < 0)
        return why_set(why, "%s %s: %s", where, name, detail.text);
    if (check_template(where, name, words, n, why) < 0) {
        free(words);
        return -1;
    }
    return add(self, where, name, words, (struct handler_setup){0}, AGENT_COMMAND, why);
}

/* ---- a file ---- */

struct file {
    const char *path;
    char *text;
    size_t len;
};

static size_t line_of(const struct file *file, const char *at)
{
    size_t line = 1;
    for (const char *c = file->text; c < at; c++)
        line += *c == '\n';
    return line;
}

/* Where a key stands: "key" and a colon behind it, from `from` on; NULL: nowhere. */
static const char *find_key(const char *from, const char *key)
{
    size_t len = strlen(key);
    for (const char *at = from; (at = strstr(at, key)); at++) {
        if (at == from || at[-1] != '"' || at[len] != '"')
            continue;
        const char *behind = at + len + 1 + strspn(at + len + 1, " \t\r\n");
        if (*behind == ':')
            return at;
    }
    return NULL;
}

static const char *where_is(const struct file *file, const char *handler, const char *key, char *out, size_t size)
{
    const char *at = find_key(file->text, handler), *inner = at && key ? find_key(at, key) : NULL;
    size_t line = line_of(file, inner ? inner : at ? at : file->text);
    snprintf(out, size, "--handlers %.150s:%zu", file->path, line);
    return out;
}

static int refuse(const struct file *file, const char *handler, const char *key, const char *what, struct why *why)
{
    char where[200];
    return why_set(why, "%s %.80s: %s", where_is(file, handler, key, where, sizeof where), handler, what);
}

/* ---- one handler of it ---- */

/* Of a list of strings, or of a line: the words in one block. */
static int read_command(const struct file *file, const char *name, const json_t *value, const char ***ret, size_t *ret_n, struct why *why)
{
    struct why detail;
    size_t bytes = 0, n = json_array_size(value);
    if (json_is_string(value)) {
        if (worker_words_split(json_string_value(value), ret, ret_n, &detail) == 0)
            return 0;
        return refuse(file, name, "command", detail.text, why);
    }
    if (n == 0)
        return refuse(file, name, "command", "its command is missing; it is a list of words, or a command line", why);
    for (size_t i = 0; i < n; i++) {
        if (!json_is_string(json_array_get(value, i)))
            return refuse(file, name, "command", "a word of its command is no string", why);
        bytes += json_string_length(json_array_get(value, i)) + 1;
    }
    const char **words = malloc((n + 1) * sizeof *words + bytes);
    if (!words)
        return why_set(why, "no memory for handler %s", name);
    char *text = (char *)(words + n + 1);
    for (size_t i = 0; i < n; i++) {
        const json_t *word = json_array_get(value, i);
        memcpy(text, json_string_value(word), json_string_length(word) + 1);
        words[i] = text;
        text += json_string_length(word) + 1;
    }
    words[n] = NULL;
    *ret = words;
    *ret_n = n;
    return 0;
}

static int read_limits(const struct file *file, const char *name, json_t *value, struct limits *ret, struct why *why)
{
    const char *key;
    json_t *one;
    if (!json_is_object(value))
        return refuse(file, name, "limits", "its limits are an object: {\"memory\": \"512M\", \"cpu\": \"10s\", \"processes\": 64, \"files\": 256}", why);
    json_object_foreach(value, key, one) {
        struct why detail;
        char number[32];
        const char *text = json_string_value(one);
        if (json_is_integer(one)) {
            snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(one));
            text = number;
        }
        if (!text)
            return refuse(file, name, key, "a limit is a string or a whole number", why);
        if (limits_parse_one(ret, key, text, &detail) < 0)
            return refuse(file, name, key, detail.text, why);
    }
    return 0;
}

struct reading {
    enum agent_handler_kind kind;
    struct handler_setup setup;
    const char **words;
    size_t n_words;
    const char *plugin, *argument;   /* lent by the file */
    bool has_protocol;
};

static int read_kind(const struct file *file, const char *name, const json_t *value, struct reading *ret, struct why *why)
{
    const char *kind = json_string_value(value);
    static const char *const kinds[] = {[AGENT_COMMAND] = "command", [AGENT_PERSISTENT] = "persistent", [AGENT_PLUGIN] = "plugin"};
    for (size_t i = 0; kind && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind, kinds[i]) == 0) {
            ret->kind = (enum agent_handler_kind)i;
            return 0;
        }
    return refuse(file, name, "kind", "a kind is command, persistent or plugin", why);
}

static int read_text(const struct file *file, const char *name, const char *key, const json_t *value, const char **ret, struct why *why)
{
    char what[80];
    *ret = json_string_value(value);
    if (*ret && strlen(*ret) == json_string_length(value))
        return 0;
    snprintf(what, sizeof what, "its %s is no string", key);
    return refuse(file, name, key, what, why);
}

/* Not searched for: dlopen would look in places that no operator thinks of. */
static int read_plugin(const struct file *file, const char *name, const json_t *value, struct reading *ret, struct why *why)
{
    if (read_text(file, name, "plugin", value, &ret->plugin, why) < 0)
        return -1;
    return ret->plugin[0] == '/' ? 0 : refuse(file, name, "plugin", "a plugin is the whole path of a shared object, beginning with /", why);
}

static int read_member(const struct file *file, const char *name, const char *key, json_t *value, struct reading *ret, struct why *why)
{
    const char *text = json_string_value(value);
    if (strcmp(key, "command") == 0)
        return read_command(file, name, value, &ret->words, &ret->n_words, why);
    if (strcmp(key, "kind") == 0)
        return read_kind(file, name, value, ret, why);
    if (strcmp(key, "limits") == 0)
        return read_limits(file, name, value, &ret->setup.limits, why);
    if (strcmp(key, "recycle") == 0) {
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > RECYCLE_MOST)
            return refuse(file, name, key, "recycle is a whole number of tasks, at most 1000000000; 0: never", why);
        ret->setup.recycle = (uint32_t)json_integer_value(value);
        ret->setup.has_recycle = true;
        return 0;
    }
    if (strcmp(key, "plugin") == 0)
        return read_plugin(file, name, value, ret, why);
    if (strcmp(key, "argument") == 0)
        return read_text(file, name, key, value, &ret->argument, why);
    if (strcmp(key, "protocol") == 0) {
        if (!text || (strcmp(text, "json") != 0 && strcmp(text, "protobuf") != 0))
            return refuse(file, name, key, "a protocol is json or protobuf", why);
        ret->setup.protobuf = strcmp(text, "protobuf") == 0;
        ret->has_protocol = true;
        return 0;
    }
    char what[160];
    snprintf(what, sizeof what, "it has no '%.40s'; there are command, kind, limits, recycle, protocol, plugin and argument", key);
    return refuse(file, name, key, what, why);
}

/* The words of a plugin's host, in one block. */
static int make_host(const struct file *file, const char *name, struct reading *ret, struct why *why)
{
    if (!ret->plugin)
        return refuse(file, name, NULL, "its plugin is missing; it is the whole path of a shared object", why);
    if (ret->words || ret->has_protocol)
        return refuse(file, name, ret->words ? "command" : "protocol", "a plugin has none; it has plugin, argument, limits and recycle", why);
    const char *const from[] = {PLUGIN_HOST, ret->plugin, ret->argument ? ret->argument : ""};
    size_t n = sizeof from / sizeof *from, bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(from[i]) + 1;
    ret->words = malloc((n + 1) * sizeof *ret->words + bytes);
    if (!ret->words)
        return why_set(why, "no memory for handler %s", name);
    char *text = (char *)(ret->words + n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(from[i]) + 1;
        ret->words[i] = memcpy(text, from[i], size);
        text += size;
    }
    ret->words[n] = NULL;
    ret->n_words = n;
    ret->setup.protobuf = true;
    return 0;
}

static int read_members(const struct file *file, const char *name, json_t *value, struct reading *ret, struct why *why)
{
    const char *key;
    json_t *member;
    if (!json_is_object(value))
        return refuse(file, name, NULL, "a handler is an object: {\"command\": [\"PROGRAM\", \"{}\"]}", why);
    json_object_foreach(value, key, member)
        if (read_member(file, name, key, member, ret, why) < 0)
            return -1;
    if (ret->kind == AGENT_PLUGIN)
        return make_host(file, name, ret, why);
    if (ret->plugin || ret->argument)
        return refuse(file, name, ret->plugin ? "plugin" : "argument", "that is for handlers with \"kind\": \"plugin\"", why);
    if (!ret->words)
        return refuse(file, name, NULL, "its command is missing; it is a list of words, or a command line", why);
    if (ret->kind == AGENT_COMMAND && (ret->setup.has_recycle || ret->has_protocol))
        return refuse(file, name, ret->has_protocol ? "protocol" : "recycle", "that is for handlers with \"kind\": \"persistent\"", why);
    char where[200];
    if (ret->kind == AGENT_COMMAND)
        return check_template(where_is(file, name, "command", where, sizeof where), name, ret->words, ret->n_words, why);
    return 0;
}

static int read_handler(struct handlers *self, const struct file *file, const char *name, json_t *value, struct why *why)
{
    struct reading reading = {.kind = AGENT_COMMAND};
    char where[200];
    if (name[0] == '\0' || strlen(name) > WIRE_NAME)
        return refuse(file, name, NULL, "a handler's name has 1 to 255 bytes", why);
    if (read_members(file, name, value, &reading, why) < 0) {
        free(reading.words);
        return -1;
    }
    return add(self, where_is(file, name, NULL, where, sizeof where), name, reading.words, reading.setup, reading.kind, why);
}

/* ---- all of it ---- */

static int read_json(struct handlers *self, const struct file *file, struct why *why)
{
    json_error_t error;
    const char *name;
    json_t *value, *root = json_loadb(file->text, file->len, JSON_REJECT_DUPLICATES, &error);
    int result = 0;
    if (!root)
        return why_set(why, "--handlers %.150s:%d: %s; the file is one JSON object: {\"NAME\": {\"command\": [\"PROGRAM\", \"{}\"]}}",
                       file->path, error.line, error.text);
    json_object_foreach(root, name, value)
        if (result == 0)
            result = read_handler(self, file, name, value, why);
    json_decref(root);
    return result;
}

static int read_lines(struct handlers *self, const struct file *file, struct why *why)
{
    char where[200];
    unsigned number = 0;
    for (char *line = file->text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        line += strspn(line, " \t");
        snprintf(where, sizeof where, "--handlers %.150s:%u", file->path, ++number);
        if (*line != '\0' && *line != '#' && handlers_add_line(self, where, line, why) < 0)
            return -1;
    }
    return 0;
}

int handlers_read_file(struct handlers *self, const char *path, struct why *why)
{
    struct file file = {.path = path};
    FILE *stream = fopen(path, "re");
    if (!stream)
        return why_set(why, "--handlers %.200s: %s; it is a file of handlers, as JSON or one NAME=COMMAND LINE a line", path, strerror(errno));
    file.text = malloc(FILE_MOST + 1);
    file.len = file.text ? fread(file.text, 1, FILE_MOST + 1, stream) : 0;
    int result = 0;
    if (!file.text)
        result = why_set(why, "--handlers %.200s: no memory for it", path);
    else if (ferror(stream))
        result = why_set(why, "--handlers %.200s: it can't be read: %s", path, strerror(errno));
    else if (file.len > FILE_MOST)
        result = why_set(why, "--handlers %.200s: it is larger than 4M", path);
    fclose(stream);
    if (result == 0) {
        file.text[file.len] = '\0';
        bool is_json = file.text[strspn(file.text, " \t\r\n")] == '{';
        result = is_json ? read_json(self, &file, why) : read_lines(self, &file, why);
    }
    free(file.text);
    return result;
}

/* ---- limits, and what is asked for later ---- */

int handlers_limit(struct handlers *self, const char *text, struct why *why)
{
    struct why detail;
    const char *equals = strchr(text, '='), *colon = NULL;
    for (const char *c = text; equals && c < equals; c++)
        if (*c == ':')
            colon = c;
    struct limits *limits = colon ? NULL : &self->defaults;
    for (size_t i = 0; colon && i < self->n; i++)
        if (strlen(self->list[i].name) == (size_t)(colon - text) && strncmp(self->list[i].name, text, (size_t)(colon - text)) == 0)
            limits = &self->setups[i].limits;
    if (!limits)
        return why_set(why, "--limit %.100s: there is no handler %.*s; a limit is WHAT=VALUE for all, or HANDLER:WHAT=VALUE", text,
                       (int)(colon - text < 100 ? colon - text : 100), text);
    if (limits_parse(limits, colon ? colon + 1 : text, &detail) < 0)
        return why_set(why, "--limit %.100s: %s", text, detail.text);
    return 0;
}

void handlers_complete(struct handlers *self, uint32_t recycle)
{
    for (size_t i = 0; i < self->n; i++) {
        limits_inherit(&self->setups[i].limits, &self->defaults);
        if (!self->setups[i].has_recycle)
            self->setups[i].recycle = recycle;
        /* Limits are those of one attempt, and a plugin's process counts what it has served by attempts that end: both see its tasks one by
         * one. Each command is an attempt of its own anyway. */
        bool limited = self->setups[i].recycle > 0;
        for (int kind = 0; kind < LIMIT_KINDS; kind++)
            limited |= self->setups[i].limits.of[kind] != 0;
        self->list[i].bundles = self->list[i].kind == AGENT_COMMAND || (self->list[i].kind == AGENT_PLUGIN && !limited);
    }
}

int handlers_find(const struct handlers *self, const char *name)
{
    for (size_t i = 0; name && i < self->n; i++)
        if (strcmp(self->list[i].name, name) == 0)
            return (int)i;
    return -1;
}

struct handler_setup handlers_setup(const struct handlers *self, const char *name)
{
    int at = handlers_find(self, name);
    return at >= 0 ? self->setups[at] : (struct handler_setup){.limits = self->defaults};
}

void handlers_release(struct handlers *self)
{
    for (size_t i = 0; i < self->n; i++) {
        free((char *)(uintptr_t)self->list[i].name);
        free((void *)(uintptr_t)self->list[i].command);
    }
    free(self->list);
    free(self->setups);
    *self = (struct handlers){0};
}
