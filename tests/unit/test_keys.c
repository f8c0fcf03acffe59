/* Keys: certificates and folders of them, who is let in, who is cut off. */
#include "tests/unit/net_world.h"

#include "tests/unit/keys_world.h"

#include <czmq.h>
#undef LOG_INFO      /* czmq.h brings syslog.h along; these two are ours */
#undef LOG_DEBUG
#include <sys/socket.h>

#include "common/net_inside.h"

/* ---- certificates ---- */

static void a_certificate_is_one_of_czmq(void **state)
{
    (void)state;
    struct folders f;
    struct net_cert cert;
    struct why why = {""};
    folders_make(&f);
    const char *ours = at(f.dir, "sink/own.key"), *theirs = at(f.dir, "theirs");
    zcert_t *read = zcert_load(ours);
    assert_non_null(read);
    assert_string_equal(zcert_public_txt(read), f.pairs[ROLE_SINK].public_key);
    assert_string_equal(zcert_secret_txt(read), f.pairs[ROLE_SINK].secret_key);
    assert_string_equal(zcert_meta(read, "role"), "sink");
    zcert_destroy(&read);

    zcert_t *made = zcert_new();
    zcert_set_meta(made, "name", "%s", "ada");
    assert_int_equal(zcert_save(made, theirs), 0);
    assert_int_equal(net_cert_read(theirs, false, &cert, &why), 0);
    assert_string_equal(cert.pair.public_key, zcert_public_txt(made));
    assert_string_equal(cert.pair.secret_key, "");
    assert_string_equal(cert.name, "ada");
    assert_int_equal(net_cert_read(at(f.dir, "theirs_secret"), true, &cert, &why), 0);
    assert_string_equal(cert.pair.secret_key, zcert_secret_txt(made));
    zcert_destroy(&made);
    folders_remove(&f);
}

static void bad_cert(const char *path, bool secret, const char *word)
{
    struct net_cert cert = {.name = "untouched"};
    struct why why = {""};
    assert_int_equal(net_cert_read(path, secret, &cert, &why), -1);
    assert_string_equal(cert.name, "untouched");
    if (!strstr(why.text, word) || !strstr(why.text, path))
        fail_msg("'%s' should name %s and say '%s'", why.text, path, word);
}

static void bad_certificates_are_refused_in_words(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "curve", "curve\n    public-key", "curve\n    public-key = \"\"\n", "curve\n    public-key = \"short\"\n",
        "metadata\n    public-key = \"eP1dc*Gx$kGR=sr7{RoL!9sCrhU*i/1[N$=3&eyN\"\n",
        "curve\n    public-key = \"eP1dc*Gx$kGR=sr7{RoL!9sCrhU*i/1[N$=3&ey~\"\n",
        "curve\n    public-key = \"eP1dc*Gx$kGR=sr7{RoL!9sCrhU*i/1[N$=3&eyNN\"\n", "\xff\xfe\n  = = =\n\"\n",
        "curve\n    public-key = \"#####################%%%%%%%%%%%%%%%%%%#\"\n",
    };
    struct folders f;
    folders_make(&f);
    const char *path = at(f.dir, "bad");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put_file(path, texts[i], 0600);
        bad_cert(path, false, "has no public key in it");
        bad_cert(path, true, "has no public key in it");
    }
    put_file(path, "curve\n    public-key = \"eP1dc*Gx$kGR=sr7{RoL!9sCrhU*i/1[N$=3&eyN\"\n    secret-key = \"x\"\n", 0600);
    bad_cert(path, true, "has no secret key in it");
    struct net_pair crossed = f.pairs[ROLE_SINK];
    memcpy(crossed.public_key, f.pairs[ROLE_CLIENT].public_key, NET_KEY_TEXT);
    write_cert(path, ROLE_SINK, "x", &crossed, true);
    bad_cert(path, true, "is not that of its secret key");
    bad_cert(at(f.dir, "nowhere"), true, "can't be read");
    bad_cert(f.dir, false, "is no certificate");
    assert_int_equal(mkfifo(at(f.dir, "fifo"), 0600), 0);
    bad_cert(at(f.dir, "fifo"), false, "is no certificate");
    char *large = calloc(1, 20001);
    assert_non_null(large);
    memset(large, '#', 20000);
    put_file(path, large, 0600);
    free(large);
    bad_cert(path, false, "is no certificate");
    folders_remove(&f);
}

