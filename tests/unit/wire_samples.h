/* For the tests of the codec: messages in one expression, and all readers behind one function. */
#ifndef TESTS_UNIT_WIRE_SAMPLES_H
#define TESTS_UNIT_WIRE_SAMPLES_H

#include <string.h>

#include "proto/wire.h"

/* A message; at file scope too, where its address is a constant. Strings that are left out are NULL,
 * which protobuf-c packs like empty ones. */
#define M(Type, type, ...) ((Wire__##Type){.base = PROTOBUF_C_MESSAGE_INIT(&wire__##type##__descriptor), __VA_ARGS__})
#define EMPTY(Type, type) ((Wire__##Type){.base = PROTOBUF_C_MESSAGE_INIT(&wire__##type##__descriptor)})
#define BYTES(text) {sizeof(text) - 1, (uint8_t *)(uintptr_t)(text)}
#define ID16 BYTES("0123456789abcdef")
#define TEXT(text) ((char *)(uintptr_t)(text))
/* A repeated field: both of its members, in the order in which they are generated. */
#define MANY(field, Element, ...) .n_##field = sizeof((Element[]){__VA_ARGS__}) / sizeof(Element), .field = (Element[]){__VA_ARGS__}

#define FENCE(first_, count_) M(Fence, fence, .batch = ID16, .first = (first_), .count = (count_), .epoch = 3, .attempt = 2)
#define SPAN(first_, count_) M(Span, span, .first = (first_), .count = (count_))
#define VALUE(key_, value_) M(Value, value, .key = TEXT(key_), .value = TEXT(value_))
#define OPTIONS(...) M(Options, options, .handler = TEXT("resize"), .weight = 1, __VA_ARGS__)

enum envelope { REQUEST, REPLY, UPWARD, DOWNWARD, LANE, RESULT, QUERY, ANSWER, ENVELOPES };

static const ProtobufCMessageDescriptor *const envelope_types[ENVELOPES] = {
    [REQUEST] = &wire__request__descriptor, [REPLY] = &wire__reply__descriptor, [UPWARD] = &wire__upward__descriptor,
    [DOWNWARD] = &wire__downward__descriptor, [LANE] = &wire__lane__descriptor, [RESULT] = &wire__result__descriptor,
    [QUERY] = &wire__query__descriptor, [ANSWER] = &wire__answer__descriptor,
};

struct sample {
    enum envelope envelope;
    int what;                       /* the case of its oneof */
    const void *message;
    size_t body_len;
    const char *sentence;           /* of its refusal; NULL: it is accepted */
};

#define READ_AS(word, Type)                                                      \
    do {                                                                         \
        const Wire__##Type *message;                                             \
        if (wire_read_##word(arena, head, len, body_len, &message, why) < 0)     \
            return NULL;                                                         \
        return &message->base;                                                   \
    } while (0)

static inline const ProtobufCMessage *read_as(enum envelope envelope, struct wire_arena *arena, const uint8_t *head, size_t len,
                                              size_t body_len, struct why *why)
{
    switch (envelope) {
    case REQUEST:  READ_AS(request, Request);
    case REPLY:    READ_AS(reply, Reply);
    case UPWARD:   READ_AS(upward, Upward);
    case DOWNWARD: READ_AS(downward, Downward);
    case LANE:     READ_AS(lane, Lane);
    case RESULT:   READ_AS(result, Result);
    case QUERY:    READ_AS(query, Query);
    default:       READ_AS(answer, Answer);
    }
}

static inline bool is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    return !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        || *(const uint32_t *)(const void *)(base + field->quantifier_offset) == field->id;
}

/* Whether there are unknown fields in the message or in any that it holds. */
static inline bool has_unknown(const ProtobufCMessage *message)
{
    const char *base = (const char *)message;
    if (message->n_unknown_fields > 0)
        return true;
    for (unsigned f = 0; f < message->descriptor->n_fields; f++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[f];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || !is_set(message, field))
            continue;
        const ProtobufCMessage *one = NULL, *const *list = &one;
        size_t n = 1;
        memcpy(&one, base + field->offset, sizeof one);
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            memcpy(&list, base + field->offset, sizeof list);
            memcpy(&n, base + field->quantifier_offset, sizeof n);
        }
        for (size_t i = 0; i < n; i++)
            if (list[i] && has_unknown(list[i]))
                return true;
    }
    return false;
}

/* The members of a oneof share their place: whichever is named sets the pointer. */
static inline int write_sample(struct wire_writer *w, const struct sample *s)
{
    void *m = (void *)(uintptr_t)s->message;
    int what = s->what;
    switch (s->envelope) {
    case REQUEST:
        return wire_write(w, &M(Request, request, .id = 7, .what_case = (Wire__Request__WhatCase)what, .hello = m).base);
    case REPLY:
        return wire_write(w, &M(Reply, reply, .id = 7, .what_case = (Wire__Reply__WhatCase)what, .welcome = m).base);
    case UPWARD:
        return wire_write(w, &M(Upward, upward, .session = 5, .lane_epoch = 2, .what_case = (Wire__Upward__WhatCase)what,
                                .hello = m).base);
    case DOWNWARD:
        return wire_write(w, &M(Downward, downward, .epoch = 3, .what_case = (Wire__Downward__WhatCase)what, .welcome = m).base);
    case LANE:
        return wire_write(w, &M(Lane, lane, .session = 5, .lane_epoch = 2, .sequence = 9,
                                .what_case = (Wire__Lane__WhatCase)what, .open = m).base);
    case RESULT:
        return wire_write(w, &M(Result, result, .what_case = (Wire__Result__WhatCase)what, .report = m).base);
    case QUERY:
        return wire_write(w, &M(Query, query, .id = 7, .what_case = (Wire__Query__WhatCase)what, .hello = m).base);
    default:
        return wire_write(w, &M(Answer, answer, .id = 7, .what_case = (Wire__Answer__WhatCase)what, .welcome = m).base);
    }
}

#endif
