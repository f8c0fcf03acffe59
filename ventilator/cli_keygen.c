/* keygen: makes a folder of keys for each role, adds and revokes single workers and clients.
 *
 * What is there stays: keys that others know already are never made anew, and one that was revoked doesn't come back by
 * itself, neither by --revoke nor by removing its file from an allow-list. A run that was broken off is completed by the
 * next one: a secret key is called own.key only when everybody who is to admit it does. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/net_keys.h"
#include "ventilator/cli.h"

struct keygen {
    struct string_list add, revoke;
    const char *dir;
};

#define AT(field) offsetof(struct keygen, field)
static const struct option_spec keygen_options[] = {
    {.name = "add", .type = OPT_STRINGS, .offset = AT(add), .value = "ROLE=NAME", .env = "",
     .help = "Makes keys for one more worker=NAME or client=NAME; may be given several times."},
    {.name = "revoke", .type = OPT_STRINGS, .offset = AT(revoke), .value = "ROLE=NAME", .env = "",
     .help = "Takes worker=NAME or client=NAME off the allow-lists; what is connected with that key is cut off. May be given several times."},
    {.name = NULL},
};
static const struct option_spec *const keygen_tables[] = {keygen_options, NULL};

const struct command_spec keygen_command = {
    .program = "ventilator", .name = "keygen", .arguments = "[options] DIR",
    .summary = "Makes keys for every role, a folder for each: give DIR/ROLE to each program as its --keys.",
    .details = "DIR/ventilator, DIR/sink, DIR/worker and DIR/client are what 'ventilator serve', 'sink', 'worker' and the client commands "
               "take as --keys (TARMAC_KEYS). Each has its own secret key (own.key, mode 0600), the public keys of whom it dials (known) "
               "and, for the ventilator and the sink, of whom they admit (allow). Run again, it keeps what is there and makes what is "
               "missing.\n\n"
               "--add worker=NAME makes DIR/worker-NAME, and writes its public key to the allow-lists below DIR/ventilator and DIR/sink; "
               "--revoke takes it off them. Both are noticed within seconds by a ventilator and a sink that use these folders; where "
               "they use copies, copy the allow folders.\n\n"
               "Exit codes: 0 done, 2 usage or a folder that can't be used, 6 standard output can't be written.",
    .tables = keygen_tables,
};

#define BEGUN "own.key.begun"

struct place {                       /* of one key pair */
    enum net_role role;
    char name[NET_KEY_NAME + 1];
    char dir[PATH_MAX - NET_KEY_NAME - 64];
};

enum state { MADE, THERE, ELSEWHERE, REVOKED };

static const enum net_role listeners[] = {ROLE_VENTILATOR, ROLE_SINK};
#define LISTENERS (sizeof listeners / sizeof *listeners)

/* ---- where things are ---- */

/* The first of a role has the folder of its role's name. */
static int place_of(const struct keygen *self, enum net_role role, const char *name, struct place *ret, struct why *why)
{
    const char *word = net_role_name(role);
    bool first = strcmp(name, word) == 0;
    *ret = (struct place){.role = role};
    snprintf(ret->name, sizeof ret->name, "%s", name);
    if (snprintf(ret->dir, sizeof ret->dir, "%s/%s%s%s", self->dir, word, first ? "" : "-", first ? "" : name) >= (int)sizeof ret->dir)
        return why_set(why, "%.100s…: the path is too long", self->dir);
    return 0;
}

static void inside(const struct place *place, const char *file, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s", place->dir, file);
}

