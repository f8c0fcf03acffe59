/* What lies between this host and the ones of the ventilator and the sink: their names, and each port that a worker here
 * would need. A port that takes a connection or refuses it is not blocked: most lanes are closed until a worker has one.
 * One that gives no answer at all is in somebody's firewall. Ports that workers use now are left alone. */
#include "ventilator/cli_doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/net.h"

#define AT_A_TIME 128u                   /* connections that are tried at once */
#define PATIENCE_MS 2000
#define NAMED_MOST 8                     /* runs of blocked ports that are named */
#define FILES_OF_1000_WORKERS 4096u      /* a control connection, a lane and what libzmq needs for it, for each */

enum answer { ANSWER_NONE, ANSWER_OPEN, ANSWER_REFUSED };

struct probe {
    uint16_t port;
    enum answer answer;
    int error;                           /* why there is none; 0: it was waited for in vain */
    int fd;
};

/* ---- names ---- */

static void describe(const struct addrinfo *list, char *out, size_t size)
{
    char text[INET6_ADDRSTRLEN];
    size_t len = 0;
    out[0] = '\0';
    for (const struct addrinfo *a = list; a && len + sizeof text < size; a = a->ai_next) {
        if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", text);
    }
}

/* NULL: it has none, and that was said when `loud`. The caller frees it. */
static struct addrinfo *resolve(struct doctor *doctor, const char *bracketed, bool loud)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    struct addrinfo *list = NULL;
    char host[256], text[400];
    snprintf(host, sizeof host, "%.250s", bracketed[0] == '[' ? bracketed + 1 : bracketed);
    host[strcspn(host, "]")] = '\0';
    int error = getaddrinfo(host, NULL, &hints, &list);
    if (error != 0) {
        if (loud)
            doctor_say(doctor, FINDING_FAIL, "the name %s can't be resolved on this host: %s; put it into DNS or /etc/hosts, or give an address instead",
                       host, gai_strerror(error));
        return NULL;
    }
    describe(list, text, sizeof text);
    if (loud && !doctor->quick && strcmp(text, host) != 0)
        doctor_say(doctor, FINDING_OK, "the name %s is %s", host, text);
    return list;
}

bool doctor_look_at_name(struct doctor *doctor, const char *endpoint)
{
    char host[256];
    if (net_endpoint_host(endpoint, host, sizeof host) < 0)
        return true;
    struct addrinfo *list = resolve(doctor, host, true);
    if (!list)
        return false;
    freeaddrinfo(list);
    return true;
}

/* ---- ports ---- */

static void settle(struct probe *probe, int error)
{
    probe->error = error;
    probe->answer = error == 0 ? ANSWER_OPEN : error == ECONNREFUSED || error == ECONNRESET ? ANSWER_REFUSED : ANSWER_NONE;
    if (probe->fd >= 0)
        close(probe->fd);
    probe->fd = -1;
}

static void dial(struct probe *probe, const struct addrinfo *to)
{
    struct sockaddr_storage address;
    memcpy(&address, to->ai_addr, to->ai_addrlen);
    if (to->ai_family == AF_INET)
        ((struct sockaddr_in *)&address)->sin_port = htons(probe->port);
    else
        ((struct sockaddr_in6 *)&address)->sin6_port = htons(probe->port);
    probe->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe->fd < 0 || connect(probe->fd, (const struct sockaddr *)&address, to->ai_addrlen) == 0)
        settle(probe, probe->fd < 0 ? errno : 0);
    else if (errno != EINPROGRESS)
        settle(probe, errno);
}

