/* A TCP relay under a test's control: a network that can be cut.
 *
 * usage: relay FROM TO N
 *
 * Finds N consecutive ports, free on the addresses FROM and TO (which are of this machine: 127.0.0.2, say),
 * listens on them at FROM, and passes each connection on to the same port at TO, where somebody will listen.
 * Prints `ready port=FIRST`. Then takes commands from standard input, one a line, and answers each with the
 * same line once it holds:
 *   pass          everything passes
 *   stop up       nothing passes from FROM to TO any more; down: from TO to FROM; both: either way
 *   close         all connections are closed; new ones are taken
 *   delay MS      what is read from now on is passed on up to so much later, by chance, each piece anew: so connections
 *                 overtake each other, and nothing within a connection does; 0: at once
 * A direction that is stopped isn't read: connections stay up and are silent, as with packets that get lost.
 * Neither does the end of a connection pass then. New connections are taken, and are as silent.
 * Ends when standard input ends. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/options.h"

#define PORTS_MOST 64
#define PAIRS_MOST 256
#define ROOM 65536
/* Below the ports that the system gives to outgoing connections: those come and go. */
#define LOWEST 12000u
#define HIGHEST 32000u

enum { UP, DOWN };                       /* of `flow`: from the dialling side, and to it */

struct flow {
    int from, to;
    size_t begin, end;                   /* what is read and not yet written */
    int64_t due;                         /* when it may be, in ms */
    bool over;                           /* `from` has ended, and `to` was told */
    bool ended;                          /* `from` has ended */
    unsigned char bytes[ROOM];
};

struct pair {
    bool used;
    int near, far;
    struct flow flow[2];
};

static struct in_addr from_host, to_host;
static int listeners[PORTS_MOST];
static unsigned first_port, n_ports;
static struct pair *pairs;
static bool stopped[2];
static uint64_t delay_most;              /* ms */
static unsigned chance = 1;              /* the same delays each time, as far as the order of events is the same */

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- ports ---- */

