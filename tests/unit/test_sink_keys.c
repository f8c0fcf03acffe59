/* A sink with keys: workers report, the ventilator closes, and neither does what is the other's. */
#include "tests/unit/sink_world.h"

#include "tests/unit/keys_world.h"

struct keyed {
    struct folders f;
    struct world *w;
    struct net *of_worker, *of_client;
    struct net_socket *worker, *ventilator;      /* what pushes results */
};

static struct net *keyed_net(struct keyed *k, enum net_role role)
{
    struct why why = {""};
    struct net *net = net_new(k->w->loop, &(struct net_config){.max_sockets = 16, .max_message = WIRE_MESSAGE, .keys = read_keys(&k->f, role)}, &why);
    if (!net)
        fail_msg("%s", why.text);
    return net;
}

static struct net_socket *push(struct keyed *k, struct net *net)
{
    const struct net_callbacks callbacks = {.up = any_up, .arg = k->w};
    struct why why;
    struct net_socket *socket = net_open_for(net, NET_RESULTS_OUT, k->w->results, &(struct net_access){.dials = ROLE_SINK}, &callbacks, &why);
    assert_non_null(socket);
    return socket;
}

/* The world's own net is without keys: another takes its place, that of the ventilator. */
static void give_keys(struct keyed *k)
{
    struct world *w = k->w;
    struct why why;
    net_destroy(&w->net);
    w->net = keyed_net(k, ROLE_VENTILATOR);
    k->of_worker = keyed_net(k, ROLE_WORKER);
    k->of_client = keyed_net(k, ROLE_CLIENT);
    const struct net_callbacks control = {.message = from_sink, .arg = w}, query = {.message = from_query, .up = any_up, .arg = w};
    w->control = net_open_for(w->net, NET_ROUTER, w->ventilator, &(struct net_access){.port = "workers", .admits = ROLE_BIT(ROLE_SINK)}, &control, &why);
    w->client = net_open_for(k->of_client, NET_DEALER, w->query, &(struct net_access){.dials = ROLE_SINK}, &query, &why);
    assert_true(w->control && w->client);
    k->ventilator = push(k, w->net);
    w->worker = k->worker = push(k, k->of_worker);
    assert_int_equal(setenv("TARMAC_KEYS", at(k->f.dir, "sink"), 1), 0);
}

static void each_role_brings_its_own_results(void **state)
{
    struct keyed k = {.w = world_without_sink()};
    (void)state;
    folders_make(&k.f);
    give_keys(&k);
    struct world *w = k.w;
    start_sink(w);
    client_hello(w, WIRE_MAJOR);
    send_register(w, 20);
    wait_heard(w, "welcome");
    wait_vent(w, "registered");
    SUBSCRIBE(w, .follow = true, .wait = true);
    wait_until(w, net_is_up(k.ventilator));
    send_closing(w, 0, 20);                  /* of the worker: nobody believes it … */
    deliver(w, 5, 5);                        /* … and what it may say, it may say still */
    wait_heard(w, "row 5+5");
    w->worker = k.ventilator;
    deliver(w, 10, 5);
    send_closing(w, 0, 20);
    wait_heard(w, "end");
    assert_null(strstr(w->heard.bytes, "row 10+5"));
    assert_non_null(strstr(w->heard.bytes, "row 5+5; closing 0+20; end 20 complete; "));
    assert_int_equal(w->end->counts[WIRE__VERDICT__OK], 5);
    stop_sink(w);
    unsetenv("TARMAC_KEYS");
    net_destroy(&k.of_worker);
    net_destroy(&k.of_client);
    world_destroy(w);
    folders_remove(&k.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_role_brings_its_own_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
