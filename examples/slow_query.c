/* A query that takes too long is cut off after two seconds, with the right error, and nothing of it goes on running.
 * The query is real: SQLite counts to ten thousand million, in the handler's process, on some worker.
 *
 *     cc slow_query.c $(pkg-config --cflags --libs libtarmac) -o slow_query && ./slow_query 2000
 *
 * It needs a worker with --handler query='sqlite3 :memory: {}'. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tarmac/tarmac.h>

#define QUERY "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s) SELECT count(*) FROM n;"

/* What a caller of a database does: it asks, and waits no longer than its context lives. */
static int query(tarmac_context *context, tarmac_client *client, const char *sql, char *out, size_t out_size, tarmac_failure *failure)
{
    struct tarmac_options options = TARMAC_OPTIONS;
    struct tarmac_result result;
    options.handler = "query";
    tarmac_batch *batch = tarmac_submit(context, client, &options, failure);
    if (!batch)
        return failure->code;
    int code = tarmac_add(batch, sql, strlen(sql), failure);
    if (code == TARMAC_OK)
        code = tarmac_seal(batch, failure);
    if (code == TARMAC_OK && (code = tarmac_next(batch, &result, failure)) == 1) {
        snprintf(out, out_size, "%.*s", (int)result.output_len, (const char *)result.output);
        code = result.verdict == TARMAC_V_OK ? TARMAC_OK : result.verdict == TARMAC_V_DEADLINE_EXCEEDED ? TARMAC_DEADLINE_EXCEEDED : TARMAC_REFUSED;
    }
    tarmac_batch_release(&batch);
    return code;
}

int main(int argc, char **argv)
{
    tarmac_failure failure = {.sentence = ""};
    char sql[200], out[64] = "";
    int64_t ms = argc > 1 ? strtol(argv[1], NULL, 10) : 2000;
    snprintf(sql, sizeof sql, QUERY, argc > 2 ? argv[2] : "10000000000");
    tarmac_client *client = tarmac_connect(tarmac_background(), NULL, &failure);
    if (!client) {
        fprintf(stderr, "%s\n", failure.sentence);
        return 1;
    }
    tarmac_context *context = tarmac_with_timeout(tarmac_background(), ms * TARMAC_MS);
    int code = query(context, client, sql, out, sizeof out, &failure);
    printf("%s%s\n", code == TARMAC_OK ? "rows: " : "", code == TARMAC_OK ? strtok(out, "\n") : tarmac_code_name(code));
    tarmac_release(&context);
    tarmac_disconnect(&client);
    return code == TARMAC_OK || code == TARMAC_DEADLINE_EXCEEDED ? 0 : 1;
}
