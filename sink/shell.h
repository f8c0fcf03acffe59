/* The sink's process: sockets, store, signals and timers around the register and the streams. */
#ifndef SINK_SHELL_H
#define SINK_SHELL_H

int shell_main(int argc, char **argv);      /* the exit code */

#endif
