/* What a sink is told on its command line and in its environment. */
#ifndef SINK_CONFIG_H
#define SINK_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/why.h"

#define ENDPOINT_SIZE 512

struct config {
    const char *ventilator_text, *results_text, *query_text;     /* as given */
    char ventilator[ENDPOINT_SIZE], results[ENDPOINT_SIZE], query[ENDPOINT_SIZE];
    const char *data, *advertise, *keys, *health_file, *trace_file;
    int log_format, log_level;
    bool insecure;
    int64_t leave_with;              /* a descriptor: leave at once when its other end is closed; -1: none */
};

enum config_result { CONFIG_RUN, CONFIG_DONE, CONFIG_BAD };

/* CONFIG_DONE: help, version or a page was printed. CONFIG_BAD: why. */
enum config_result config_read(struct config *ret, int argc, char **argv, struct why *why);

#endif