static void a_secret_is_nobody_elses(void **state)
{
    (void)state;
    static const mode_t modes[] = {0640, 0604, 0660, 0601, 0644};
    struct folders f;
    struct net_cert cert;
    struct why why = {""};
    folders_make(&f);
    const char *key = at(f.dir, "worker/own.key");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(key, modes[i]), 0);
        bad_cert(key, true, "chmod 600");
        assert_null(net_keys_read(at(f.dir, "worker"), ROLE_WORKER, &why));
    }
    assert_int_equal(chmod(key, 0400), 0);
    assert_int_equal(net_cert_read(key, true, &cert, &why), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(key, 12345, 0), 0);
        bad_cert(key, true, "belongs to user 12345");
    }
    folders_remove(&f);
}

static void names_are_names(void **state)
{
    (void)state;
    enum net_role role = ROLE_SINK;
    assert_true(net_key_name_ok("a") && net_key_name_ok("host-1.example_x"));
    assert_false(net_key_name_ok("") || net_key_name_ok(".x") || net_key_name_ok("-x") || net_key_name_ok("a/b") || net_key_name_ok("ä"));
    assert_false(net_key_name_ok("0123456789012345678901234567890123456789012345678901234567890123456789"));
    assert_int_equal(net_role_parse("worker", &role), 0);
    assert_int_equal(role, ROLE_WORKER);
    assert_int_equal(net_role_parse("workers", &role), -1);
}

/* ---- folders ---- */

static void refused_folder(const struct folders *f, enum net_role role, const char *folder, const char *word)
{
    struct why why = {""};
    assert_null(net_keys_read(at(f->dir, folder), role, &why));
    if (!strstr(why.text, word))
        fail_msg("'%s' should say '%s'", why.text, word);
}

static void a_folder_lacks_nothing(void **state)
{
    (void)state;
    struct folders f;
    folders_make(&f);
    struct net_keys *keys = read_keys(&f, ROLE_WORKER);
    assert_false(net_keys_listens(keys));
    assert_string_equal(net_keys_known(keys, ROLE_SINK), f.pairs[ROLE_SINK].public_key);
    assert_string_equal(net_keys_known(keys, ROLE_VENTILATOR), f.pairs[ROLE_VENTILATOR].public_key);
    assert_null(net_keys_known(keys, ROLE_CLIENT));
    assert_null(net_keys_known(keys, NET_ROLES));
    assert_null(net_keys_find(keys, ~0u, f.pairs[ROLE_WORKER].public_key));
    net_keys_destroy(&keys);
    assert_null(keys);
    refused_folder(&f, ROLE_CLIENT, "worker", "keys of a worker, and this is a client");
    refused_folder(&f, ROLE_WORKER, "nowhere", "own.key");
    assert_int_equal(unlink(at(f.dir, "worker/known/sink.pub")), 0);
    refused_folder(&f, ROLE_WORKER, "worker", "known/sink.pub");
    put_file(at(f.dir, "sink/allow/clients/bad.pub"), "x", 0644);
    refused_folder(&f, ROLE_SINK, "sink", "allow/clients/bad.pub");
    assert_int_equal(nftw(at(f.dir, "ventilator/allow/sinks"), remove_key_file, 16, FTW_DEPTH | FTW_PHYS), 0);
    refused_folder(&f, ROLE_VENTILATOR, "ventilator", "allow/sinks");
    folders_remove(&f);
}

struct told {
    char revoked[256];
    int complaints;
    char complaint[400];
};

static void on_revoked(void *arg, const struct net_identity *who)
{
    struct told *told = arg;
    size_t len = strlen(told->revoked);
    snprintf(told->revoked + len, sizeof told->revoked - len, "%s/%s ", net_role_name(who->role), who->name);
}

static void on_complaint(void *arg, const char *sentence)
{
    struct told *told = arg;
    told->complaints++;
    snprintf(told->complaint, sizeof told->complaint, "%s", sentence);
}

