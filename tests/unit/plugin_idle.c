/* For test_plugin: has nothing to run. */
#include "tarmac/tarmac.h"

static const struct tarmac_plugin plugin = {TARMAC_PLUGIN, .name = "idle"};

const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
