/* `ventilator doctor`: one line for each thing that was looked at. cli_doctor.c is the command, cli_doctor_disk.c
 * looks at the folder of a ventilator or a sink, cli_doctor_reach.c at what runs, cli_doctor_ports.c
 * at the names and ports between, cli_doctor_keys.c at folders of keys. */
#ifndef VENTILATOR_CLI_DOCTOR_H
#define VENTILATOR_CLI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct doctor {
    const char *data;                    /* NULL: what runs */
    bool quick, for_worker;
    const char *health_file;
    const char *ventilator, *keys;       /* as given; keys NULL: none */
    char client_keys[4096];              /* what of them is a client's, and asks; empty: none */
    char endpoint[256];
    int64_t connect_timeout;
    unsigned warnings, failures;
};

/* Prints "ok    sentence", "WARN  sentence" or "FAIL  sentence", and counts it. */
enum finding { FINDING_OK, FINDING_WARN, FINDING_FAIL };
void doctor_say(struct doctor *self, enum finding finding, const char *format, ...) __attribute__((format(printf, 3, 4)));

int doctor_look_at_disk(struct doctor *self);    /* the exit code */
int doctor_reach(struct doctor *self);
bool doctor_look_at_keys(struct doctor *self);    /* false: something is wrong with them */

/* What a worker on this host would need. All of these say what they find, and block for some seconds when nobody answers. */
struct doctor_ports {
    unsigned workers, lanes_from, lanes_to;      /* 0: none */
    unsigned used[256];                  /* lanes of workers that are there: they work, and have no place for a second peer */
    size_t n_used;
};
bool doctor_look_at_name(struct doctor *self, const char *endpoint);     /* false: it can't be resolved */
void doctor_look_at_ports(struct doctor *self, const char *endpoint, const struct doctor_ports *ports);
void doctor_look_at_results_port(struct doctor *self, const char *const *hosts, size_t n, unsigned port);
void doctor_look_at_limits(struct doctor *self);

#endif