static struct told reread(struct net_keys *keys)
{
    struct told told = {.revoked = ""};
    net_keys_reread(keys, on_revoked, on_complaint, &told);
    return told;
}

static void lists_are_read_again(void **state)
{
    (void)state;
    struct folders f;
    struct net_pair other;
    struct why why;
    folders_make(&f);
    assert_int_equal(net_pair_make(&other, &why), 0);
    struct net_keys *keys = read_keys(&f, ROLE_VENTILATOR);
    assert_true(net_keys_listens(keys));
    const char *first = f.pairs[ROLE_WORKER].public_key, *list = at(f.dir, "ventilator/allow/workers");
    assert_int_equal(net_keys_find(keys, ~0u, first)->role, ROLE_WORKER);
    assert_string_equal(net_keys_find(keys, ~0u, first)->name, "first");
    assert_null(net_keys_find(keys, ~ROLE_BIT(ROLE_WORKER), first));
    assert_null(net_keys_find(keys, ~0u, other.public_key));

    write_cert(at(list, "other.pub"), ROLE_WORKER, "x", &other, false);
    put_file(at(list, ".hidden.pub"), "x", 0644);
    put_file(at(list, "notes.txt"), "x", 0644);
    assert_string_equal(reread(keys).revoked, "");
    const struct net_identity *who = net_keys_find(keys, ~0u, other.public_key);
    assert_non_null(who);
    assert_string_equal(who->name, "other");
    assert_int_equal(net_keys_allowed(keys, ROLE_WORKER), 2);

    assert_int_equal(unlink(at(list, "other.pub")), 0);
    assert_string_equal(reread(keys).revoked, "worker/other ");
    assert_string_equal(reread(keys).revoked, "");
    assert_false(who->allowed);
    assert_null(net_keys_find(keys, ~0u, other.public_key));
    /* It comes back as the one that it was. */
    write_cert(at(list, "other.pub"), ROLE_WORKER, "x", &other, false);
    reread(keys);
    assert_ptr_equal(net_keys_find(keys, ~0u, other.public_key), who);

    /* What can't be read admits nobody, and what can still does. */
    put_file(at(list, "other.pub"), "curve\n", 0644);
    struct told told = reread(keys);
    assert_string_equal(told.revoked, "worker/other ");
    assert_int_equal(told.complaints, 1);
    assert_non_null(strstr(told.complaint, "other.pub"));
    /* A folder that is gone changes nothing. */
    assert_int_equal(rename(list, at(f.dir, "aside")), 0);
    told = reread(keys);
    assert_string_equal(told.revoked, "");
    assert_int_equal(told.complaints, 1);
    assert_int_equal(reread(keys).complaints, 0);
    assert_non_null(net_keys_find(keys, ~0u, first));
    net_keys_destroy(&keys);
    folders_remove(&f);
}

/* ---- ZAP ---- */

#define PART(text) {(const uint8_t *)(text), sizeof (text) - 1}

static void malformed_requests_are_refused(void **state)
{
    (void)state;
    static char long_text[300], key[33] = "01234567890123456789012345678901";
    memset(long_text, 'x', sizeof long_text - 1);
    const struct zap_part good[] = {PART("1.0"), PART("1"), PART("clients/1"), PART("127.0.0.1"), PART(""), PART("CURVE"), {(uint8_t *)key, 32}};
    const struct { size_t part; struct zap_part is; } bad[] = {
        {0, PART("1.1")}, {0, PART("")}, {1, {(uint8_t *)long_text, 256}}, {2, {(uint8_t *)long_text, 200}}, {2, PART("a\nb")}, {3, PART("\x1b[2J")},
        {3, {(uint8_t *)long_text, 100}}, {5, PART("NULL")}, {5, PART("PLAIN")}, {5, PART("CURVED")}, {6, {(uint8_t *)key, 31}}, {6, {(uint8_t *)long_text, 33}}, {6, PART("")},
    };
    struct zap_request request = {.domain = "untouched"};
    struct why why = {""};
    for (size_t n = 0; n < 7; n++)
        assert_int_equal(zap_read(good, n, &request, &why), -1);
    struct zap_part parts[8];
    memcpy(parts, good, sizeof good);
    parts[7] = (struct zap_part)PART("more");
    assert_int_equal(zap_read(parts, 8, &request, &why), -1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(parts, good, sizeof good);
        parts[bad[i].part] = bad[i].is;
        why.text[0] = '\0';
        assert_int_equal(zap_read(parts, 7, &request, &why), -1);
        assert_string_not_equal(why.text, "");
    }
    assert_string_equal(request.domain, "untouched");
    assert_int_equal(zap_read(good, 7, &request, &why), 0);
    assert_string_equal(request.domain, "clients/1");
    assert_string_equal(request.address, "127.0.0.1");
    char text[NET_KEY_TEXT];
    net_key_text((const uint8_t *)key, text);
    assert_string_equal(request.key, text);
}

