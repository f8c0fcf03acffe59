/* The daemon: `ventilator serve`. */
#ifndef VENTILATOR_SERVE_H
#define VENTILATOR_SERVE_H

#include "common/options.h"

extern const struct command_spec serve_command;

/* argv[0] is the command's name. Returns the exit code of docs/guide.md (common/bug.h). Blocks until it is stopped. */
int serve_main(int argc, char **argv);

#endif
