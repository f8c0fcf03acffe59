/* For test_plugin: ends the process while it is loaded. */
#include <stdio.h>
#include <unistd.h>

#include "tarmac/tarmac.h"

__attribute__((constructor)) static void begin(void)
{
    printf("good bye\n");
    _exit(4);
}

const struct tarmac_plugin *tarmac_plugin(void) { return NULL; }