static void each_port_has_its_roles(void **state)
{
    (void)state;
    struct folders f;
    struct why why = {""};
    folders_make(&f);
    struct net_keys *keys = read_keys(&f, ROLE_VENTILATOR);
    struct zap_request request = {.domain = "workers/1"};
    for (unsigned admits = 0; admits < 1u << NET_ROLES; admits++) {
        struct net_socket port = {.access = {.admits = admits}};
        for (int role = ROLE_SINK; role < NET_ROLES; role++) {
            memcpy(request.key, f.pairs[role].public_key, NET_KEY_TEXT);
            const struct net_identity *who = zap_judge(keys, &port, &request, &why);
            assert_int_equal(who != NULL, (admits & ROLE_BIT(role)) != 0);
        }
        memcpy(request.key, f.pairs[ROLE_VENTILATOR].public_key, NET_KEY_TEXT);
        assert_null(zap_judge(keys, &port, &request, &why));
    }
    memcpy(request.key, f.pairs[ROLE_WORKER].public_key, NET_KEY_TEXT);
    assert_null(zap_judge(keys, NULL, &request, &why));
    struct net_identity another = {.role = ROLE_WORKER};
    struct net_socket lane = {.access = {.admits = ROLE_BIT(ROLE_WORKER), .only = &another}};
    assert_null(zap_judge(keys, &lane, &request, &why));
    assert_non_null(strstr(why.text, "another worker"));
    lane.access.only = net_keys_find(keys, ~0u, request.key);
    assert_non_null(zap_judge(keys, &lane, &request, &why));
    net_keys_destroy(&keys);
    folders_remove(&f);
}

/* ---- over sockets ---- */

struct keyed {
    struct folders f;
    struct loop *loop;
    struct net *near, *far;              /* of the ventilator; of somebody else */
    struct world world;
    struct end server, client;
    char refusal[200];
    const struct net_identity *who;
};

static struct net *keyed_net(struct loop *loop, struct net_keys *keys)
{
    struct why why = {""};
    struct net *net = net_new(loop, &(struct net_config){.max_sockets = 32, .max_message = MAX_MESSAGE, .keys = keys}, &why);
    if (!net)
        fail_msg("%s", why.text);
    return net;
}

/* far: the keys of this role; NET_ROLES: none. */
static void keyed_open(struct keyed *k, enum net_role far)
{
    *k = (struct keyed){.refusal = ""};
    folders_make(&k->f);
    k->world.loop = k->loop = loop_new();
    assert_non_null(k->loop);
    k->near = keyed_net(k->loop, read_keys(&k->f, ROLE_VENTILATOR));
    k->far = keyed_net(k->loop, far == NET_ROLES ? NULL : read_keys(&k->f, far));
    assert_int_equal(net_has_keys(k->near), true);
    k->world.check = (struct loop_hook){.turn = check, .arg = &k->world};
    k->world.bound = (struct loop_timer){.fire = too_late, .arg = &k->world};
    loop_add_hook(k->loop, &k->world.check);
}

static void keyed_close(struct keyed *k)
{
    close_end(&k->server);
    close_end(&k->client);
    net_destroy(&k->near);
    net_destroy(&k->far);
    loop_remove_hook(k->loop, &k->world.check);
    loop_destroy(&k->loop);
    folders_remove(&k->f);
}

static void hear(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct keyed *k = arg;
    k->who = message->who;
    on_message(&k->server, socket, message);
}

