/* Many workers in one process, to see what they cost a ventilator and a sink: the real agent and the real sockets of each, the whole
 * protocol; only the slots are simulated. A task's output is its payload, and it takes no time, or so many microseconds.
 *
 * usage: bench_crowd VENTILATOR WORKERS [SLOTS [MICROSECONDS]] [--keys DIR]
 *
 * Prints a ready line when the lanes of all are open. SIGTERM drains all of them; a second one leaves at once. At the end a line with
 * sums. Exit code 1: results were left unreleased. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/log.h"
#include "common/options.h"
#include "worker/link.h"

#define MEMBERS_OF_A_NET 250u                /* each has up to seven sockets, with those that watch others */
#define SOCKETS_OF_A_MEMBER 7u
#define TASK_NS 200u                         /* what a task without a time is said to take */
#define CAUGHT_UP (500 * NS_PER_MS)

struct slot {
    TAILQ_ENTRY(slot) link;                  /* in crowd->over */
    struct member *member;
    uint32_t number, count, n_lengths;
    bool running, stopped, of_many;
    mono_t began;
    struct slice payload;
    uint32_t *lengths;                       /* one for each, or one for all */
    size_t room;
    struct loop_timer timer;
};

struct member {
    TAILQ_ENTRY(member) link;                /* in crowd->woken */
    struct crowd *crowd;
    struct worker_link *worker;
    struct slot *slots;
    struct loop_timer tick;
    bool woken, ready, left;
};

struct crowd {
    struct loop *loop;
    struct net **nets;
    size_t n_nets;
    struct member *members;
    uint32_t n, slots, n_ready, n_left;
    int64_t task_ns;
    TAILQ_HEAD(, slot) over;
    TAILQ_HEAD(, member) woken;
    struct loop_hook hook;
    struct agent_part *parts;                /* of one end */
    uint64_t unreleased, ended, bundles;
    bool draining;
};

/* ---- slots ---- */

static void wake(void *arg)
{
    struct member *m = arg;
    if (m->woken)
        return;
    m->woken = true;
    TAILQ_INSERT_TAIL(&m->crowd->woken, m, link);
}

static void over(void *arg)
{
    struct slot *slot = arg;
    TAILQ_INSERT_TAIL(&slot->member->crowd->over, slot, link);
}

static uint32_t length_of(const struct slot *slot, uint32_t i)
{
    return slot->n_lengths == 0 ? 0 : slot->lengths[slot->n_lengths > 1 ? i : 0];
}

static void keep_lengths(struct slot *slot, const struct agent_run *run)
{
    slot->n_lengths = (uint32_t)run->n_lengths;
    if (slot->room < run->n_lengths) {
        free(slot->lengths);
        slot->lengths = calloc(slot->room = run->n_lengths, sizeof *slot->lengths);
        BUG_IF(!slot->lengths);
    }
    if (run->n_lengths > 0)
        memcpy(slot->lengths, run->lengths, run->n_lengths * sizeof *run->lengths);
}

static void on_run(void *arg, const struct agent_run *run)
{
    struct member *m = arg;
    struct crowd *crowd = m->crowd;
    struct slot *slot = &m->slots[run->slot];
    slot->count = run->count;
    slot->of_many = run->count > 1;
    slot->running = true;
    slot->stopped = false;
    slot->began = loop_now(crowd->loop);
    slot->payload = slice_keep(run->payload);
    keep_lengths(slot, run);
    if (crowd->task_ns == 0 || loop_timer_set(crowd->loop, &slot->timer, mono_add(slot->began, crowd->task_ns * run->count)) < 0)
        over(slot);
}

static void on_stop(void *arg, uint32_t number, int64_t grace)
{
    struct member *m = arg;
    struct slot *slot = &m->slots[number];
    (void)grace;
    if (!slot->running || slot->timer.place == 0)
        return;
    slot->stopped = true;
    loop_timer_clear(m->crowd->loop, &slot->timer);
    over(slot);
}

static int64_t time_of_task(const struct crowd *crowd) { return crowd->task_ns > 0 ? crowd->task_ns : TASK_NS; }

/* What takes no time has begun as a whole. */
static void on_split(void *arg, uint32_t number, bool keep_first, struct agent_split *ret)
{
    struct member *m = arg;
    struct crowd *crowd = m->crowd;
    struct slot *slot = &m->slots[number];
    int64_t each = time_of_task(crowd);
    (void)keep_first;
    if (slot->timer.place != 0) {
        uint32_t begun = (uint32_t)(mono_since(loop_now(crowd->loop), slot->began) / each) + 1;
        slot->count = begun < slot->count ? begun : slot->count;
        ret->begun_at = mono_add(slot->began, each * (slot->count - 1));
        loop_timer_set(crowd->loop, &slot->timer, mono_add(slot->began, each * slot->count));
    }
    size_t len = 0;
    for (uint32_t i = 0; i + 1 < slot->count; i++) {
        crowd->parts[i] = (struct agent_part){.run_ns = (uint32_t)each, .output_len = length_of(slot, i)};
        len += length_of(slot, i);
    }
    ret->begun = slot->count;
    ret->parts = crowd->parts;
    ret->n_parts = slot->count - 1;
    ret->part_outputs = slice_cut(slot->payload, 0, len);
}

