/* The words for where sockets are: parsing what people type, and what can be told from an address
 * without asking anybody. Names are not resolved here: that would block. */
#include "common/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/net_private.h"
#include "common/options.h"

#define TCP "tcp://"
#define IPC "ipc://"
#define ACCEPTED "write tcp://HOST:PORT or ipc://PATH"
#define HOST_MAX 255                /* of a name, RFC 1035; longer than any address */
#define DESCRIPTORS_PER_SOCKET 3    /* a mailbox, a listener, a connection */
#define DESCRIPTORS_BESIDE 256      /* the loop, the store, the handlers' pipes */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static int put(const char *word, char *out, size_t out_size, struct why *why)
{
    if (strlen(word) >= out_size)
        return why_set(why, "%s: the address is too long", word);
    memcpy(out, word, strlen(word) + 1);
    return 0;
}

static int parse_ipc(const char *text, char *out, size_t out_size, struct why *why)
{
    const char *path = text + strlen(IPC);
    size_t longest = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    if (!*path)
        return why_set(why, "%s: the path is missing: write ipc:///run/tarmac/control, for example", text);
    if (strlen(path) > longest)
        return why_set(why, "%.80s…: the path has %zu bytes, a local socket's has at most %zu: choose a shorter folder",
                       text, strlen(path), longest);
    return put(text, out, out_size, why);
}

/* The end of the host in HOST[:PORT], or NULL with why. */
static const char *host_end(const char *text, const char *host, struct why *why)
{
    const char *end;
    if (*host == '[') {
        end = strchr(host, ']');
        if (!end || (end[1] && end[1] != ':'))
            return why_set(why, "%s: an IPv6 address is written in brackets: tcp://[::1]:5555", text), NULL;
        return end + 1;
    }
    end = host + strcspn(host, ":");
    if (*end && strchr(end + 1, ':'))
        return why_set(why, "%s: has more than one colon after the host; an IPv6 address is written in brackets: tcp://[::1]:5555",
                       text), NULL;
    return end;
}

static bool is_ipv6(const char *bracketed)
{
    char address[HOST_MAX + 1];
    struct in6_addr ignored;
    snprintf(address, sizeof address, "%.*s", (int)(strlen(bracketed) - 2), bracketed + 1);
    address[strcspn(address, "%")] = '\0';    /* a zone, as in fe80::1%eth0 */
    return inet_pton(AF_INET6, address, &ignored) == 1;
}

static int check_host(const char *text, const char *host, struct why *why)
{
    struct in_addr ignored;
    if (!*host)
        return why_set(why, "%s: the host is missing: " ACCEPTED, text);
    if (*host == '[')
        return is_ipv6(host) ? 0 : why_set(why, "%s: %s is no IPv6 address", text, host);
    if (strcmp(host, "*") == 0)
        return 0;
    if (host[strspn(host, "0123456789.")] == '\0')
        return inet_pton(AF_INET, host, &ignored) == 1
                   ? 0 : why_set(why, "%s: %s is no IPv4 address: four numbers from 0 to 255", text, host);
    if (host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] != '\0' ||
        *host == '-' || *host == '.')
        return why_set(why, "%s: %s is no host name or address: " ACCEPTED, text, host);
    return 0;
}

static int parse_port(const char *text, const char *digits, unsigned default_port, unsigned *ret, struct why *why)
{
    uint64_t port = default_port;
    struct why ignored;
    if (strcmp(digits, ":*") == 0)
        port = 0;
    else if (strcmp(digits, ":") == 0 || (!*digits && default_port == 0))
        return why_set(why, "%s: the port is missing: " ACCEPTED, text);
    else if (*digits && parse_u64(digits + 1, 0, 65535, &port, &ignored) < 0)
        return why_set(why, "%s: the port %s is no number from 1 to 65535 (0 or * where any free one will do)",
                       text, digits + 1);
    *ret = (unsigned)port;
    return 0;
}

static int parse_tcp(const char *text, unsigned default_port, char *out, size_t out_size, struct why *why)
{
    char host[HOST_MAX + 1];
    const char *from = text + strlen(TCP), *end = host_end(text, from, why);
    unsigned port = 0;
    if (!end)
        return -1;
    if ((size_t)(end - from) >= sizeof host)
        return why_set(why, "%.80s…: the host has more than %d characters", text, HOST_MAX);
    snprintf(host, sizeof host, "%.*s", (int)(end - from), from);
    if (check_host(text, host, why) < 0 || parse_port(text, end, default_port, &port, why) < 0)
        return -1;
    if ((size_t)snprintf(out, out_size, TCP "%s:%u", host, port) >= out_size)
        return why_set(why, "%s: the address is too long", text);
    return 0;
}

