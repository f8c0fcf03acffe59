/* The plugin of the benchmarks: answers with its payload. With an argument, a time in microseconds, it first takes so long. */
#include <stdlib.h>

#include "tarmac/tarmac.h"

static int open_it(const char *argument, void **state)
{
    static int64_t pause;
    pause = (int64_t)(strtod(argument, NULL) * (double)TARMAC_US);
    *state = &pause;
    return 0;
}

static int run(void *state, tarmac_task *task)
{
    const int64_t *pause = state;
    size_t len;
    const void *payload = tarmac_task_payload(task, &len);
    if (*pause > 0 && tarmac_sleep(tarmac_task_context(task), *pause) != TARMAC_OK)
        return 1;
    return tarmac_task_output(task, payload, len) == TARMAC_OK ? 0 : 1;
}

static const struct tarmac_plugin plugin = {TARMAC_PLUGIN, .name = "bench", .open = open_it, .run = run};

const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