/* At most AT_A_TIME of them. */
static void try_some(struct probe *probes, size_t n, const struct addrinfo *to)
{
    struct pollfd fds[AT_A_TIME];
    mono_t until = mono_add(mono_now(), PATIENCE_MS * NS_PER_MS);
    size_t waiting = n;
    for (size_t i = 0; i < n; i++)
        dial(&probes[i], to);
    while (waiting > 0) {
        int64_t left = mono_since(until, mono_now()) / NS_PER_MS;
        for (size_t i = 0; i < n; i++)
            fds[i] = (struct pollfd){.fd = probes[i].fd, .events = POLLOUT};
        if (left <= 0 || (poll(fds, (nfds_t)n, (int)left) < 0 && errno != EINTR))
            break;
        waiting = 0;
        for (size_t i = 0; i < n; i++) {
            int error = 0;
            socklen_t len = sizeof error;
            if (probes[i].fd >= 0 && fds[i].revents != 0 && getsockopt(probes[i].fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0)
                settle(&probes[i], error);
            waiting += probes[i].fd >= 0;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (probes[i].fd >= 0)
            settle(&probes[i], ETIMEDOUT);
}

/* The first address that gives any answer counts; tells how each port of the probes is. */
static void try_ports(struct probe *probes, size_t n, const struct addrinfo *to)
{
    for (size_t i = 0; i < n; i += AT_A_TIME)
        try_some(probes + i, n - i < AT_A_TIME ? n - i : AT_A_TIME, to);
}

static struct probe try_port(const struct addrinfo *list, uint16_t port)
{
    struct probe best = {.port = port, .fd = -1};
    for (const struct addrinfo *to = list; to && best.answer != ANSWER_OPEN; to = to->ai_next) {
        struct probe probe = {.port = port, .fd = -1};
        try_ports(&probe, 1, to);
        if (probe.answer != ANSWER_NONE || best.answer == ANSWER_NONE)
            best = probe;
    }
    return best;
}

static const char *how(const struct probe *probe)
{
    return probe->answer == ANSWER_REFUSED ? "refuses" : probe->error == ETIMEDOUT ? "gives no answer" : strerror(probe->error);
}

/* What only a worker on this host would miss. */
static enum finding gravity(const struct doctor *doctor) { return doctor->for_worker ? FINDING_FAIL : FINDING_WARN; }

static void look_at_workers_port(struct doctor *doctor, const char *host, const struct addrinfo *list, uint16_t port)
{
    struct probe probe = try_port(list, port);
    if (probe.answer == ANSWER_OPEN)
        doctor_say(doctor, FINDING_OK, "port %u of %s, for workers and the sink, is open from here", port, host);
    else
        doctor_say(doctor, gravity(doctor), "port %u of %s, for workers and the sink: %s; no worker on this host can join. Open it in the firewall, make "
                   "the ventilator listen there (--workers-listen), or publish it if it is in a container", port, host, how(&probe));
}

static bool in_use(const struct doctor_ports *ports, unsigned port)
{
    for (size_t i = 0; i < ports->n_used; i++)
        if (ports->used[i] == port)
            return true;
    return false;
}

static void name_blocked(const struct probe *probes, size_t n, char *out, size_t size)
{
    size_t len = 0, runs = 0;
    out[0] = '\0';
    for (size_t i = 0, end; i < n && len < size; i = end) {
        for (end = i + 1; end < n && probes[i].answer == ANSWER_NONE && probes[end].answer == ANSWER_NONE && probes[end].port == probes[end - 1].port + 1;)
            end++;
        if (probes[i].answer != ANSWER_NONE)
            continue;
        if (++runs > NAMED_MOST) {
            snprintf(out + len, size - len, " and others");
            return;
        }
        len += (size_t)snprintf(out + len, size - len, end - i > 1 ? "%s%u-%u" : "%s%u", runs > 1 ? ", " : "", probes[i].port, probes[end - 1].port);
    }
}

static void look_at_lanes(struct doctor *doctor, const char *host, const struct addrinfo *list, const struct doctor_ports *ports)
{
    char text[200];
    size_t n = 0, blocked = 0;
    struct probe *probes = calloc(ports->lanes_to - ports->lanes_from + 1u, sizeof *probes);
    if (!probes) {
        doctor_say(doctor, FINDING_WARN, "no memory to try the lanes' ports");
        return;
    }
    for (unsigned port = ports->lanes_from; port <= ports->lanes_to; port++)
        if (!in_use(ports, port))
            probes[n++] = (struct probe){.port = (uint16_t)port, .fd = -1};
    try_ports(probes, n, list);
    for (size_t i = 0; i < n; i++)
        blocked += probes[i].answer == ANSWER_NONE;
    name_blocked(probes, n, text, sizeof text);
    if (blocked == 0)
        doctor_say(doctor, FINDING_OK, "no port of the lanes, %u-%u of %s, is blocked from here", ports->lanes_from, ports->lanes_to, host);
    else
        doctor_say(doctor, gravity(doctor), "%zu of the lanes' ports are blocked from here: %s of %s give%s no answer; a worker on this host that gets one of "
                   "them can't work. Open %u-%u in the firewall (or choose others with --lanes)", blocked, text, host, blocked == 1 ? "s" : "",
                   ports->lanes_from, ports->lanes_to);
    free(probes);
}

void doctor_look_at_ports(struct doctor *doctor, const char *endpoint, const struct doctor_ports *ports)
{
    char host[256];
    if (net_endpoint_host(endpoint, host, sizeof host) < 0 || ports->workers == 0)
        return;
    struct addrinfo *list = resolve(doctor, host, false);
    if (!list)
        return;
    /* The address that answers at the workers' port is the one whose lanes are tried. */
    struct addrinfo *at = list;
    while (at->ai_next && try_port(at, (uint16_t)ports->workers).answer != ANSWER_OPEN)
        at = at->ai_next;
    look_at_workers_port(doctor, host, list, (uint16_t)ports->workers);
    if (ports->lanes_from != 0 && ports->lanes_to >= ports->lanes_from)
        look_at_lanes(doctor, host, at, ports);
    freeaddrinfo(list);
}

void doctor_look_at_results_port(struct doctor *doctor, const char *const *hosts, size_t n, unsigned port)
{
    struct probe probe = {.fd = -1};
    const char *tried = "";
    for (size_t i = 0; i < n; i++) {
        struct addrinfo *list = resolve(doctor, hosts[i], false);
        if (!list)
            continue;
        tried = hosts[i];
        probe = try_port(list, (uint16_t)port);
        freeaddrinfo(list);
        if (probe.answer == ANSWER_OPEN) {
            doctor_say(doctor, FINDING_OK, "port %u of %s, for results, is open from here", port, hosts[i]);
            return;
        }
    }
    if (tried[0] != '\0')
        doctor_say(doctor, gravity(doctor), "port %u of the sink (tried last at %s), for results: %s; a worker on this host could not bring its results. Open it "
                   "in the firewall, publish it if it is in a container, or look at the sink's --results-listen and --advertise", port, tried, how(&probe));
}

/* ---- this host ---- */

void doctor_look_at_limits(struct doctor *doctor)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    if (files.rlim_max < FILES_OF_1000_WORKERS)
        doctor_say(doctor, FINDING_WARN, "a process on this host may open %llu files: too few for a ventilator or a sink of many workers, which need some four each; "
                   "raise it (LimitNOFILE= of a unit, ulimit -Hn, nofile of a container)", (unsigned long long)files.rlim_max);
    else
        doctor_say(doctor, FINDING_OK, "a process on this host may open %llu files", (unsigned long long)files.rlim_max);
}
