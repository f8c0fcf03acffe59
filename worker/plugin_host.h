/* The process that a plugin is loaded in: to its keeper it is a persistent handler, which speaks protobuf.
 *
 * It is this same program, executed anew: a plugin is never loaded into a worker. It has the functions of tarmac.h for the plugin,
 * so programs that can be asked for it are linked with --dynamic-list=tarmac/plugin.list. */
#ifndef WORKER_PLUGIN_HOST_H
#define WORKER_PLUGIN_HOST_H

#include <stdbool.h>

#include "common/why.h"

/* The words it is started with: PLUGIN_HOST, the path of the shared object, its argument; without the third it only tries to load it. */
#define PLUGIN_HOST "tarmac-plugin"

/* First thing in a main, like keeper_is_asked_for. plugin_host_main serves until the end of its standard input, and returns the exit code. */
bool plugin_host_is_asked_for(int argc, char **argv);
int plugin_host_main(int argc, char **argv);

/* Loads it in a process made for that, once, without its `open`. 0; -1 and why: it can't be loaded, or not within some seconds. Blocks. */
int plugin_host_try(const char *path, struct why *why);

#endif