static void on_refused(void *arg, struct net_socket *socket, const char *sentence)
{
    struct keyed *k = arg;
    assert_string_equal(sentence, net_refusal(socket));
    snprintf(k->refusal, sizeof k->refusal, "%s", sentence);
}

static void up_or_down(void *arg, struct net_socket *socket, bool up)
{
    on_up(&((struct keyed *)arg)->client, socket, up);
}

static void lane_up_or_down(void *arg, struct net_socket *socket, bool up)
{
    on_up(&((struct keyed *)arg)->server, socket, up);
}

static void client_message(void *arg, struct net_socket *socket, const struct net_message *message)
{
    on_message(&((struct keyed *)arg)->client, socket, message);
}

static void serve(struct keyed *k, enum net_kind kind, const struct net_access *access)
{
    struct why why = {""};
    struct net_callbacks callbacks = {.message = hear, .up = lane_up_or_down, .arg = k};
    k->server.socket = net_open_for(k->near, kind, ANY_PORT, access, &callbacks, &why);
    if (!k->server.socket)
        fail_msg("%s", why.text);
}

static void dial(struct keyed *k, enum net_kind kind)
{
    struct why why = {""};
    struct net_callbacks callbacks = {.message = client_message, .up = up_or_down, .refused = on_refused, .arg = k};
    k->client.socket = net_open_for(k->far, kind, net_endpoint(k->server.socket), &(struct net_access){.dials = ROLE_VENTILATOR}, &callbacks, &why);
    if (!k->client.socket)
        fail_msg("%s", why.text);
}

static bool has_refusal(void *arg) { return ((struct keyed *)arg)->refusal[0] != '\0'; }
static bool is_gone(void *arg) { return ((struct keyed *)arg)->client.downs >= 1; }

static const struct net_access for_clients = {.port = "clients", .admits = ROLE_BIT(ROLE_CLIENT)};

static void messages_say_whose_they_are(void **state)
{
    (void)state;
    struct keyed k;
    keyed_open(&k, ROLE_CLIENT);
    serve(&k, NET_ROUTER, &for_clients);
    dial(&k, NET_DEALER);
    run_until(&k.world, is_up, &k.client);
    assert_int_equal(say(&k.client, 0, "hello"), 0);
    run_until(&k.world, heard_1, &k.server);
    assert_non_null(k.who);
    assert_int_equal(k.who->role, ROLE_CLIENT);
    assert_string_equal(k.who->name, "first");
    assert_string_equal(k.server.address, "127.0.0.1");
    assert_int_equal(say(&k.server, k.server.peer, "welcome"), 0);
    run_until(&k.world, heard_1, &k.client);
    assert_string_equal(k.client.head, "welcome");
    assert_string_equal(k.refusal, "");
    keyed_close(&k);
}

