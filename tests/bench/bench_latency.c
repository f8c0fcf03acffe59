/* One task at a time on an idle system: from the moment it is handed to the library until its recorded result is here.
 *   bench_latency [TASKS]      of the handler `bench`, at TARMAC_VENTILATOR; prints p50, p99 and the longest in microseconds */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/options.h"
#include "tarmac/tarmac.h"

static void die(const char *what)
{
    fprintf(stderr, "bench_latency: %s\n", what);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double one(tarmac_batch *batch, tarmac_failure *failure)
{
    static const char payload[64] = "0123456789";
    struct tarmac_result result;
    mono_t began = mono_now();
    if (tarmac_add(batch, payload, sizeof payload, failure) != TARMAC_OK || tarmac_flush(batch, failure) != TARMAC_OK
        || tarmac_next(batch, &result, failure) != 1 || result.verdict != TARMAC_V_OK)
        die(failure->sentence[0] != '\0' ? failure->sentence : "a task has failed");
    return (double)mono_since(mono_now(), began) / (double)NS_PER_US;
}

int main(int argc, char **argv)
{
    uint64_t n = 1000;
    struct why why;
    if (argc > 1 && parse_u64(argv[1], 10, 10000000, &n, &why) < 0)
        die(why.text);
    double *took = calloc(n, sizeof *took);
    tarmac_failure failure = {0};
    tarmac_client *client = tarmac_connect(tarmac_background(), NULL, &failure);
    struct tarmac_options options = TARMAC_OPTIONS;
    options.handler = "bench";
    tarmac_batch *batch = client ? tarmac_submit(tarmac_background(), client, &options, &failure) : NULL;
    if (!took || !batch)
        die(failure.sentence);
    for (int i = 0; i < 20; i++)
        one(batch, &failure);
    for (uint64_t i = 0; i < n; i++)
        took[i] = one(batch, &failure);
    if (tarmac_seal(batch, &failure) != TARMAC_OK)
        die(failure.sentence);
    tarmac_batch_release(&batch);
    tarmac_disconnect(&client);
    qsort(took, n, sizeof *took, compare);
    printf("%.0f %.0f %.0f\n", took[n / 2], took[n * 99 / 100], took[n - 1]);
    free(took);
    return 0;
}