/* Where a listener has this one's public key. */
static void admission(const struct keygen *self, enum net_role listener, const struct place *place, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s/allow/%ss/%s.pub", self->dir, net_role_name(listener), net_role_name(place->role), place->name);
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

static int make_dir(const char *path, mode_t mode, struct why *why)
{
    if (mkdir(path, mode) == 0 || errno == EEXIST)
        return 0;
    return why_set(why, "%.200s: the folder can't be made: %s", path, strerror(errno));
}

static int make_dir_in(const struct place *place, const char *name, struct why *why)
{
    char path[PATH_MAX];
    inside(place, name, path);
    return make_dir(path, 0755, why);
}

static bool listens(enum net_role role) { return role == ROLE_VENTILATOR || role == ROLE_SINK; }

static int make_dirs(const struct place *place, struct why *why)
{
    char list[32];
    if (make_dir(place->dir, 0700, why) < 0 || make_dir_in(place, "known", why) < 0)
        return -1;
    if (!listens(place->role))
        return 0;
    if (make_dir_in(place, "allow", why) < 0)
        return -1;
    for (int role = 0; role < NET_ROLES; role++) {
        snprintf(list, sizeof list, "allow/%ss", net_role_name((enum net_role)role));
        if (role != (int)place->role && make_dir_in(place, list, why) < 0)
            return -1;
    }
    return 0;
}

/* ---- a pair ---- */

/* Whether somebody below DIR has a public key of this one, whose secret key is not here. */
static bool is_known(const struct keygen *self, const struct place *place)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < LISTENERS; i++) {
        admission(self, listeners[i], place, path);
        if (is_there(path))
            return true;
    }
    for (int role = 0; listens(place->role) && role < NET_ROLES; role++) {
        snprintf(path, sizeof path, "%s/%s/known/%s.pub", self->dir, net_role_name((enum net_role)role), net_role_name(place->role));
        if (is_there(path))
            return true;
    }
    return false;
}

static int ensure_pair(const struct keygen *self, const struct place *place, struct net_pair *ret, enum state *ret_state, struct why *why)
{
    char key[PATH_MAX], begun[PATH_MAX], revoked[PATH_MAX];
    struct net_cert cert;
    inside(place, "own.key", key);
    inside(place, BEGUN, begun);
    inside(place, "revoked", revoked);
    *ret_state = is_there(revoked) ? REVOKED : is_there(key) ? THERE : is_there(begun) ? MADE : is_known(self, place) ? ELSEWHERE : MADE;
    if (*ret_state == ELSEWHERE || *ret_state == REVOKED)
        return 0;
    if (make_dirs(place, why) < 0)
        return -1;
    if (is_there(key) || is_there(begun)) {
        if (net_cert_read(is_there(key) ? key : begun, true, &cert, why) < 0)
            return -1;
        *ret = cert.pair;
        explicit_bzero(&cert, sizeof cert);
        return 0;
    }
    return net_pair_make(ret, why) < 0 ? -1 : net_cert_write(begun, place->role, place->name, ret, true, why);
}

static int write_public(const char *path, const struct place *place, const struct net_pair *pair, struct why *why)
{
    return is_there(path) ? 0 : net_cert_write(path, place->role, place->name, pair, false, why);
}

/* ROLE's folder gets the public key of a listener that it dials. */
static int copy_known(const struct keygen *self, const struct place *place, enum net_role listener, struct why *why)
{
    char from[PATH_MAX], to[PATH_MAX];
    struct net_cert cert;
    struct place other;
    enum net_role role;
    if (place_of(self, listener, net_role_name(listener), &other, why) < 0)
        return -1;
    snprintf(to, sizeof to, "%s/known/%s.pub", place->dir, net_role_name(listener));
    if (is_there(to) || place->role == listener)
        return 0;
    inside(&other, "own.pub", from);
    if (net_cert_read(from, false, &cert, why) < 0)
        return -1;
    if (net_role_parse(cert.role, &role) < 0 || role != listener)
        return why_set(why, "%.200s: is not the key of a %s", from, net_role_name(listener));
    return net_cert_write(to, listener, other.name, &cert.pair, false, why);
}

