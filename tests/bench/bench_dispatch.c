#include "tests/support/dispatch.h"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    struct dispatch_case c = {.times=(enum dispatch_times)atoi(argv[1]), .mix=(enum dispatch_mix)atoi(argv[2]), .batches=(enum dispatch_batches)atoi(argv[3]), .workers=(uint32_t)atoi(argv[4]), .slots=4, .tasks=(uint64_t)atol(argv[5]),
      .mean=(int64_t)(atof(argv[6])*1e6), .round_trip=(int64_t)(atof(argv[7])*1e6), .message=argc>8?atol(argv[8]):0, .seed=1};
    struct dispatch_figures f;
    dispatch_run(&c, &f);
    printf("complete=%d makespan=%.1fms ideal=%.1fms over=%.3f messages/task=%.3f recalls=%lu looked/task=%.1f turns=%lu ledger=%.0f ns/task bytes/worker=%.0f\n", f.complete, (double)f.makespan/1e6, (double)f.ideal/1e6, (double)f.makespan/(double)f.ideal, (double)f.messages/(double)c.tasks, f.recalls, (double)f.looked/(double)c.tasks, f.turns, f.ledger_ns, f.worker_bytes);
}
