/* Private to the codec: what a message must obey after it was unpacked. The rules are tables
 * (wire_rules.c), which wire_check.c obeys; wire.c unpacks and asks, wire_words.c knows what text is. */
#ifndef PROTO_WIRE_CHECK_H
#define PROTO_WIRE_CHECK_H

#include "proto/wire.h"

/* Those from IS_MESSAGES on are of repeated fields. */
enum wire_rule_kind {
    IS_ID, IS_ID_OR_NONE, IS_LINE, IS_TEXT, IS_U32, IS_U64, IS_ENUM, IS_MESSAGE,
    IS_MESSAGES, IS_LINES, IS_TEXTS, IS_VALUES, IS_ENUMS, IS_COUNTS,
};

struct wire_rule {
    const char *field;
    enum wire_rule_kind kind;
    bool needed;                        /* a message: must be there */
    uint16_t at, n_at;                  /* offsets of the field, and of a repeated one's count */
    uint64_t least, most;               /* value; length of a text */
    uint64_t entries;                   /* repeated: at most */
    const struct wire_rules *of;        /* messages: their rules */
    const ProtobufCEnumDescriptor *words;   /* an enum's: its last one is the most; they count from 0 without holes */
};

struct wire_path;
struct wire_rules {
    const struct wire_rule *rule;
    size_t n;
    int (*also)(struct wire_path *c, const void *message);
};

/* One case of an envelope's oneof. */
struct wire_variant {
    const char *name;                   /* NULL: there is no such case */
    const struct wire_rules *rules;
    bool body;                          /* may have one; its rules compare the length */
};
struct wire_envelope {
    uint16_t case_at, at;
    const struct wire_variant *variant; /* by case, which is the field's number */
    size_t n;
};

/* Where a check is, for sentences: "chunk: tasks.extras[3].offset …". */
struct wire_path {
    const char *message;
    struct { const char *field; size_t index; } path[8];    /* messages nest at most five deep */
    size_t depth;
    size_t body_len;
    struct why *why;
};
#define WIRE_NO_INDEX SIZE_MAX              /* of a field that is not one of many */

/* A type of message that is read as a whole: an envelope, or a piece that is kept on disk. */
struct wire_shape {
    const char *name;
    const ProtobufCMessageDescriptor *type;
    size_t most;                        /* bytes of its head */
    const struct wire_envelope *envelope;   /* an envelope's cases; NULL for a piece */
    const struct wire_rules *rules;     /* of the fields beside the cases */
};

extern const struct wire_shape wire_shape_request, wire_shape_reply, wire_shape_upward, wire_shape_downward,
    wire_shape_lane, wire_shape_result, wire_shape_query, wire_shape_answer, wire_shape_tasks, wire_shape_options,
    wire_shape_row;

/* 0, or -1 and the sentence. `message` must have been unpacked into an arena (see wire_text_len). */
int wire_check(const struct wire_shape *shape, const ProtobufCMessage *message, size_t body_len, struct why *why);

/* How many bytes came for a string of an unpacked message. protobuf-c doesn't tell, and a NUL inside
 * would hide the rest; but it allocates each string by itself, and the arena remembers sizes. */
size_t wire_text_len(const char *text);

/* What is wrong with a text as a text: NULL, or "is not UTF-8" and the like. `line`: control
 * characters (terminals obey them) are refused too. */
const char *wire_text_fault(const char *text, size_t len, bool line);

/* Breaks off: fills the sentence with where the check is and what is wrong; returns -1. */
int wire_broke(const struct wire_path *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
int wire_apply(struct wire_path *c, const struct wire_rules *rules, const void *message);

/* One field deeper, and back. Only on success: a failure keeps its place for the sentence. */
static inline void wire_enter(struct wire_path *c, const char *field, size_t index)
{
    c->path[c->depth].field = field;
    c->path[c->depth++].index = index;
}
static inline void wire_leave(struct wire_path *c) { c->depth--; }

#endif