static int admit(const struct keygen *self, const struct place *place, const struct net_pair *pair, struct why *why)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < LISTENERS; i++) {
        admission(self, listeners[i], place, path);
        if (place->role != listeners[i] && write_public(path, place, pair, why) < 0)
            return -1;
    }
    return 0;
}

static int finish(const struct place *place, struct why *why)
{
    char begun[PATH_MAX], key[PATH_MAX];
    inside(place, BEGUN, begun);
    inside(place, "own.key", key);
    return rename(begun, key) == 0 ? 0 : why_set(why, "%.200s: can't be made: %s", key, strerror(errno));
}

/* "worker w1"; the first of each role is named as what it is. */
static void describe_owner(const struct place *place, char *out, size_t size)
{
    const char *role = net_role_name(place->role);
    if (strcmp(role, place->name) == 0)
        snprintf(out, size, "the %s", role);
    else
        snprintf(out, size, "%s %s", role, place->name);
}

static void tell(const struct place *place, enum state state)
{
    char whose[320];
    describe_owner(place, whose, sizeof whose);
    switch (state) {
    case MADE:
        printf("made     %s: keys of %s\n", place->dir, whose);
        return;
    case THERE:
        printf("kept     %s: has the keys of %s already\n", place->dir, whose);
        return;
    case ELSEWHERE:
        printf("kept     %s: has no own.key, and the key of %s is known to the others; it is where you took it\n", place->dir, whose);
        return;
    case REVOKED:
        printf("revoked  %s: the key of %s stays revoked; remove this folder to have new ones made\n", place->dir, whose);
        return;
    }
}

/* The pair of one, and its own public key; whoever is to know of it comes later, when all pairs are there. */
static int begin(const struct keygen *self, const struct place *place, struct net_pair *ret, enum state *ret_state, struct why *why)
{
    char path[PATH_MAX];
    if (ensure_pair(self, place, ret, ret_state, why) < 0)
        return -1;
    inside(place, "own.pub", path);
    return *ret_state == MADE || *ret_state == THERE ? write_public(path, place, ret, why) : 0;
}

static int complete(const struct keygen *self, const struct place *place, const struct net_pair *pair, enum state state, struct why *why)
{
    if (state == MADE || state == THERE) {
        for (size_t i = 0; i < LISTENERS; i++)
            if (copy_known(self, place, listeners[i], why) < 0)
                return -1;
    }
    if (state == MADE && (admit(self, place, pair, why) < 0 || finish(place, why) < 0))
        return -1;
    tell(place, state);
    return 0;
}

/* ---- what it does ---- */

static int make_all(const struct keygen *self, struct why *why)
{
    struct place places[NET_ROLES];
    struct net_pair pairs[NET_ROLES];
    enum state states[NET_ROLES];
    int r = 0;
    for (int role = 0; r == 0 && role < NET_ROLES; role++) {
        r = place_of(self, (enum net_role)role, net_role_name((enum net_role)role), &places[role], why);
        if (r == 0)
            r = begin(self, &places[role], &pairs[role], &states[role], why);
    }
    for (int role = 0; r == 0 && role < NET_ROLES; role++)
        r = complete(self, &places[role], &pairs[role], states[role], why);
    explicit_bzero(pairs, sizeof pairs);
    return r;
}

static int parse_who(const struct keygen *self, const char *flag, const char *text, struct place *ret, struct why *why)
{
    const char *equals = strchr(text, '=');
    char word[16];
    enum net_role role;
    snprintf(word, sizeof word, "%.*s", equals ? (int)(equals - text) : 0, text);
    if (net_role_parse(word, &role) < 0 || listens(role) || !net_key_name_ok(equals + 1))
        return why_set(why, "%s '%.100s': write worker=NAME or client=NAME, with a name of at most %d letters, digits, '_', '-' and '.'", flag, text,
                       NET_KEY_NAME);
    return place_of(self, role, equals + 1, ret, why);
}