static void end_slot(struct slot *slot)
{
    struct member *m = slot->member;
    struct crowd *crowd = m->crowd;
    size_t before = 0;
    for (uint32_t i = 0; i + 1 < slot->count; i++)
        before += length_of(slot, i);
    size_t last = slot->of_many ? length_of(slot, slot->count - 1) : slot->payload.len;
    const struct agent_end end = {
        .how = slot->stopped ? AGENT_SIGNALLED : AGENT_EXITED, .code = slot->stopped ? SIGTERM : 0, .term_sent = slot->stopped,
        .run_ns = time_of_task(crowd) * slot->count, .output = slice_cut(slot->payload, before, last),
    };
    slot->running = false;
    crowd->ended += slot->count;
    crowd->bundles++;
    agent_ended(worker_link_agent(m->worker), loop_now(crowd->loop), slot->number, &end);     /* which may ask what has become of it */
    slice_drop(&slot->payload);
    wake(m);
}

static void on_leave(void *arg, uint64_t unreleased)
{
    struct member *m = arg;
    m->left = true;
    m->crowd->unreleased += unreleased;
    if (++m->crowd->n_left == m->crowd->n)
        loop_stop(m->crowd->loop);
}

/* ---- turns ---- */

static void look_ready(struct member *m)
{
    struct agent_counts counts;
    if (m->ready)
        return;
    agent_count(worker_link_agent(m->worker), loop_now(m->crowd->loop), &counts);
    if (!counts.lane_open)
        return;
    m->ready = true;
    if (++m->crowd->n_ready < m->crowd->n)
        return;
    printf("ready workers=%" PRIu32 " slots=%" PRIu32 "\n", m->crowd->n, m->crowd->slots);
    fflush(stdout);
}

/* What ends in this turn is seen by the ticks of this turn; what they start ends in the next one. */
static bool on_turn(void *arg)
{
    struct crowd *crowd = arg;
    struct slot *slot;
    struct member *m;
    bool caught_up = loop_stood_still(crowd->loop) < CAUGHT_UP;
    while ((slot = TAILQ_FIRST(&crowd->over)) != NULL) {
        TAILQ_REMOVE(&crowd->over, slot, link);
        end_slot(slot);
    }
    while ((m = TAILQ_FIRST(&crowd->woken)) != NULL) {
        TAILQ_REMOVE(&crowd->woken, m, link);
        m->woken = false;
        mono_t next = agent_tick(worker_link_agent(m->worker), loop_now(crowd->loop), caught_up);
        BUG_IF(loop_timer_set(crowd->loop, &m->tick, next) < 0);
        look_ready(m);
    }
    return !TAILQ_EMPTY(&crowd->over);
}

static void on_signal(void *arg, int number)
{
    struct crowd *crowd = arg;
    (void)number;
    for (uint32_t i = 0; i < crowd->n; i++) {
        struct member *m = &crowd->members[i];
        struct agent *agent = worker_link_agent(m->worker);
        if (crowd->draining)
            agent_leave_now(agent, loop_now(crowd->loop));
        else
            agent_drain(agent, loop_now(crowd->loop));
        wake(m);
    }
    crowd->draining = true;
}

/* ---- beginning and ending ---- */

static int join(struct crowd *crowd, uint32_t i, const struct link_places *places, struct why *why)
{
    static const char *const no_words[] = {NULL};
    static const struct agent_handler handlers[] = {{.name = "bench", .kind = AGENT_PLUGIN, .command = no_words, .bundles = true}};
    struct member *m = &crowd->members[i];
    char name[32];
    snprintf(name, sizeof name, "crowd-%d-%" PRIu32, (int)getpid(), i + 1);
    struct agent_config config = {.name = name, .program = "bench_crowd", .slots = crowd->slots, .handlers = handlers, .n_handlers = 1,
                                  .allow_commands = true, .max_payload = WIRE_PAYLOAD, .shutdown_timeout = 10 * NS_PER_S};
    while (config.session == 0)
        BUG_IF(getrandom(&config.session, sizeof config.session, 0) != (ssize_t)sizeof config.session);
    *m = (struct member){.crowd = crowd, .tick = {.fire = wake, .arg = m}, .slots = calloc(crowd->slots, sizeof *m->slots)};
    if (!m->slots)
        return why_set(why, "no memory for slots");
    for (uint32_t s = 0; s < crowd->slots; s++)
        m->slots[s] = (struct slot){.member = m, .number = s, .timer = {.fire = over, .arg = &m->slots[s]}};
    const struct link_slots ports = {.arg = m, .run = on_run, .stop = on_stop, .split = on_split, .leave = on_leave, .woken = wake};
    m->worker = worker_link_new(crowd->loop, crowd->nets[i / MEMBERS_OF_A_NET], places, &config, &ports, why);
    if (!m->worker)
        return -1;
    wake(m);
    return 0;
}

