/* The sockets' edges: addresses and other refusals, closing, and strangers (random bytes, hand-made
 * ZMTP), who speak through plain TCP sockets. */
#include "tests/unit/net_world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/net_private.h"

/* ---- endpoint words ---- */

static void parses(const char *text, unsigned default_port, const char *to)
{
    char out[300] = "untouched";
    struct why why = {"untouched"};
    int r = net_endpoint_parse(text, default_port, out, sizeof out, &why);
    if (to) {
        assert_int_equal(r, 0);
        assert_string_equal(out, to);
        assert_string_equal(why.text, "untouched");
    } else {
        assert_int_equal(r, -1);
        assert_string_equal(out, "untouched");
        if (!strstr(why.text, text))
            fail_msg("'%s' does not name '%s'", why.text, text);
    }
}

static void test_endpoint_words(void **state)
{
    (void)state;
    parses("tcp://ada", 5555, "tcp://ada:5555");
    parses("tcp://ada.example.org:7", 5555, "tcp://ada.example.org:7");
    parses("tcp://127.0.0.1:65535", 0, "tcp://127.0.0.1:65535");
    parses("tcp://*:*", 1, "tcp://*:0");
    parses("tcp://[::1]", 5556, "tcp://[::1]:5556");
    parses("tcp://[fe80::1%eth0]:9", 5556, "tcp://[fe80::1%eth0]:9");
    parses("ipc:///tmp/x", 5555, "ipc:///tmp/x");
    static const char *const bad[] = {
        "", "ada", "ada:5555", "udp://ada:5", "TCP://ada:5", "tcp://", "tcp://:5", "tcp://ada:", "tcp://ada:65536",
        "tcp://ada:-1", "tcp://ada:+5", "tcp://ada: 5", "tcp://ada:5x", "tcp://ada:5/", "tcp://::1:5555",
        "tcp://[::1", "tcp://[::1]5555", "tcp://[ada]:5", "tcp://[]:5", "tcp://1.2.3:5", "tcp://1.2.3.256:5",
        "tcp://a b:5", "tcp://-a:5", "tcp://a@b:5", "tcp://eth0;ada:5", "ipc://",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        parses(bad[i], 5555, NULL);
    parses("tcp://ada", 0, NULL);

    char longest[300] = "ipc://", out[300], small[10] = "untouched";
    struct why why;
    memset(longest + 6, 'x', 107);
    assert_int_equal(net_endpoint_parse(longest, 0, out, sizeof out, &why), 0);
    longest[6 + 107] = 'x';
    assert_int_equal(net_endpoint_parse(longest, 0, out, sizeof out, &why), -1);
    assert_non_null(strstr(why.text, "107"));
    memset(longest, 'x', 290);
    memcpy(longest, "tcp://", 6);
    assert_int_equal(net_endpoint_parse(longest, 5, out, sizeof out, &why), -1);
    assert_int_equal(net_endpoint_parse("tcp://ada", 5555, small, sizeof small, &why), -1);
    assert_int_equal(net_endpoint_parse("ipc:///tmp/x", 5555, small, sizeof small, &why), -1);
    assert_string_equal(small, "untouched");
}

static void test_endpoint_hosts(void **state)
{
    char host[20] = "untouched";
    (void)state;
    assert_int_equal(net_endpoint_host("ipc:///tmp/x", host, sizeof host), -1);
    assert_int_equal(net_endpoint_host("tcp://a-host-that-is-too-long-for-it:5", host, sizeof host), -1);
    assert_int_equal(net_endpoint_host("tcp://[::1", host, sizeof host), -1);
    assert_string_equal(host, "untouched");
    assert_int_equal(net_endpoint_host("tcp://ada:5", host, sizeof host), 0);
    assert_string_equal(host, "ada");
    assert_int_equal(net_endpoint_host("tcp://[::1]:5", host, sizeof host), 0);
    assert_string_equal(host, "[::1]");
    static const char *const loopback[] = {"ipc:///tmp/x", "tcp://localhost:1", "tcp://127.0.0.1:1", "tcp://127.9.9.9:1",
                                           "tcp://[::1]:1", "tcp://[::ffff:127.0.0.1]:1"};
    static const char *const others[] = {"tcp://*:1", "tcp://0.0.0.0:1", "tcp://127.evil.example:1", "tcp://10.0.0.1:1",
                                         "tcp://[::]:1", "tcp://[::ffff:10.0.0.1]:1", "tcp://localhost.example:1", "nonsense"};
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        assert_true(net_endpoint_is_loopback(loopback[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(net_endpoint_is_loopback(others[i]));
}

/* ---- packed messages ---- */

static void test_packing(void **state)
{
    uint8_t packed[32];
    struct slice body = {NULL, (const uint8_t *)"body", 4}, empty = {0};
    size_t head_len = 99;
    bool has_body = false;
    (void)state;
    assert_int_equal(pack_len(4, body, true), 12);
    pack_write(packed, (const uint8_t *)"head", 4, body, true);
    assert_memory_equal(packed, "\x04\x00\x00\x80headbody", 12);
    assert_true(pack_read(packed, 12, &head_len, &has_body));
    assert_int_equal(head_len, 4);
    assert_true(has_body);
    assert_true(pack_read(packed, 8, &head_len, &has_body));     /* an empty body is one */
    assert_int_equal(pack_len(4, empty, false), 8);
    pack_write(packed, (const uint8_t *)"head", 4, empty, false);
    assert_true(pack_read(packed, 8, &head_len, &has_body));
    assert_false(has_body);
    pack_write(packed, NULL, 0, empty, false);
    assert_true(pack_read(packed, 4, &head_len, &has_body));
    assert_int_equal(head_len, 0);

    head_len = 99;
    has_body = true;
    assert_false(pack_read((const uint8_t *)"", 0, &head_len, &has_body));
    assert_false(pack_read((const uint8_t *)"\x00\x00\x00", 3, &head_len, &has_body));
    assert_false(pack_read((const uint8_t *)"\x05\x00\x00\x00head", 8, &head_len, &has_body));    /* longer than it is */
    assert_false(pack_read((const uint8_t *)"\x05\x00\x00\x80head", 8, &head_len, &has_body));
    assert_false(pack_read((const uint8_t *)"\x03\x00\x00\x00head", 8, &head_len, &has_body));    /* something behind it */
    assert_false(pack_read((const uint8_t *)"\xff\xff\xff\xffhead", 8, &head_len, &has_body));
    assert_int_equal(head_len, 99);
    assert_int_equal(pack_len((size_t)1 << 31, empty, false), 0);
}

/* ---- strangers ---- */

static int dial(unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void put(int fd, const void *bytes, size_t len)
{
    /* The other side may have hung up already: that is what some of these are for. */
    ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
    assert_true(n == (ssize_t)len || errno == EPIPE || errno == ECONNRESET);
}

static void get(int fd, size_t len)
{
    uint8_t bytes[128];
    struct timeval bound = {.tv_sec = 20};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound), 0);
    assert_int_equal(recv(fd, bytes, len, MSG_WAITALL), (ssize_t)len);
}

/* ZMTP 3.0 by hand: the greeting, and READY of a DEALER that asks for this routing id. */
static int dial_zmtp(unsigned port, const char *identity)
{
    uint8_t greeting[64] = {0xff, [9] = 0x7f, [10] = 3, [12] = 'N', 'U', 'L', 'L'};
    uint8_t ready[64] = "\x04\x00\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER\x08Identity\x00\x00\x00";
    size_t len = 2 + 6 + 12 + 4 + 6 + 9 + 3;
    int fd = dial(port);
    ready[len++] = (uint8_t)strlen(identity);
    memcpy(ready + len, identity, strlen(identity));
    len += strlen(identity);
    ready[1] = (uint8_t)(len - 2);
    /* Step by step: libzmq never answers one who says everything at once. Its I/O thread does the answering. */
    put(fd, greeting, sizeof greeting);
    get(fd, sizeof greeting);
    put(fd, ready, len);
    get(fd, 2 + 6 + 12 + 4 + 6 + 9 + 4);    /* READY of a ROUTER, without a routing id */
    return fd;
}

struct hung_up { struct loop_watch watch; struct loop *loop; bool seen; };

static void stranger_ready(void *arg, uint32_t events)
{
    struct hung_up *stranger = arg;
    char bytes[256];
    (void)events;
    ssize_t n = read(stranger->watch.fd, bytes, sizeof bytes);
    if (n > 0)
        return;
    stranger->seen = true;
    loop_unwatch(stranger->loop, &stranger->watch);
}

static bool was_hung_up(void *arg) { return ((struct hung_up *)arg)->seen; }

struct guarded { struct world world; struct end router, dealer; unsigned port; };

static void guarded_open(struct guarded *guarded)
{
    *guarded = (struct guarded){.router.echo = true};
    world_open(&guarded->world, 16);
    open_end(&guarded->router, guarded->world.near, NET_ROUTER, ANY_PORT);
    guarded->port = net_port(guarded->router.socket);
    open_end(&guarded->dealer, guarded->world.far, NET_DEALER, net_endpoint(guarded->router.socket));
    run_until(&guarded->world, is_up, &guarded->dealer);
}

/* A ping that is answered: the others are not disturbed. */
static void guarded_ping(struct guarded *guarded)
{
    guarded->dealer.messages = 0;
    assert_int_equal(say(&guarded->dealer, 0, "ping"), 0);
    run_until(&guarded->world, heard_1, &guarded->dealer);
    assert_string_equal(guarded->dealer.head, "ping");
    assert_int_equal(guarded->dealer.downs, 0);
}

static void guarded_close(struct guarded *guarded)
{
    close_end(&guarded->dealer);
    close_end(&guarded->router);
    world_close(&guarded->world);
}

static void test_random_bytes_disturb_nobody(void **state)
{
    struct guarded guarded;
    uint8_t bytes[4096];
    int fds[20];
    unsigned seed = 20240607;
    (void)state;
    guarded_open(&guarded);
    for (size_t i = 0; i < 20; i++) {
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)rand_r(&seed);
        if (i % 2)
            bytes[0] = 0xff;    /* how ZMTP begins */
        if (i == 4)
            memcpy(bytes, "GET / HTTP/1.1\r\n\r\n", 18);
        fds[i] = dial(guarded.port);
        put(fds[i], bytes, i == 0 ? 0 : sizeof bytes / (i + 1));
        guarded_ping(&guarded);
    }
    for (size_t i = 0; i < 20; i++)
        close(fds[i]);
    guarded_ping(&guarded);
    guarded_close(&guarded);
}

static void test_too_large_message_is_refused(void **state)
{
    struct guarded guarded;
    uint8_t frame[9] = {2, 0, 0, 0, 0, (uint8_t)((MAX_MESSAGE + 1) >> 24), 0, 0, 1};
    (void)state;
    guarded_open(&guarded);
    struct hung_up stranger = {.loop = guarded.world.loop, .watch = {.ready = stranger_ready, .arg = &stranger}};
    stranger.watch.fd = dial_zmtp(guarded.port, "");
    put(stranger.watch.fd, "\x00\x05hello", 7);    /* The handshake is right: this one arrives. */
    run_until(&guarded.world, heard_1, &guarded.router);
    assert_string_equal(guarded.router.head, "hello");
    put(stranger.watch.fd, frame, sizeof frame);
    assert_int_equal(loop_watch(guarded.world.loop, &stranger.watch, EPOLLIN), 0);
    run_until(&guarded.world, was_hung_up, &stranger);
    guarded_ping(&guarded);
    close(stranger.watch.fd);
    guarded_close(&guarded);
}

static bool two_malformed(void *arg) { return net_counters(arg)->malformed == 2; }
static bool three_malformed(void *arg) { return net_counters(arg)->malformed == 3; }

static void test_malformed_is_counted(void **state)
{
    struct guarded guarded;
    (void)state;
    guarded_open(&guarded);
    int fd = dial_zmtp(guarded.port, "");
    put(fd, "\x01\x01" "a\x01\x01" "b\x00\x01" "c", 9);
    put(fd, "\x01\x01" "a\x01\x01" "b\x01\x01" "c\x01\x01" "d\x00\x01" "e", 15);
    run_until(&guarded.world, two_malformed, guarded.world.near);
    assert_int_equal(guarded.router.messages, 0);
    put(fd, "\x01\x04head\x00\x04" "body", 12);    /* It may go on, and is heard. */
    run_until(&guarded.world, heard_1, &guarded.router);
    assert_string_equal(guarded.router.head, "head");
    assert_int_equal(guarded.router.body.len, 4);
    int named = dial_zmtp(guarded.port, "me");      /* a routing id that is not libzmq's own */
    put(named, "\x00\x05hello", 7);
    run_until(&guarded.world, three_malformed, guarded.world.near);
    assert_int_equal(guarded.router.messages, 1);
    guarded_ping(&guarded);
    close(fd);
    close(named);
    guarded_close(&guarded);
}

/* ---- opening and closing ---- */

static void test_callbacks_may_close(void **state)
{
    struct world world;
    struct end out[2] = {{0}}, in[2] = {{0}};
    (void)state;
    world_open(&world, 16);
    for (int i = 0; i < 2; i++) {
        open_end(&out[i], world.near, NET_LANE_OUT, ANY_PORT);
        open_end(&in[i], world.far, NET_LANE_IN, net_endpoint(out[i].socket));
        run_until(&world, is_up, &out[i]);
    }
    in[0].close_self = in[1].close_self = true;
    in[0].close_other = &in[1];
    in[1].close_other = &in[0];
    for (int i = 0; i < 200; i++)
        for (int j = 0; j < 2; j++)
            assert_int_equal(say(&out[j], 0, "close"), 0);
    run_until(&world, is_down, &out[0]);
    run_until(&world, is_down, &out[1]);
    assert_int_equal(in[0].messages + in[1].messages, 1);
    assert_null(in[0].socket);
    assert_null(in[1].socket);
    for (int i = 0; i < 2; i++) {
        close_end(&in[i]);    /* closing what is closed */
        close_end(&out[i]);
    }
    world_close(&world);
}

static void test_linger_sends_the_rest(void **state)
{
    struct world world;
    struct end out = {0}, in = {0};
    (void)state;
    world_open(&world, 16);
    open_end(&in, world.near, NET_RESULTS_IN, ANY_PORT);
    open_end(&out, world.far, NET_RESULTS_OUT, net_endpoint(in.socket));
    run_until(&world, is_up, &out);
    assert_int_equal(say(&out, 0, "one"), 0);
    assert_int_equal(say(&out, 0, "goodbye"), 0);
    net_linger(out.socket, 10 * NS_PER_S);
    net_close(&out.socket);
    run_until(&world, heard_2, &in);
    assert_string_equal(in.head, "goodbye");
    close_end(&in);
    world_close(&world);
}

static void refused(struct net *net, enum net_kind kind, const char *endpoint, int error, const char *word)
{
    struct why why = {""};
    struct net_callbacks callbacks = {.message = on_message};
    assert_null(net_open(net, kind, endpoint, &callbacks, &why));
    assert_int_equal(errno, error);
    if (!strstr(why.text, word))
        fail_msg("'%s' does not say '%s'", why.text, word);
}

#define DEALERS 24    /* of three sockets each, with their monitors, for which net.c adds 64 to the 8 */

static void test_refusals_say_why(void **state)
{
    struct world world;
    struct end tcp = {0}, ipc = {0};
    char at[128];
    (void)state;
    world_open(&world, 8);
    snprintf(at, sizeof at, "ipc://%s/taken", world.dir);
    open_end(&tcp, world.near, NET_ROUTER, ANY_PORT);
    open_end(&ipc, world.near, NET_ROUTER, at);
    refused(world.far, NET_LANE_OUT, net_endpoint(tcp.socket), EADDRINUSE, net_endpoint(tcp.socket));
    refused(world.far, NET_ROUTER, at, EADDRINUSE, at);
    refused(world.far, NET_ROUTER, "tcp://192.0.2.1:0", EADDRNOTAVAIL, "no such address");
    refused(world.far, NET_ROUTER, "tcp://no-such-host.invalid:0", ENODEV, "no such address");
    refused(world.far, NET_ROUTER, "ipc:///nonexistent/folder/x", ENOENT, "make it first");
    refused(world.far, NET_DEALER, "tcp://127.0.0.1:0", EINVAL, "port");
    refused(world.far, NET_DEALER, "tcp://127.0.0.1", EINVAL, "port is missing");
    refused(world.far, NET_DEALER, "127.0.0.1:5555", EINVAL, "tcp://HOST:PORT");
    struct end many[DEALERS] = {{0}};
    for (int i = 0; i < DEALERS; i++) {
        struct retry retry = {&many[i], world.far, NET_DEALER, at, &tcp};
        run_until(&world, try_to_open, &retry);
    }
    refused(world.far, NET_DEALER, at, EMFILE, "raise the limits");
    close_end(&tcp);
    close_end(&ipc);
    world_close(&world);
}

static void test_too_many_sockets_are_refused(void **state)
{
    struct loop *loop = loop_new();
    struct why why = {""};
    (void)state;
    assert_null(net_new(loop, &(struct net_config){.max_sockets = 1000000, .max_message = MAX_MESSAGE}, &why));
    assert_non_null(strstr(why.text, "1000000 sockets"));
    assert_null(net_new(loop, &(struct net_config){.max_sockets = 0, .max_message = MAX_MESSAGE}, &why));
    struct net *none = NULL;
    net_destroy(&none);
    loop_destroy(&loop);
}

static void test_localhost_and_ipv6(void **state)
{
    struct world world;
    struct end router = {0}, six = {0}, dealer = {0};
    struct why why;
    (void)state;
    world_open(&world, 8);
    open_end(&router, world.near, NET_ROUTER, "tcp://localhost:*");
    char at[64];
    snprintf(at, sizeof at, "tcp://127.0.0.1:%u", net_port(router.socket));
    assert_string_equal(net_endpoint(router.socket), at);
    struct net_callbacks callbacks = {.message = on_message, .arg = &six};
    six.socket = net_open(world.near, NET_ROUTER, "tcp://[::1]:0", &callbacks, &why);
    if (six.socket) {    /* A machine without IPv6 refuses it, in words. */
        open_end(&dealer, world.far, NET_DEALER, net_endpoint(six.socket));
        run_until(&world, is_up, &dealer);
        assert_int_equal(say(&dealer, 0, "hello"), 0);
        run_until(&world, heard_1, &six);
        assert_string_equal(six.address, "::1");
    } else
        assert_non_null(strstr(why.text, "[::1]"));
    close_end(&dealer);
    close_end(&six);
    close_end(&router);
    world_close(&world);
}

static void test_descriptors_close_on_exec(void **state)
{
    struct guarded guarded;
    (void)state;
    guarded_open(&guarded);
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)); ) {
        int fd = 0;
        for (const char *digit = entry->d_name; *digit >= '0' && *digit <= '9'; digit++)
            fd = fd * 10 + (*digit - '0');
        char path[64], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        bool ours = n > 0 && (strstr(target, "socket:") || strstr(target, "event"));
        if (fd > 2 && ours && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
            fail_msg("descriptor %d (%s) would be inherited by a handler", fd, target);
    }
    closedir(dir);
    guarded_close(&guarded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoint_words),
        cmocka_unit_test(test_endpoint_hosts),
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_random_bytes_disturb_nobody),
        cmocka_unit_test(test_too_large_message_is_refused),
        cmocka_unit_test(test_malformed_is_counted),
        cmocka_unit_test(test_callbacks_may_close),
        cmocka_unit_test(test_linger_sends_the_rest),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_too_many_sockets_are_refused),
        cmocka_unit_test(test_localhost_and_ipv6),
        cmocka_unit_test(test_descriptors_close_on_exec),
    };
    return cmocka_run_group_tests_name("net_edges", tests, NULL, NULL);
}
