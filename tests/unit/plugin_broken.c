/* For test_plugin: needs a function that nobody has. */
#include "tarmac/tarmac.h"

const struct tarmac_plugin *no_such_function_anywhere(void);

const struct tarmac_plugin *tarmac_plugin(void) { return no_such_function_anywhere(); }
