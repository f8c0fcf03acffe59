/* For test_plugin: made for a later version of the interface than there is. */
#include "tarmac/tarmac.h"

static int run(void *state, tarmac_task *task)
{
    (void)state;
    (void)task;
    return 0;
}

static const struct tarmac_plugin plugin = {.abi_major = TARMAC_ABI_MAJOR + 1, .size = sizeof plugin, .run = run};

const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