int net_endpoint_parse(const char *text, unsigned default_port, char *out, size_t out_size, struct why *why)
{
    char word[sizeof TCP + HOST_MAX + sizeof ":65535"];
    if (begins(text, IPC))
        return parse_ipc(text, out, out_size, why);
    if (!begins(text, TCP))
        return why_set(why, "'%.200s' is no address: " ACCEPTED, text);
    if (parse_tcp(text, default_port, word, sizeof word, why) < 0)
        return -1;
    return put(word, out, out_size, why);
}

int net_endpoint_host(const char *endpoint, char *out, size_t out_size)
{
    if (!begins(endpoint, TCP))
        return -1;
    const char *host = endpoint + strlen(TCP);
    const char *end = *host == '[' ? strchr(host, ']') : strchr(host, ':');
    size_t len = !end ? strlen(host) : (size_t)(end - host) + (*host == '[');
    if (len == 0 || len >= out_size || (*host == '[' && !end))
        return -1;
    memcpy(out, host, len);
    out[len] = '\0';
    return 0;
}

bool net_endpoint_is_loopback(const char *endpoint)
{
    char host[HOST_MAX + 1];
    struct in_addr four;
    struct in6_addr six;
    if (begins(endpoint, IPC))
        return true;
    if (net_endpoint_host(endpoint, host, sizeof host) < 0)
        return false;
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (*host != '[')
        return inet_pton(AF_INET, host, &four) == 1 && (ntohl(four.s_addr) >> 24) == 127;
    host[strlen(host) - 1] = '\0';
    if (inet_pton(AF_INET6, host + 1, &six) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
}

unsigned endpoint_port(const char *endpoint)
{
    const char *colon = strrchr(endpoint, ':');
    uint64_t port = 0;
    struct why ignored;
    return begins(endpoint, TCP) && colon && parse_u64(colon + 1, 0, 65535, &port, &ignored) == 0 ? (unsigned)port : 0;
}

bool endpoint_in_use(const char *endpoint)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = endpoint + strlen(IPC);
    if (!begins(endpoint, IPC) || strlen(path) >= sizeof address.sun_path || *path == '@')
        return false;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool answered = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN;
    close(fd);
    return answered;
}

void endpoint_remove(const char *endpoint)
{
    if (begins(endpoint, IPC) && endpoint[strlen(IPC)] != '@')
        (void)unlink(endpoint + strlen(IPC));
}

int endpoint_refuse(const char *endpoint, int error, struct why *why)
{
    errno = error;
    switch (error) {
    case EADDRINUSE:
        return why_set(why, "%s: another process already listens there; stop it or choose another address", endpoint);
    case EADDRNOTAVAIL: case ENODEV:
        return why_set(why, "%s: this machine has no such address; listen on one of its own or on tcp://*:PORT", endpoint);
    case EACCES: case EPERM:
        return why_set(why, "%s: not permitted; choose a port above 1023, or a folder that may be written", endpoint);
    case ENOKEY:
        return why_set(why, "%s: our keys (--keys) have no public key of what listens there", endpoint);
    case ENOENT: case ENOTDIR:
        return why_set(why, "%s: the folder does not exist; make it first", endpoint);
    case EMFILE: case ENFILE:
        return why_set(why, "%s: no socket or descriptor is left; raise the limits (sockets, ulimit -n)", endpoint);
    default:
        return why_set(why, "%s: can't be opened: %s", endpoint, strerror(error));
    }
}

int net_raise_descriptors(int max_sockets, struct why *why)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)max_sockets * DESCRIPTORS_PER_SOCKET + DESCRIPTORS_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return why_set(why, "the limit of open files can't be read: %s", strerror(errno));
    struct rlimit raised = {.rlim_cur = limit.rlim_max < wanted ? wanted : limit.rlim_max,
                            .rlim_max = limit.rlim_max < wanted ? wanted : limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0 && limit.rlim_cur < wanted)
        return why_set(why, "%d sockets need %llu open files, the limit is %llu: raise it (ulimit -n, LimitNOFILE=) or configure fewer",
                       max_sockets, (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
    return 0;
}