static int open_nets(struct crowd *crowd, const char *keys, struct why *why)
{
    for (uint32_t at = 0; at < crowd->n; at += MEMBERS_OF_A_NET, crowd->n_nets++) {
        uint32_t members = crowd->n - at < MEMBERS_OF_A_NET ? crowd->n - at : MEMBERS_OF_A_NET;
        struct net_config config = {.max_sockets = (int)(members * SOCKETS_OF_A_MEMBER), .max_message = WIRE_MESSAGE};
        if (keys && !(config.keys = net_keys_read(keys, ROLE_WORKER, why)))
            return -1;
        if (!(crowd->nets[crowd->n_nets] = net_new(crowd->loop, &config, why)))
            return -1;
    }
    return 0;
}

static void leave(struct crowd *crowd)
{
    for (uint32_t i = 0; crowd->members && i < crowd->n; i++) {
        struct member *m = &crowd->members[i];
        if (!m->crowd)
            break;
        loop_timer_clear(crowd->loop, &m->tick);
        worker_link_destroy(&m->worker);
        for (uint32_t s = 0; m->slots && s < crowd->slots; s++) {
            loop_timer_clear(crowd->loop, &m->slots[s].timer);
            slice_drop(&m->slots[s].payload);
            free(m->slots[s].lengths);
        }
        free(m->slots);
    }
    for (size_t i = 0; i < crowd->n_nets; i++)
        net_destroy(&crowd->nets[i]);
    loop_remove_hook(crowd->loop, &crowd->hook);
    loop_destroy(&crowd->loop);
    free(crowd->members);
    free(crowd->nets);
    free(crowd->parts);
}

static int run(struct crowd *crowd, const char *ventilator, const char *keys, struct why *why)
{
    static const int signals[] = {SIGTERM, SIGINT};
    const struct link_places places = {.ventilator = ventilator, .sink = ""};
    if (!crowd->members || !crowd->nets || !crowd->parts || !crowd->loop)
        return why_set(why, "no memory to begin with");
    if (loop_signals(crowd->loop, signals, 2, on_signal, crowd) < 0 || open_nets(crowd, keys, why) < 0)
        return -1;
    loop_add_hook(crowd->loop, &crowd->hook);
    for (uint32_t i = 0; i < crowd->n; i++)
        if (join(crowd, i, &places, why) < 0)
            return -1;
    return loop_run(crowd->loop);
}

static void say_sums(const struct crowd *crowd)
{
    struct net_counters sum = {0};
    for (size_t i = 0; i < crowd->n_nets; i++) {
        sum.messages_in += net_counters(crowd->nets[i])->messages_in;
        sum.messages_out += net_counters(crowd->nets[i])->messages_out;
    }
    printf("left workers=%" PRIu32 " ended=%" PRIu64 " bundles=%" PRIu64 " messages_in=%" PRIu64 " messages_out=%" PRIu64 " unreleased=%" PRIu64 "\n",
           crowd->n_left, crowd->ended, crowd->bundles, sum.messages_in, sum.messages_out, crowd->unreleased);
}

static uint64_t number(const char *text, uint64_t most)
{
    uint64_t value;
    struct why why;
    if (parse_u64(text, 0, most, &value, &why) == 0)
        return value;
    fprintf(stderr, "bench_crowd: %s\n", why.text);
    exit(2);
}

int main(int argc, char **argv)
{
    struct why why = {""};
    const char *keys = argc > 2 && strcmp(argv[argc - 2], "--keys") == 0 ? argv[argc - 1] : NULL;
    argc -= keys ? 2 : 0;
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: bench_crowd VENTILATOR WORKERS [SLOTS [MICROSECONDS]] [--keys DIR]\n");
        return 2;
    }
    struct crowd crowd = {.n = (uint32_t)number(argv[2], 10000), .slots = argc > 3 ? (uint32_t)number(argv[3], 64) : 4,
                          .task_ns = argc > 4 ? (int64_t)number(argv[4], 1000000000) * NS_PER_US : 0};
    crowd.loop = loop_new();
    crowd.members = calloc(crowd.n + 1, sizeof *crowd.members);
    crowd.nets = calloc(crowd.n / MEMBERS_OF_A_NET + 1, sizeof(struct net *));
    crowd.parts = calloc(WIRE_BLOCK, sizeof *crowd.parts);
    crowd.hook = (struct loop_hook){.turn = on_turn, .arg = &crowd};
    TAILQ_INIT(&crowd.over);
    TAILQ_INIT(&crowd.woken);
    signal(SIGPIPE, SIG_IGN);
    log_setup("crowd", LOG_TEXT, LOG_ERROR);
    int r = run(&crowd, argv[1], keys, &why);
    if (r < 0)
        fprintf(stderr, "bench_crowd: %s\n", why.text[0] != '\0' ? why.text : strerror(-r));
    say_sums(&crowd);
    leave(&crowd);
    return r < 0 ? 2 : crowd.unreleased > 0;
}
