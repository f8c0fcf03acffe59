/* Obeys the tables of wire_rules.c: goes through a message field by field, and says in a sentence
 * which one broke which rule. */
#include "proto/wire_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int wire_broke(const struct wire_path *c, const char *format, ...)
{
    char where[160] = "", what[200];
    size_t len = 0;
    for (size_t i = 0; i < c->depth && len < sizeof where; i++) {
        int n = c->path[i].index == WIRE_NO_INDEX
            ? snprintf(where + len, sizeof where - len, "%s%s", i ? "." : "", c->path[i].field)
            : snprintf(where + len, sizeof where - len, "%s%s[%zu]", i ? "." : "", c->path[i].field, c->path[i].index);
        len += n > 0 ? (size_t)n : 0;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return why_set(c->why, "%s:%s%s %s", c->message, where[0] ? " " : "", where, what);
}

/* ---- the interpreter of the tables ---- */

static int check_id(const struct wire_path *c, const ProtobufCBinaryData *id, bool may_miss)
{
    if (id->len == WIRE_ID || (may_miss && id->len == 0))
        return 0;
    return wire_broke(c, "has %zu bytes; an id has 16%s", id->len, may_miss ? ", or none at all" : "");
}

static int check_text(const struct wire_path *c, const struct wire_rule *rule, const char *text)
{
    size_t len = wire_text_len(text);
    if (len < rule->least)
        return wire_broke(c, "is empty; it must be given");
    if (len > rule->most)
        return wire_broke(c, "has %zu bytes; it has at most %" PRIu64, len, rule->most);
    bool line = rule->kind == IS_LINE || rule->kind == IS_LINES;
    const char *fault = wire_text_fault(text, len, line);
    return fault ? wire_broke(c, "%s", fault) : 0;
}

static int check_number(const struct wire_path *c, const struct wire_rule *rule, uint64_t n)
{
    uint64_t most = rule->words ? rule->words->n_values - 1 : rule->most;
    if (n >= rule->least && n <= most)
        return 0;
    return wire_broke(c, "is %" PRIu64 "; it is from %" PRIu64 " to %" PRIu64, n, rule->least, most);
}

static int check_texts(struct wire_path *c, const struct wire_rule *rule, char *const *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        wire_enter(c, rule->field, i);
        if (check_text(c, rule, text[i]) < 0)
            return -1;
        wire_leave(c);
    }
    return 0;
}

static int check_messages(struct wire_path *c, const struct wire_rule *rule, void *const *message, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        wire_enter(c, rule->field, i);
        if (wire_apply(c, rule->of, message[i]) < 0)
            return -1;
        wire_leave(c);
    }
    return 0;
}

static int check_enums(struct wire_path *c, const struct wire_rule *rule, const uint32_t *value, size_t n)
{
    uint32_t least = (uint32_t)rule->least, most = rule->words ? rule->words->n_values - 1 : (uint32_t)rule->most;
    for (size_t i = 0; i < n; i++) {
        if (value[i] >= least && value[i] <= most)
            continue;
        wire_enter(c, rule->field, i);
        return check_number(c, rule, value[i]);
    }
    return 0;
}

/* Unknown fields are forgotten, so that nothing we never looked at is copied, stored or sent on: a
 * megabyte of them in a batch's options would go down every lane. Field 0 is no field: protobuf-c
 * takes it when its number is spelt in two bytes, and can't read back how it writes it. */
static int forget_unknown(const struct wire_path *c, const void *message)
{
    ProtobufCMessage *base = (ProtobufCMessage *)(uintptr_t)message;    /* the arena's, not yet anybody else's */
    for (unsigned i = 0; i < base->n_unknown_fields; i++)
        if (base->unknown_fields[i].tag == 0)
            return wire_broke(c, "has a field with number 0; numbers begin at 1");
    base->n_unknown_fields = 0;
    return 0;
}

static int check_value(struct wire_path *c, const Wire__Value *value)
{
    if (forget_unknown(c, value) < 0)
        return -1;
    size_t len = wire_text_len(value->value);
    if (!wire_value_key_ok(value->key) || strlen(value->key) != wire_text_len(value->key))
        return wire_broke(c, "has a key that is none; a key is [A-Za-z_][A-Za-z0-9_.-]*, at most %u bytes", WIRE_KEY);
    if (len > WIRE_VALUE)
        return wire_broke(c, "has a value of %zu bytes; it has at most %u", len, WIRE_VALUE);
    const char *fault = wire_text_fault(value->value, len, false);
    return fault ? wire_broke(c, "has a value that %s", fault) : 0;
}

