#include "tarmac/nested.h"

#include <string.h>

#include "common/options.h"

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

int nested_parent(const char *text, uint8_t id[WIRE_ID], Wire__Fence *ret)
{
    char copy[128], *rest = copy, *part[4];
    struct why ignored;
    uint64_t attempt;
    if (strlen(text) >= sizeof copy)
        return -1;
    memcpy(copy, text, strlen(text) + 1);
    for (size_t i = 0; i < 4; i++)
        if (!(part[i] = strsep(&rest, "/")))
            return -1;
    if (rest || strlen(part[0]) != 2 * WIRE_ID)
        return -1;
    wire__fence__init(ret);
    for (size_t i = 0; i < WIRE_ID; i++) {
        int high = hex_digit(part[0][2 * i]), low = hex_digit(part[0][2 * i + 1]);
        if (high < 0 || low < 0)
            return -1;
        id[i] = (uint8_t)(high << 4 | low);
    }
    if (parse_u64(part[1], 0, WIRE_TASKS, &ret->first, &ignored) < 0 || parse_u64(part[2], 1, UINT64_MAX, &ret->epoch, &ignored) < 0 ||
        parse_u64(part[3], 1, UINT32_MAX, &attempt, &ignored) < 0)
        return -1;
    ret->count = 1;
    ret->attempt = (uint32_t)attempt;
    ret->batch = wire_id_bytes(id);
    return 0;
}