static int listen_at(struct in_addr host, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((in_port_t)port), .sin_addr = host};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 128) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool is_free(struct in_addr host, unsigned port)
{
    int fd = listen_at(host, port);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool take_ports(unsigned first)
{
    unsigned n = 0;
    for (; n < n_ports; n++) {
        listeners[n] = is_free(to_host, first + n) ? listen_at(from_host, first + n) : -1;
        if (listeners[n] < 0)
            break;
    }
    if (n == n_ports)
        return true;
    while (n > 0)
        close(listeners[--n]);
    return false;
}

static void find_ports(void)
{
    unsigned at = LOWEST + ((unsigned)getpid() * 97u) % (HIGHEST - LOWEST);
    for (unsigned tries = 0; tries < 1000; tries++, at += n_ports) {
        if (at + n_ports > HIGHEST)
            at = LOWEST;
        if (take_ports(at)) {
            first_port = at;
            return;
        }
    }
    errno = EADDRINUSE;
    die("no free ports in a row");
}

/* ---- connections ---- */

static void hang_up(struct pair *pair)
{
    close(pair->near);
    close(pair->far);
    pair->used = false;
}

static int dial(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((in_port_t)port), .sin_addr = to_host};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void take(unsigned i)
{
    int near = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (near < 0)
        return;
    int far = dial(first_port + i);
    struct pair *pair = pairs;
    while (pair < pairs + PAIRS_MOST && pair->used)
        pair++;
    if (far < 0 || pair == pairs + PAIRS_MOST) {
        close(near);
        if (far >= 0)
            close(far);
        return;
    }
    pair->used = true;
    pair->near = near;
    pair->far = far;
    for (int way = UP; way <= DOWN; way++) {
        struct flow *flow = &pair->flow[way];
        flow->from = way == UP ? near : far;
        flow->to = way == UP ? far : near;
        flow->begin = flow->end = 0;
        flow->over = flow->ended = false;
    }
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool wants_read(const struct flow *flow, int way) { return !stopped[way] && !flow->ended && flow->begin == flow->end; }

/* What was read before the direction was stopped is held back too. */
static bool holds(const struct flow *flow, int way) { return !stopped[way] && flow->begin < flow->end; }
static bool wants_write(const struct flow *flow, int way) { return holds(flow, way) && now_ms() >= flow->due; }

/* Moves what can be moved now. false: the connection is broken. */
static bool move(struct flow *flow, int way)
{
    if (wants_read(flow, way)) {
        ssize_t n = recv(flow->from, flow->bytes, sizeof flow->bytes, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        flow->ended = n == 0;
        flow->begin = 0;
        flow->end = n > 0 ? (size_t)n : 0;
        flow->due = delay_most > 0 ? now_ms() + (int64_t)((unsigned)rand_r(&chance) % (delay_most + 1)) : 0;
    }
    if (wants_write(flow, way)) {
        ssize_t n = send(flow->to, flow->bytes + flow->begin, flow->end - flow->begin, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        flow->begin += n > 0 ? (size_t)n : 0;
    }
    if (flow->ended && !flow->over && !stopped[way] && flow->begin == flow->end) {
        shutdown(flow->to, SHUT_WR);
        flow->over = true;
    }
    return true;
}

static void serve(struct pair *pair)
{
    bool fine = move(&pair->flow[UP], UP) && move(&pair->flow[DOWN], DOWN);
    if (!fine || (pair->flow[UP].over && pair->flow[DOWN].over))
        hang_up(pair);
}

/* ---- commands ---- */

static void obey(const char *line)
{
    struct why why;
    bool both = strcmp(line, "stop both") == 0;
    if (strcmp(line, "pass") == 0) {
        stopped[UP] = stopped[DOWN] = false;
    } else if (strcmp(line, "close") == 0) {
        for (struct pair *pair = pairs; pair < pairs + PAIRS_MOST; pair++)
            if (pair->used)
                hang_up(pair);
    } else if (strncmp(line, "delay ", 6) == 0 && parse_u64(line + 6, 0, 60000, &delay_most, &why) == 0) {
        /* It holds from the next piece on. */
    } else if (both || strcmp(line, "stop up") == 0 || strcmp(line, "stop down") == 0) {
        stopped[UP] |= both || strcmp(line, "stop up") == 0;
        stopped[DOWN] |= both || strcmp(line, "stop down") == 0;
    } else {
        fprintf(stderr, "relay: '%s' is no command; there are: pass, stop up|down|both, close, delay MS\n", line);
        exit(2);
    }
    printf("%s\n", line);
    fflush(stdout);
}

/* false: there will be no more commands. */
static bool read_commands(void)
{
    static char line[64];
    static size_t len;
    char byte;
    ssize_t n;
    while ((n = read(STDIN_FILENO, &byte, 1)) == 1) {
        if (byte == '\n') {
            line[len] = '\0';
            len = 0;
            obey(line);
        } else if (len < sizeof line - 1) {
            line[len++] = byte;
        }
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* ---- the loop ---- */

static nfds_t watch(struct pollfd *fds)
{
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (unsigned i = 0; i < n_ports; i++)
        fds[n++] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
    for (struct pair *pair = pairs; pair < pairs + PAIRS_MOST; pair++) {
        if (!pair->used)
            continue;
        const struct flow *up = &pair->flow[UP], *down = &pair->flow[DOWN];
        short near = (short)((wants_read(up, UP) ? POLLIN : 0) | (wants_write(down, DOWN) ? POLLOUT : 0));
        short far = (short)((wants_read(down, DOWN) ? POLLIN : 0) | (wants_write(up, UP) ? POLLOUT : 0));
        /* One that nothing is wanted of would still wake us when its other end is gone. */
        fds[n++] = (struct pollfd){.fd = near ? pair->near : -1, .events = near};
        fds[n++] = (struct pollfd){.fd = far ? pair->far : -1, .events = far};
    }
    return n;
}

/* Until the first piece that waits for its time may go on; -1: none does. */
static int next_due(void)
{
    int64_t next = INT64_MAX, now = now_ms();
    for (struct pair *pair = pairs; pair < pairs + PAIRS_MOST; pair++)
        for (int way = UP; pair->used && way <= DOWN; way++)
            if (holds(&pair->flow[way], way) && pair->flow[way].due > now && pair->flow[way].due < next)
                next = pair->flow[way].due;
    return next == INT64_MAX ? -1 : (int)(next - now);
}

static void run(void)
{
    static struct pollfd fds[1 + PORTS_MOST + 2 * PAIRS_MOST];
    for (;;) {
        nfds_t n = watch(fds);
        if (poll(fds, n, next_due()) < 0 && errno != EINTR)
            die("poll");
        if (fds[0].revents != 0 && !read_commands())
            return;
        for (unsigned i = 0; i < n_ports; i++)
            if (fds[1 + i].revents & POLLIN)
                take(i);
        for (struct pair *pair = pairs; pair < pairs + PAIRS_MOST; pair++)
            if (pair->used)
                serve(pair);
    }
}

int main(int argc, char **argv)
{
    struct why why;
    uint64_t n = 0;
    if (argc != 4 || inet_pton(AF_INET, argv[1], &from_host) != 1 || inet_pton(AF_INET, argv[2], &to_host) != 1
        || parse_u64(argv[3], 1, PORTS_MOST, &n, &why) < 0) {
        fputs("usage: relay FROM TO N     two addresses of this machine, and how many ports\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    n_ports = (unsigned)n;
    pairs = calloc(PAIRS_MOST, sizeof *pairs);
    if (pairs == NULL || fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) < 0)
        die("can't begin");
    find_ports();
    printf("ready port=%u\n", first_port);
    fflush(stdout);
    run();
    free(pairs);
    return 0;
}
