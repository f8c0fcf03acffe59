/* The baselines: what libzmq and the system do when nothing else is asked of them.
 *   bench_bare pipe TASKS FRAME BYTES    PUSH -> PULL,PUSH -> PULL in three processes, FRAME tasks of BYTES in a message
 *   bench_bare spawn RUNS AT_ONCE        posix_spawn of /bin/true with two words, so many at a time (with one it looks whether that
 *                                        is --help, and reads the locale first: half as much again)
 *   bench_bare share TASKS US...         a process for each US that naps so long for each task, all from one counter
 *   bench_bare deal FILE PROCESSES       the same, where each line of FILE says how many microseconds its task takes
 *   bench_bare disk MIB GROUP FILE       so many pieces of 1 MiB at the end of FILE, synced after each GROUP of them
 *   bench_bare chain MESSAGES [FOLDER]   one at a time through four processes in a ring, PUSH -> PULL over TCP, as a task goes from
 *                                        client to ventilator, worker, sink and back; with FOLDER, those that stand for ventilator
 *                                        and sink write 4 KiB there and flush them before they pass it on
 * Each prints one number, tasks a second, or pieces; chain p50, p99 and the longest, in microseconds. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zmq.h>

#include "common/clock.h"
#include "common/options.h"

#define FRAMES_WAITING 1000
#define SHARERS 64
#define DEALT 100000
#define CHAIN 4                 /* processes */
#define CHAIN_BYTES 64
#define PAGE 4096
#define PAGES 256               /* of the file, which is there before anything is measured */

static void die(const char *what)
{
    fprintf(stderr, "bench_bare: %s\n", what);
    exit(1);
}

static void *open_socket(void *context, int type, bool listens, const char *endpoint)
{
    int most = FRAMES_WAITING, linger = -1;
    void *socket = zmq_socket(context, type);
    if (!socket || zmq_setsockopt(socket, ZMQ_SNDHWM, &most, sizeof most) < 0 || zmq_setsockopt(socket, ZMQ_RCVHWM, &most, sizeof most) < 0
        || zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger) < 0
        || (listens ? zmq_bind(socket, endpoint) : zmq_connect(socket, endpoint)) < 0)
        die(zmq_strerror(zmq_errno()));
    return socket;
}

/* Frames come in and go out as they are. */
static void relay(const char *from, const char *to, uint64_t frames)
{
    void *context = zmq_ctx_new(), *in = open_socket(context, ZMQ_PULL, false, from), *out = open_socket(context, ZMQ_PUSH, false, to);
    zmq_msg_t message;
    zmq_msg_init(&message);
    for (uint64_t i = 0; i < frames; i++)
        if (zmq_msg_recv(&message, in, 0) < 0 || zmq_msg_send(&message, out, 0) < 0)
            die("the relay fails");
    zmq_msg_close(&message);
    zmq_close(in);
    zmq_close(out);
    zmq_ctx_term(context);
    _exit(0);
}

static void produce(const char *to, uint64_t frames, size_t bytes)
{
    void *context = zmq_ctx_new(), *out = open_socket(context, ZMQ_PUSH, true, to);
    char *payload = calloc(1, bytes);
    if (!payload)
        die("no memory");
    for (uint64_t i = 0; i < frames; i++)
        if (zmq_send(out, payload, bytes, 0) < 0)
            die("the producer fails");
    free(payload);
    zmq_close(out);
    zmq_ctx_term(context);
    _exit(0);
}

static double pipeline(uint64_t tasks, uint64_t frame, uint64_t bytes)
{
    char folder[] = "/tmp/bench-bare-XXXXXX", first[64], second[64];
    uint64_t frames = tasks / frame;
    if (!mkdtemp(folder))
        die("no folder in /tmp");
    snprintf(first, sizeof first, "ipc://%s/1", folder);
    snprintf(second, sizeof second, "ipc://%s/2", folder);
    mono_t began = mono_now();
    /* Before this process has a context, which a fork would tear. */
    if (fork() == 0)
        produce(first, frames, (size_t)(frame * bytes));
    if (fork() == 0)
        relay(first, second, frames);
    void *context = zmq_ctx_new(), *in = open_socket(context, ZMQ_PULL, true, second);
    zmq_msg_t message;
    zmq_msg_init(&message);
    for (uint64_t i = 0; i < frames; i++)
        if (zmq_msg_recv(&message, in, 0) < 0)
            die("the consumer fails");
    double seconds = (double)mono_since(mono_now(), began) / (double)NS_PER_S;
    zmq_msg_close(&message);
    zmq_close(in);
    zmq_ctx_term(context);
    while (wait(NULL) > 0)
        ;
    unlink(first + strlen("ipc://"));
    unlink(second + strlen("ipc://"));
    rmdir(folder);
    return (double)(frames * frame) / seconds;
}

