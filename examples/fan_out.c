/* Fan-out and fan-in: numbers go out to workers, their squares come back, and the sum is printed.
 *
 *     cc fan_out.c $(pkg-config --cflags --libs libtarmac) -o fan_out && ./fan_out 1 2 3 4 5
 *
 * It needs a ventilator, a sink, and workers started with --allow-commands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tarmac/tarmac.h>

static int give_up(const char *what, const tarmac_failure *failure)
{
    fprintf(stderr, "%s: %s\n", what, failure->sentence);
    return 1;
}

static int fan_out(tarmac_batch *batch, int n, char **numbers, tarmac_failure *failure)
{
    for (int i = 0; i < n; i++)
        if (tarmac_add(batch, numbers[i], strlen(numbers[i]), failure) != TARMAC_OK)
            return -1;
    return tarmac_seal(batch, failure);
}

static int fan_in(tarmac_batch *batch, long *sum, tarmac_failure *failure)
{
    struct tarmac_result result;
    int code;
    while ((code = tarmac_next(batch, &result, failure)) == 1) {
        char text[32] = "";
        memcpy(text, result.output, result.output_len < sizeof text ? result.output_len : sizeof text - 1);
        printf("task %llu on %s: %s %s", (unsigned long long)result.index, result.worker, tarmac_verdict_name(result.verdict), text);
        *sum += strtol(text, NULL, 10);
    }
    return code;
}

int main(int argc, char **argv)
{
    static const char *const square[] = {"sh", "-c", "echo $(($1 * $1))", "sh", "{}", NULL};
    tarmac_failure failure;
    long sum = 0;
    int code = 1;
    tarmac_context *context = tarmac_with_timeout(tarmac_background(), 60 * TARMAC_S);
    struct tarmac_options options = TARMAC_OPTIONS;
    options.command = square;

    tarmac_client *client = tarmac_connect(context, NULL, &failure);
    tarmac_batch *batch = client ? tarmac_submit(context, client, &options, &failure) : NULL;
    if (!batch)
        code = give_up(client ? "submit" : "connect", &failure);
    else if (fan_out(batch, argc - 1, argv + 1, &failure) != TARMAC_OK || fan_in(batch, &sum, &failure) != TARMAC_OK)
        code = give_up(tarmac_batch_id(batch), &failure);
    else
        code = printf("sum %ld\n", sum) < 0;
    tarmac_batch_release(&batch);
    tarmac_disconnect(&client);
    tarmac_release(&context);
    return code;
}
