/* One JSON object a line: `payload` or `payload_base64`, and if wanted `timeout` and `values`. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "tarmac/base64.h"
#include "tarmac/items_private.h"

void items_json_release(struct items *self)
{
    json_decref(self->object);
    self->object = NULL;
    free(self->decoded);
    self->decoded = NULL;
}

static int take_base64(struct items *self, const json_t *text, struct item *ret, struct why *why)
{
    size_t n = json_string_length(text);
    self->decoded = malloc(n / 4 * 3 + 1);
    if (!self->decoded)
        return why_set(why, "there is no memory for its payload");
    ssize_t len = base64_decode(json_string_value(text), n, self->decoded);
    if (len < 0)
        return why_set(why, "'payload_base64' is not base64 (RFC 4648, with padding)");
    ret->payload = (struct slice){.data = self->decoded, .len = (size_t)len};
    return 0;
}

static int take_payload(struct items *self, struct item *ret, struct why *why)
{
    const json_t *text = json_object_get(self->object, "payload");
    const json_t *encoded = json_object_get(self->object, "payload_base64");
    if (!text == !encoded)
        return why_set(why, "an object has either 'payload' or 'payload_base64'");
    if (!json_is_string(text ? text : encoded))
        return why_set(why, "'%s' must be a string", text ? "payload" : "payload_base64");
    if (encoded)
        return take_base64(self, encoded, ret, why);
    ret->payload = (struct slice){.data = (const uint8_t *)json_string_value(text), .len = json_string_length(text)};
    return 0;
}

static int take_timeout(struct items *self, struct item *ret, struct why *why)
{
    const json_t *timeout = json_object_get(self->object, "timeout");
    int64_t ns;
    if (!timeout)
        return 0;
    if (!json_is_string(timeout))
        return why_set(why, "'timeout' must be a string, such as \"30s\"");
    if (parse_duration(json_string_value(timeout), &ns, why) < 0)
        return why_set(why, "'timeout': %.200s", why->text);
    if (ns < NS_PER_US)
        return why_set(why, "'timeout' must be more than 0");
    ret->timeout_us = (uint64_t)(ns / NS_PER_US);
    return 0;
}

static int take_value(struct items *self, const char *key, const json_t *value, struct item *ret, size_t *sum, struct why *why)
{
    if (ret->n_values == WIRE_VALUES)
        return why_set(why, "'values' has more than %u entries", WIRE_VALUES);
    if (!wire_value_key_ok(key))
        return why_set(why, "'values': the key '%.64s' must be a letter or _ and then letters, digits and _.-, at most %u bytes",
                       key, WIRE_KEY);
    size_t len = json_string_length(value);
    if (!json_is_string(value) || len > WIRE_VALUE || strlen(json_string_value(value)) != len)
        return why_set(why, "'values': '%.64s' must be a string without NUL of at most %u bytes", key, WIRE_VALUE);
    *sum += strlen(key) + len;
    if (*sum > WIRE_VALUES_SUM)
        return why_set(why, "'values' has more than %u bytes", WIRE_VALUES_SUM);
    Wire__Value *v = &self->value[ret->n_values];
    *v = (Wire__Value)WIRE__VALUE__INIT;
    v->key = (char *)(uintptr_t)key;
    v->value = (char *)(uintptr_t)json_string_value(value);
    self->values[ret->n_values++] = v;
    return 0;
}

static int take_values(struct items *self, struct item *ret, struct why *why)
{
    json_t *values = json_object_get(self->object, "values"), *value;
    const char *key;
    size_t sum = 0;
    if (!values)
        return 0;
    if (!json_is_object(values))
        return why_set(why, "'values' must be an object of strings");
    ret->values = self->values;
    json_object_foreach(values, key, value) {
        if (take_value(self, key, value, ret, &sum, why) < 0)
            return -1;
    }
    return 0;
}

static int refuse_unknown(const struct items *self, struct why *why)
{
    static const char *const known[] = {"payload", "payload_base64", "timeout", "values"};
    const char *key;
    json_t *value;
    json_object_foreach(self->object, key, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found = found || strcmp(key, known[i]) == 0;
        if (!found)
            return why_set(why, "there is no key '%.64s'; the keys are payload, payload_base64, timeout and values", key);
    }
    return 0;
}

enum items_result items_json(struct items *self, const uint8_t *line, size_t len, struct item *ret, struct why *why)
{
    json_error_t error;
    items_json_release(self);
    self->object = json_loadb((const char *)line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!self->object) {
        why_set(why, "this is not a JSON object: %.160s (column %d)", error.text, error.column);
        return ITEMS_BAD;
    }
    if (!json_is_object(self->object)) {
        why_set(why, "this is JSON, but not an object such as {\"payload\":\"...\"}");
        return ITEMS_BAD;
    }
    if (refuse_unknown(self, why) < 0 || take_payload(self, ret, why) < 0 || take_timeout(self, ret, why) < 0 ||
        take_values(self, ret, why) < 0)
        return ITEMS_BAD;
    return ITEMS_ITEM;
}