/* Lists that are somewhere else can't be written here. */
static int check_lists(const struct keygen *self, struct why *why)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < LISTENERS; i++) {
        snprintf(path, sizeof path, "%s/%s/allow", self->dir, net_role_name(listeners[i]));
        if (!is_there(path))
            return why_set(why, "%.200s: there is no such folder: run 'ventilator keygen %.100s' first, or where the folders of the ventilator and the "
                           "sink are", path, self->dir);
    }
    return 0;
}

static int add_one(const struct keygen *self, const char *text, struct why *why)
{
    struct place place;
    struct net_pair pair;
    enum state state;
    int r = parse_who(self, "--add", text, &place, why);
    if (r == 0)
        r = begin(self, &place, &pair, &state, why);
    if (r == 0 && state == REVOKED)
        r = why_set(why, "--add %.100s: this key was revoked; remove %.200s to have new ones made, or choose another name", text, place.dir);
    if (r == 0)
        r = complete(self, &place, &pair, state, why);
    explicit_bzero(&pair, sizeof pair);
    return r;
}

static int mark_revoked(const struct place *place, struct why *why)
{
    char path[PATH_MAX];
    inside(place, "revoked", path);
    if (make_dir(place->dir, 0700, why) < 0)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return why_set(why, "%.200s: can't be made: %s", path, strerror(errno));
    close(fd);
    return 0;
}

/* The mark comes last: as long as it is missing, the same command finds something to do. */
static int revoke_one(const struct keygen *self, const char *text, struct why *why)
{
    struct place place;
    char path[PATH_MAX], mark[PATH_MAX];
    bool known = false;
    if (parse_who(self, "--revoke", text, &place, why) < 0)
        return -1;
    for (size_t i = 0; i < LISTENERS; i++) {
        admission(self, listeners[i], &place, path);
        if (unlink(path) == 0)
            known = true;
        else if (errno != ENOENT)
            return why_set(why, "%.200s: can't be removed: %s; the key is admitted still", path, strerror(errno));
    }
    inside(&place, "revoked", mark);
    if (!known && !is_there(mark))
        return why_set(why, "--revoke %.100s: there is no such key in the allow-lists below %.200s; look into its ventilator/allow", text, self->dir);
    if (mark_revoked(&place, why) < 0)
        return -1;
    printf("revoked  %s: %s\n", net_role_name(place.role), place.name);
    return 0;
}

/* Two of us at a time would make keys that nobody knows. */
static int lock(const char *dir, struct why *why)
{
    if (make_dir(dir, 0700, why) < 0)
        return -1;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        return fd;
    why_set(why, "%.200s: the folder can't be opened: %s", dir, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static int work(const struct keygen *self, struct why *why)
{
    bool single = self->add.n + self->revoke.n > 0;
    int fd = lock(self->dir, why), r = fd < 0 ? -1 : single ? check_lists(self, why) : make_all(self, why);
    for (size_t i = 0; r == 0 && i < self->add.n; i++)
        r = add_one(self, self->add.items[i], why);
    for (size_t i = 0; r == 0 && i < self->revoke.n; i++)
        r = revoke_one(self, self->revoke.items[i], why);
    if (fd >= 0)
        close(fd);
    return r;
}

int keygen_main(int argc, char **argv)
{
    struct keygen self = {0};
    struct why why;
    int rest, code = CLI_OK;
    bool dashes;
    if (!cli_parse_into(&keygen_command, argc, argv, &self, &rest, &dashes, &code))
        return code;
    if (rest + 1 != argc || argv[rest][0] == '\0') {
        cli_refuse_usage("keygen takes one folder, such as 'ventilator keygen ./keys'");
        code = EXIT_USAGE;
    } else {
        self.dir = argv[rest];
        if (work(&self, &why) < 0) {
            cli_refuse_usage(why.text);
            code = EXIT_USAGE;
        }
    }
    options_release(&keygen_command, &self);
    return code;
}