static double spawn_loop(uint64_t runs, uint64_t at_once)
{
    char number[24] = "";
    char *const command[] = {"/bin/true", number, number, NULL};
    uint64_t started = 0, ended = 0;
    pid_t pid;
    mono_t began = mono_now();
    while (ended < runs) {
        snprintf(number, sizeof number, "%llu", (unsigned long long)ended + 1);
        for (; started < runs && started - ended < at_once; started++)
            if (posix_spawn(&pid, command[0], NULL, NULL, command, environ) != 0)
                die("posix_spawn fails");
        if (waitpid(-1, NULL, 0) > 0)
            ended++;
    }
    return (double)runs / ((double)mono_since(mono_now(), began) / (double)NS_PER_S);
}

/* The time of a task is that of its process, or its own. */
struct naps {
    _Atomic uint64_t *next;
    uint64_t tasks;
    const uint64_t *of_task;       /* NULL: of the process */
};

static void nap_for_all(const struct naps *naps, uint64_t us)
{
    for (uint64_t i; (i = atomic_fetch_add(naps->next, 1)) < naps->tasks;) {
        mono_t until = mono_add(mono_now(), (int64_t)(naps->of_task ? naps->of_task[i] : us) * NS_PER_US);
        for (int64_t left; (left = mono_since(until, mono_now())) > 0;) {
            struct timespec wait = {.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
            ppoll(NULL, 0, &wait, NULL);
        }
    }
    _exit(0);
}

/* The best that can be done: nobody waits while there is a task. */
static double share(uint64_t tasks, const uint64_t *of_task, const uint64_t *us, int n)
{
    struct naps naps = {.tasks = tasks, .of_task = of_task};
    naps.next = mmap(NULL, sizeof *naps.next, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (naps.next == MAP_FAILED)
        die("no memory");
    mono_t began = mono_now();
    for (int i = 0; i < n; i++)
        if (fork() == 0)
            nap_for_all(&naps, us[i]);
    while (wait(NULL) > 0)
        ;
    return (double)tasks / ((double)mono_since(mono_now(), began) / (double)NS_PER_S);
}

static double deal(const char *path, int n)
{
    static uint64_t of_task[DEALT];
    const uint64_t us[SHARERS] = {0};
    uint64_t tasks = 0;
    unsigned long long time;
    FILE *file = fopen(path, "re");
    if (!file)
        die("the file of times can't be read");
    while (tasks < DEALT && fscanf(file, "%12llu%*[^\n]", &time) == 1)
        of_task[tasks++] = time;
    fclose(file);
    return share(tasks, of_task, us, n);
}

/* Past the page cache, which is faster, where the file system lets us. */
static double disk(const char *path, uint64_t pieces, uint64_t group)
{
    size_t size = (size_t)1 << 20;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (fd < 0)
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char *piece = aligned_alloc(4096, size);
    if (fd < 0 || !piece)
        die("the file can't be made");
    memset(piece, 7, size);
    mono_t began = mono_now();
    for (uint64_t i = 1; i <= pieces; i++)
        if (write(fd, piece, size) != (ssize_t)size || ((i % group == 0 || i == pieces) && fdatasync(fd) < 0))
            die("the file can't be written");
    double seconds = (double)mono_since(mono_now(), began) / (double)NS_PER_S;
    close(fd);
    unlink(path);
    free(piece);
    return (double)pieces / seconds;
}

/* ---- the chain ---- */

/* Of loopback, free a moment ago. */
static void free_endpoint(char *ret, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        die("there is no free port");
    close(fd);
    snprintf(ret, size, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
}

static int open_log(const char *folder, int place)
{
    static char page[PAGE];
    char path[4096];
    snprintf(path, sizeof path, "%s/chain-%d", folder, place);
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || unlink(path) < 0)
        die("no file can be made in the folder");
    for (int i = 0; i < PAGES; i++)
        if (pwrite(fd, page, PAGE, i * PAGE) != PAGE)
            die("the file can't be written");
    if (fsync(fd) < 0)
        die("the file can't be flushed");
    return fd;
}

static void keep(int fd, uint64_t i)
{
    char page[PAGE];
    memset(page, (int)i, sizeof page);
    if (pwrite(fd, page, PAGE, (off_t)(i % PAGES) * PAGE) != PAGE || fdatasync(fd) < 0)
        die("the disk fails");
}

/* One link of the ring: until its parent is gone. */
static void pass_on(const char *from, const char *to, int fd)
{
    void *context = zmq_ctx_new(), *in = open_socket(context, ZMQ_PULL, true, from), *out = open_socket(context, ZMQ_PUSH, false, to);
    zmq_msg_t message;
    zmq_msg_init(&message);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (uint64_t i = 0;; i++) {
        if (zmq_msg_recv(&message, in, 0) < 0)
            die("a link of the chain fails");
        if (fd >= 0)
            keep(fd, i);
        if (zmq_msg_send(&message, out, 0) < 0)
            die("a link of the chain fails");
    }
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double once_round(void *out, void *in)
{
    char bytes[CHAIN_BYTES] = {0};
    mono_t began = mono_now();
    if (zmq_send(out, bytes, sizeof bytes, 0) < 0 || zmq_recv(in, bytes, sizeof bytes, 0) < 0)
        die("the chain fails");
    return (double)mono_since(mono_now(), began) / (double)NS_PER_US;
}

static void chain(uint64_t n, const char *folder)
{
    char at[CHAIN][64];
    pid_t links[CHAIN];
    double *took = calloc(n, sizeof *took);
    if (!took)
        die("no memory");
    for (int i = 0; i < CHAIN; i++)
        free_endpoint(at[i], sizeof at[i]);
    for (int i = 1; i < CHAIN; i++) {
        int fd = folder && i % 2 == 1 ? open_log(folder, i) : -1;
        if ((links[i] = fork()) == 0)
            pass_on(at[i], at[(i + 1) % CHAIN], fd);
    }
    void *context = zmq_ctx_new(), *in = open_socket(context, ZMQ_PULL, true, at[0]), *out = open_socket(context, ZMQ_PUSH, false, at[1]);
    for (int i = 0; i < 20; i++)
        once_round(out, in);
    for (uint64_t i = 0; i < n; i++)
        took[i] = once_round(out, in);
    for (int i = 1; i < CHAIN; i++) {
        kill(links[i], SIGKILL);
        waitpid(links[i], NULL, 0);
    }
    qsort(took, n, sizeof *took, compare);
    printf("%.0f %.0f %.0f\n", took[n / 2], took[n * 99 / 100], took[n - 1]);
    free(took);
    zmq_close(in);
    zmq_close(out);
    zmq_ctx_term(context);
}

static uint64_t number(int argc, char **argv, int at, uint64_t preset)
{
    uint64_t value = preset;
    struct why why;
    if (at < argc && parse_u64(argv[at], 1, UINT64_MAX, &value, &why) < 0)
        die(why.text);
    return value;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "chain") == 0)
        chain(number(argc, argv, 2, 1000), argc > 3 ? argv[3] : NULL);
    else if (argc > 1 && strcmp(argv[1], "pipe") == 0)
        printf("%.0f\n", pipeline(number(argc, argv, 2, 1000000), number(argc, argv, 3, 100), number(argc, argv, 4, 64)));
    else if (argc > 3 && argc < 3 + SHARERS && strcmp(argv[1], "share") == 0) {
        uint64_t us[SHARERS];
        for (int i = 3; i < argc; i++)
            us[i - 3] = number(argc, argv, i, 1000);
        printf("%.1f\n", share(number(argc, argv, 2, 1000), NULL, us, argc - 3));
    } else if (argc > 3 && strcmp(argv[1], "deal") == 0 && number(argc, argv, 3, 1) <= SHARERS)
        printf("%.1f\n", deal(argv[2], (int)number(argc, argv, 3, 1)));
    else if (argc > 4 && strcmp(argv[1], "disk") == 0)
        printf("%.0f\n", disk(argv[4], number(argc, argv, 2, 400), number(argc, argv, 3, 4)));
    else
        printf("%.0f\n", spawn_loop(number(argc, argv, 2, 1000), number(argc, argv, 3, 2)));
    return 0;
}
