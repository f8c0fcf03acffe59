/* A cancelled tree: one request starts two batches, each under a context of its own; when the request is cancelled,
 * both are, on whatever machines they run; the one that was started apart goes on. Values come along.
 *
 *     cc cancelled_tree.c $(pkg-config --cflags --libs libtarmac) -o cancelled_tree && ./cancelled_tree
 *
 * It needs a ventilator, a sink, and workers started with --allow-commands. */
#include <stdio.h>
#include <string.h>

#include <tarmac/tarmac.h>

static tarmac_batch *start(tarmac_context *context, tarmac_client *client, const char *seconds)
{
    static const char *const command[] = {"sh", "-c", "echo $TARMAC_VALUE_USER; exec sleep $1", "sh", "{}", NULL};
    struct tarmac_options options = TARMAC_OPTIONS;
    tarmac_failure failure;
    options.command = command;
    tarmac_batch *batch = tarmac_submit(context, client, &options, &failure);
    if (!batch || tarmac_add(batch, seconds, strlen(seconds), &failure) != TARMAC_OK || tarmac_seal(batch, &failure) != TARMAC_OK)
        fprintf(stderr, "%s\n", failure.sentence);
    return batch;
}

/* What came of it, asked by somebody whose context lives. */
static void tell(tarmac_client *client, const char *name, const char *id)
{
    struct tarmac_result result;
    tarmac_failure failure;
    tarmac_context *context = tarmac_with_timeout(tarmac_background(), 30 * TARMAC_S);
    tarmac_batch *batch = tarmac_open(context, client, id, &failure);
    if (batch && tarmac_next(batch, &result, &failure) == 1)
        printf("%s: %s, for %.*s", name, tarmac_verdict_name(result.verdict), (int)result.output_len, (const char *)result.output);
    else
        printf("%s: %s\n", name, failure.sentence);
    tarmac_batch_release(&batch);
    tarmac_release(&context);
}

int main(void)
{
    tarmac_failure failure;
    tarmac_client *client = tarmac_connect(tarmac_background(), NULL, &failure);
    if (!client) {
        fprintf(stderr, "%s\n", failure.sentence);
        return 1;
    }
    tarmac_context *user = tarmac_with_value(tarmac_background(), "user", "ada");
    tarmac_context *request = tarmac_with_cancel(user), *left = tarmac_with_cancel(request);
    tarmac_context *right = tarmac_with_timeout(request, 3600 * TARMAC_S), *apart = tarmac_without_cancel(request);
    tarmac_batch *batches[] = {start(left, client, "3600"), start(right, client, "3600"), start(apart, client, "2")};
    const char *const names[] = {"left", "right", "apart"};
    char ids[3][32];

    tarmac_sleep(request, TARMAC_S);
    tarmac_cancel(request, "the user closed the page");
    for (size_t i = 0; i < 3; i++) {
        snprintf(ids[i], sizeof ids[i], "%s", batches[i] ? tarmac_batch_id(batches[i]) : "none");
        tarmac_batch_release(&batches[i]);
    }
    for (size_t i = 0; i < 3; i++)
        tell(client, names[i], ids[i]);
    tarmac_release(&apart);
    tarmac_release(&right);
    tarmac_release(&left);
    tarmac_release(&request);
    tarmac_release(&user);
    tarmac_disconnect(&client);
    return 0;
}
