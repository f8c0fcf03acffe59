/* What a task costs in the codec: frames of 1,000 tasks of 64 bytes, packed and unpacked (with all
 * checks), with columns of one entry and of one for each task; and small heads, which are all cost. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/why.h"
#include "tests/unit/wire_samples.h"

#define COUNT 1000u
#define ROUNDS 20000u

static uint32_t ones[COUNT], sixties[COUNT];
static uint64_t micros[COUNT];
static Wire__Verdict verdicts[COUNT];
static Wire__Reason reasons[COUNT];
static int32_t codes[COUNT];

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void must(bool done, const char *what)
{
    if (done)
        return;
    fprintf(stderr, "bench_wire: %s\n", what);
    exit(1);
}

static void measure(const char *name, struct wire_arena *arena, const struct sample *s, unsigned tasks)
{
    struct wire_writer w = {0};
    struct why why = {""};
    double start = now_ns();
    for (unsigned i = 0; i < ROUNDS; i++)
        must(write_sample(&w, s) == 0, "no memory");
    double written = now_ns();
    for (unsigned i = 0; i < ROUNDS; i++)
        must(read_as(s->envelope, arena, w.bytes, w.len, s->body_len, &why) != NULL, why.text);
    double read = now_ns();
    double pack = (written - start) / ROUNDS, unpack = (read - written) / ROUNDS;
    printf("wire %-28s head %6zu bytes  pack %8.1f ns  unpack %8.1f ns  a task %7.3f + %7.3f ns\n", name, w.len, pack, unpack,
           pack / tasks, unpack / tasks);
    wire_writer_release(&w);
}

static void measure_frames(struct wire_arena *arena)
{
    Wire__Chunk chunk = M(Chunk, chunk, .batch = ID16, .tasks = &M(Tasks, tasks, .count = COUNT, MANY(lengths, uint32_t, 64)));
    Wire__Chunk mixed = M(Chunk, chunk, .batch = ID16,
                          .tasks = &M(Tasks, tasks, .count = COUNT, .n_lengths = COUNT, .lengths = sixties));
    Wire__Report report = M(Report, report, .fence = &FENCE(0, COUNT), .session = 7, .worker = TEXT("w1"),
        MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK), MANY(output_lengths, uint32_t, 64), MANY(flags, uint32_t, 8),
        MANY(queued_us, uint64_t, 1000), MANY(run_us, uint64_t, 10), MANY(slots, uint32_t, 1));
    Wire__Report columns = M(Report, report, .fence = &FENCE(0, COUNT), .session = 7, .worker = TEXT("w1"),
        .n_verdicts = COUNT, .verdicts = verdicts, .n_reasons = COUNT, .reasons = reasons, .n_codes = COUNT, .codes = codes,
        .n_output_lengths = COUNT, .output_lengths = sixties, .n_flags = COUNT, .flags = ones, .n_queued_us = COUNT,
        .queued_us = micros, .n_run_us = COUNT, .run_us = micros, .n_slots = COUNT, .slots = ones);
    size_t body = wire_column_sum(sixties, COUNT, COUNT);
    measure("chunk, one length", arena, &(struct sample){REQUEST, WIRE__REQUEST__WHAT_CHUNK, &chunk, 64 * COUNT, NULL}, COUNT);
    measure("chunk, 1,000 lengths", arena, &(struct sample){REQUEST, WIRE__REQUEST__WHAT_CHUNK, &mixed, body, NULL}, COUNT);
    measure("report, columns of one", arena, &(struct sample){RESULT, WIRE__RESULT__WHAT_REPORT, &report, 64 * COUNT, NULL}, COUNT);
    measure("report, columns of 1,000", arena, &(struct sample){RESULT, WIRE__RESULT__WHAT_REPORT, &columns, body, NULL}, COUNT);
}

static void measure_small(struct wire_arena *arena)
{
    Wire__Assign assign = M(Assign, assign, .batch = ID16, .tasks = &M(Tasks, tasks, .first = 5, .count = 1, MANY(lengths, uint32_t, 64)),
                            .epoch = 3, .attempt = 2, .tries_left = 1, .waited_us = 900);
    Wire__Report report = M(Report, report, .fence = &FENCE(5, 1), .session = 7, .worker = TEXT("w1"),
        MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK), MANY(output_lengths, uint32_t, 64), MANY(run_us, uint64_t, 10));
    Wire__Finished finished = M(Finished, finished, MANY(fences, Wire__Fence *, &FENCE(5, 1)), .run_us = 10);
    Wire__Recorded recorded = M(Recorded, recorded, MANY(results, Wire__RecordedResult *,
        &M(RecordedResult, recorded_result, .fence = &FENCE(5, 1), .session = 7, .all_fresh = 1,
           MANY(verdicts, Wire__Verdict, WIRE__VERDICT__OK))));
    measure("assign of one task", arena, &(struct sample){LANE, WIRE__LANE__WHAT_ASSIGN, &assign, 64, NULL}, 1);
    measure("finished of one task", arena, &(struct sample){UPWARD, WIRE__UPWARD__WHAT_FINISHED, &finished, 0, NULL}, 1);
    measure("report of one task", arena, &(struct sample){RESULT, WIRE__RESULT__WHAT_REPORT, &report, 64, NULL}, 1);
    measure("recorded of one task", arena, &(struct sample){UPWARD, WIRE__UPWARD__WHAT_RECORDED, &recorded, 0, NULL}, 1);
}

int main(void)
{
    for (unsigned i = 0; i < COUNT; i++) {
        ones[i] = 1;
        sixties[i] = 32 + i % 64;
        micros[i] = 1000 + i;
        verdicts[i] = WIRE__VERDICT__OK;
    }
    struct wire_arena *arena = wire_arena_new();
    must(arena != NULL, "no memory");
    measure_frames(arena);
    measure_small(arena);
    wire_arena_destroy(&arena);
    return 0;
}