static void strangers_hear_why(void **state)
{
    (void)state;
    static const struct { enum net_role far; enum net_role known; const char *words; } cases[] = {
        {NET_ROLES, NET_ROLES, "takes connections with keys only"}, {ROLE_WORKER, NET_ROLES, "has refused our key"},
        {ROLE_CLIENT, ROLE_SINK, "may not be its own"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct keyed k;
        keyed_open(&k, cases[i].far);
        if (cases[i].known != NET_ROLES) {
            net_destroy(&k.far);
            write_cert(at(k.f.dir, "client/known/ventilator.pub"), ROLE_VENTILATOR, "x", &k.f.pairs[cases[i].known], false);
            k.far = keyed_net(k.loop, read_keys(&k.f, ROLE_CLIENT));
        }
        serve(&k, NET_ROUTER, &for_clients);
        dial(&k, NET_DEALER);
        run_until(&k.world, has_refusal, &k);
        assert_non_null(strstr(k.refusal, cases[i].words));
        assert_int_equal(k.server.messages + k.client.ups, 0);
        keyed_close(&k);
    }
}

/* Once it is admitted, it comes in by itself: libzmq alone would never try again. */
static void who_is_added_gets_in(void **state)
{
    (void)state;
    struct keyed k;
    keyed_open(&k, ROLE_CLIENT);
    net_destroy(&k.near);
    const char *list = at(k.f.dir, "ventilator/allow/clients/first.pub");
    assert_int_equal(unlink(list), 0);
    k.near = keyed_net(k.loop, read_keys(&k.f, ROLE_VENTILATOR));
    serve(&k, NET_ROUTER, &for_clients);
    dial(&k, NET_DEALER);
    run_until(&k.world, has_refusal, &k);
    write_cert(list, ROLE_CLIENT, "x", &k.f.pairs[ROLE_CLIENT], false);
    run_until(&k.world, is_up, &k.client);
    assert_string_equal(net_refusal(k.client.socket), "");
    keyed_close(&k);
}

static void who_is_revoked_is_cut_off(void **state)
{
    (void)state;
    static const struct { enum net_kind server, client; enum net_role role; } kinds[] = {
        {NET_ROUTER, NET_DEALER, ROLE_CLIENT}, {NET_RESULTS_IN, NET_RESULTS_OUT, ROLE_WORKER},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct keyed k;
        char list[64];
        keyed_open(&k, kinds[i].role);
        serve(&k, kinds[i].server, &(struct net_access){.port = "x", .admits = ROLE_BIT(kinds[i].role)});
        dial(&k, kinds[i].client);
        run_until(&k.world, is_up, &k.client);
        assert_int_equal(say(&k.client, 0, "hello"), 0);
        run_until(&k.world, heard_1, &k.server);
        snprintf(list, sizeof list, "ventilator/allow/%ss/first.pub", net_role_name(kinds[i].role));
        assert_int_equal(unlink(at(k.f.dir, list)), 0);
        run_until(&k.world, is_gone, &k);
        run_until(&k.world, has_refusal, &k);
        assert_int_equal(k.server.messages, 1);
        keyed_close(&k);
    }
}

static void a_lane_is_of_one_key(void **state)
{
    (void)state;
    struct keyed k;
    keyed_open(&k, ROLE_WORKER);
    struct net_access lane = {.port = "lane", .admits = ROLE_BIT(ROLE_WORKER), .only = net_keys_find(k.near->keys, ~0u, k.f.pairs[ROLE_WORKER].public_key)};
    assert_non_null(lane.only);
    serve(&k, NET_LANE_OUT, &lane);
    dial(&k, NET_LANE_IN);
    run_until(&k.world, is_up, &k.server);
    assert_int_equal(say(&k.server, 0, "open"), 0);
    run_until(&k.world, heard_1, &k.client);
    assert_int_equal(unlink(at(k.f.dir, "ventilator/allow/workers/first.pub")), 0);
    run_until(&k.world, is_down, &k.server);
    assert_int_equal(say(&k.server, 0, "too late"), -EAGAIN);
    keyed_close(&k);
}

static void without_access_nobody_gets_in(void **state)
{
    (void)state;
    struct keyed k;
    struct why why = {""};
    struct net_callbacks callbacks = {.message = hear, .arg = &k};
    keyed_open(&k, ROLE_CLIENT);
    assert_null(net_open(k.far, NET_DEALER, "tcp://127.0.0.1:9", &callbacks, &why));
    assert_non_null(strstr(why.text, "no public key"));
    k.server.socket = net_open(k.near, NET_ROUTER, ANY_PORT, &callbacks, &why);
    assert_non_null(k.server.socket);
    dial(&k, NET_DEALER);
    run_until(&k.world, has_refusal, &k);
    keyed_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_is_one_of_czmq),
        cmocka_unit_test(bad_certificates_are_refused_in_words),
        cmocka_unit_test(a_secret_is_nobody_elses),
        cmocka_unit_test(names_are_names),
        cmocka_unit_test(a_folder_lacks_nothing),
        cmocka_unit_test(lists_are_read_again),
        cmocka_unit_test(malformed_requests_are_refused),
        cmocka_unit_test(each_port_has_its_roles),
        cmocka_unit_test(messages_say_whose_they_are),
        cmocka_unit_test(strangers_hear_why),
        cmocka_unit_test(who_is_added_gets_in),
        cmocka_unit_test(who_is_revoked_is_cut_off),
        cmocka_unit_test(a_lane_is_of_one_key),
        cmocka_unit_test(without_access_nobody_gets_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