static int check_values(struct wire_path *c, const struct wire_rule *rule, Wire__Value *const *value, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        wire_enter(c, rule->field, i);
        if (check_value(c, value[i]) < 0)
            return -1;
        wire_leave(c);
        sum += wire_text_len(value[i]->key) + wire_text_len(value[i]->value);
    }
    if (sum <= WIRE_VALUES_SUM)
        return 0;
    wire_enter(c, rule->field, WIRE_NO_INDEX);
    return wire_broke(c, "have %zu bytes together; they have at most %u", sum, WIRE_VALUES_SUM);
}

static int check_repeated(struct wire_path *c, const struct wire_rule *rule, const void *message)
{
    const char *base = message;
    size_t n = *(const size_t *)(const void *)(base + rule->n_at);
    const void *list = *(void *const *)(const void *)(base + rule->at);
    bool fits = rule->kind == IS_COUNTS ? n == 0 || n == rule->entries : n <= rule->entries;
    if (!fits) {
        wire_enter(c, rule->field, WIRE_NO_INDEX);
        return wire_broke(c, rule->kind == IS_COUNTS ? "has %zu entries; it has %" PRIu64 " or none"
                                                     : "has %zu entries; it has at most %" PRIu64, n, rule->entries);
    }
    switch (rule->kind) {
    case IS_MESSAGES: return check_messages(c, rule, list, n);
    case IS_LINES:
    case IS_TEXTS:    return check_texts(c, rule, list, n);
    case IS_VALUES:   return check_values(c, rule, list, n);
    case IS_ENUMS:    return check_enums(c, rule, list, n);
    default:          return 0;
    }
}

static int check_submessage(struct wire_path *c, const struct wire_rule *rule, const void *message)
{
    if (!message)
        return rule->needed ? wire_broke(c, "is missing; this message must have it") : 0;
    return wire_apply(c, rule->of, message);
}

static int check_field(struct wire_path *c, const struct wire_rule *rule, const void *message)
{
    const void *at = (const char *)message + rule->at;
    switch (rule->kind) {
    case IS_ID:
    case IS_ID_OR_NONE: return check_id(c, at, rule->kind == IS_ID_OR_NONE);
    case IS_LINE:
    case IS_TEXT:       return check_text(c, rule, *(char *const *)at);
    case IS_ENUM:       /* a negative one is a huge unsigned one */
    case IS_U32:        return check_number(c, rule, *(const uint32_t *)at);
    case IS_U64:        return check_number(c, rule, *(const uint64_t *)at);
    case IS_MESSAGE:    return check_submessage(c, rule, *(void *const *)at);
    default:            return 0;
    }
}

int wire_apply(struct wire_path *c, const struct wire_rules *rules, const void *message)
{
    if (forget_unknown(c, message) < 0)
        return -1;
    for (size_t i = 0; i < rules->n; i++) {
        const struct wire_rule *rule = &rules->rule[i];
        if (rule->kind >= IS_MESSAGES) {
            if (check_repeated(c, rule, message) < 0)
                return -1;
            continue;
        }
        wire_enter(c, rule->field, WIRE_NO_INDEX);
        if (check_field(c, rule, message) < 0)
            return -1;
        wire_leave(c);
    }
    return rules->also ? rules->also(c, message) : 0;
}

/* ---- whole messages ---- */

static int check_case(struct wire_path *c, const struct wire_shape *shape, const void *message)
{
    const struct wire_envelope *e = shape->envelope;
    uint32_t what = *(const uint32_t *)(const void *)((const char *)message + e->case_at);
    if (what >= e->n || !e->variant[what].name)
        return wire_broke(c, "says nothing that this version (%u.%u) knows; one of %s's messages must be set", WIRE_MAJOR,
                          WIRE_MINOR, shape->type->short_name);
    const struct wire_variant *variant = &e->variant[what];
    c->message = variant->name;
    if (c->body_len > (variant->body ? WIRE_BODY : 0))
        return wire_broke(c, "has a body of %zu bytes; it has %s%u", c->body_len, variant->body ? "at most " : "",
                          variant->body ? WIRE_BODY : 0);
    return wire_apply(c, variant->rules, *(void *const *)(const void *)((const char *)message + e->at));
}

int wire_check(const struct wire_shape *shape, const ProtobufCMessage *message, size_t body_len, struct why *why)
{
    struct wire_path c = {.message = shape->name, .body_len = body_len, .why = why};
    if (wire_apply(&c, shape->rules, message) < 0)
        return -1;
    return shape->envelope ? check_case(&c, shape, message) : 0;
}
