/* The plugin of the benchmarks: answers with its payload. With an argument, a time in microseconds, it first takes so long; with
 * the argument `payload` each task takes the time that it begins with. With `swallow` it answers with nothing, with `give` with
 * a mebibyte. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tarmac/tarmac.h"

#define GIFT ((size_t)1 << 20)

struct nap {
    int64_t pause;
    bool own;                      /* each task says how long */
    bool swallow;
    void *gift;
};

static int open_it(const char *argument, void **state)
{
    static struct nap nap;
    nap.swallow = strcmp(argument, "swallow") == 0;
    nap.gift = strcmp(argument, "give") == 0 ? calloc(1, GIFT) : NULL;
    nap.own = strcmp(argument, "payload") == 0;
    nap.pause = nap.own ? 0 : (int64_t)(strtod(argument, NULL) * (double)TARMAC_US);
    *state = &nap;
    return 0;
}

static int64_t time_in(const char *text, size_t len)
{
    int64_t us = 0;
    for (size_t i = 0; i < len && i < 12 && text[i] >= '0' && text[i] <= '9'; i++)
        us = us * 10 + (text[i] - '0');
    return us * TARMAC_US;
}

static int run(void *state, tarmac_task *task)
{
    const struct nap *nap = state;
    size_t len;
    const void *payload = tarmac_task_payload(task, &len);
    int64_t pause = nap->own ? time_in(payload, len) : nap->pause;
    if (pause > 0 && tarmac_sleep(tarmac_task_context(task), pause) != TARMAC_OK)
        return 1;
    if (nap->gift)
        return tarmac_task_output(task, nap->gift, GIFT) == TARMAC_OK ? 0 : 1;
    return nap->swallow || tarmac_task_output(task, payload, len) == TARMAC_OK ? 0 : 1;
}

static const struct tarmac_plugin plugin = {TARMAC_PLUGIN, .name = "bench", .open = open_it, .run = run};

const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
