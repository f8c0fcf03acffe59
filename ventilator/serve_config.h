/* The options of `ventilator serve`. */
#ifndef VENTILATOR_SERVE_CONFIG_H
#define VENTILATOR_SERVE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/options.h"
#include "common/why.h"

/* Where lanes listen: a range of TCP ports, any free port, or ipc paths with this beginning. */
struct lane_range {
    unsigned from, to;                /* 0, 0: any free port */
    char prefix[96];                  /* "ipc:///…/lane-", or empty */
};

struct serve_config {
    const char *data, *listen, *workers_listen, *http, *keys, *remove_dir, *health_file;
    struct lane_range lanes;
    int64_t heartbeat, loss_grace, silence, shutdown_timeout;
    int64_t retain, keep_keys;        /* retain: 0: off */
    uint64_t max_losses, max_payload, result_credit;
    int log_format, log_level;
    bool insecure;
    const char *http_token, *audit_file;        /* NULL: none */
    struct string_list http_names;
    bool http_given;                  /* else a port that is taken is no error */
    int64_t http_tick, http_silence;
    int64_t leave_with;               /* descriptor whose end means "leave at once"; -1: none */
    char listen_endpoint[256], workers_endpoint[256];    /* canonical */
};

/* Checks what the parser can't: endpoints, addresses that are not loopback, what this version lacks. 0 or why_set. */
int serve_config_check(struct serve_config *config, struct why *why);

#endif
