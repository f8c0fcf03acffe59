/* For test_plugin: a shared object that is no plugin. */
#include "tarmac/tarmac.h"

int something_else(void);
int something_else(void) { return tarmac_now().ns > 0; }
