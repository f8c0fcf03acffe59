/* What watching costs the ventilator's loop, with 500 workers of 64 slots: the event of the stream, made once a second
 * whatever the number of viewers; all stands, asked for by a viewer that begins; and /metrics. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ventilator/http_private.h"

#define WORKERS 500u
#define ROUNDS 200u

static double now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void add_workers(struct tower *tower)
{
    for (uint64_t i = 1; i <= WORKERS; i++) {
        struct tower_stand *stand = calloc(1, sizeof *stand);
        if (stand == NULL)
            exit(1);
        stand->number = i;
        stand->slots = 64;
        stand->state = "ready";
        stand->phases[SURVEY_RUNNING] = 64;
        snprintf(stand->name, sizeof stand->name, "worker-%03u", (unsigned)i);
        HASH_ADD(hh, tower->stands, number, sizeof stand->number, stand);
    }
}

static void dirty_all(struct tower *tower)
{
    for (struct tower_stand *s = tower->stands; s != NULL; s = s->hh.next)
        s->dirty = true;
}

static char *event_text(struct http *http)
{
    dirty_all(http->tower);
    json_t *event = stream_event(http);
    char *text = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(5));
    json_decref(event);
    return text;
}

static char *field_text(struct http *http)
{
    json_t *field = json_field(http);
    char *text = json_dumps(field, JSON_COMPACT);
    json_decref(field);
    return text;
}

static char *metrics_text(struct http *http)
{
    size_t len;
    return metrics_render(http, &len);
}

static void measure(const char *name, struct http *http, char *(*make)(struct http *http))
{
    size_t bytes = 0;
    double start = now_us();
    for (unsigned i = 0; i < ROUNDS; i++) {
        char *text = make(http);
        if (text == NULL)
            exit(1);
        bytes = strlen(text);
        free(text);
    }
    printf("%-10s %8.0f us %8zu bytes\n", name, (now_us() - start) / ROUNDS, bytes);
}

int main(void)
{
    struct tower *tower = tower_new((mono_t){NS_PER_S});
    struct http http = {.tower = tower, .config = {.program = "bench"}};
    if (tower == NULL)
        return 1;
    add_workers(tower);
    measure("tick", &http, event_text);
    measure("field", &http, field_text);
    measure("metrics", &http, metrics_text);
    tower_destroy(&tower);
    return 0;
}
