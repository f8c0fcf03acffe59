/* /metrics, in Prometheus' text format. */
#include <stdio.h>
#include <stdlib.h>

#include "ventilator/http_private.h"

char *metrics_render(const struct http *http, size_t *ret_len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);
    if (out == NULL)
        return NULL;
    fprintf(out, "# HELP tarmac_workers Workers that are known.\n# TYPE tarmac_workers gauge\ntarmac_workers %u\n", http->tower->now.workers);
    fclose(out);
    return text;
}
