/* `ventilator doctor`: one line for each thing that was looked at. cli_doctor.c is the command, cli_doctor_disk.c
 * looks at the folder of a ventilator or a sink, cli_doctor_reach.c at what runs. */
#ifndef VENTILATOR_CLI_DOCTOR_H
#define VENTILATOR_CLI_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

struct doctor {
    const char *data;                    /* NULL: what runs */
    bool quick;
    const char *health_file;
    const char *ventilator;              /* as given */
    char endpoint[256];
    int64_t connect_timeout;
    unsigned warnings, failures;
};

/* Prints "ok    sentence", "WARN  sentence" or "FAIL  sentence", and counts it. */
enum finding { FINDING_OK, FINDING_WARN, FINDING_FAIL };
void doctor_say(struct doctor *self, enum finding finding, const char *format, ...) __attribute__((format(printf, 3, 4)));

int doctor_look_at_disk(struct doctor *self);    /* the exit code */
int doctor_reach(struct doctor *self);

#endif
