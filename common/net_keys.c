/* A role's folder of keys in memory. Identities stay for good, once seen: messages, lanes and connections point to them,
 * and a revoked one is told by its mark. */
#include "common/net_keys.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define HASH_NONFATAL_OOM 1          /* a failed HASH_ADD leaves the handle's tbl NULL */
#include <uthash.h>

#define PUB ".pub"
#define FILES_MOST 65536u            /* of one allow-list */
#define SETTLED_S 3                  /* a folder that changed later may have changed again in the same tick of its clock */

/* Who of the others dials whom, and so who needs what. */
static const struct needs { unsigned dials, admits; } needs[] = {
    [ROLE_VENTILATOR] = {ROLE_BIT(ROLE_SINK), ROLE_BIT(ROLE_CLIENT) | ROLE_BIT(ROLE_WORKER) | ROLE_BIT(ROLE_SINK)},
    [ROLE_SINK]       = {ROLE_BIT(ROLE_VENTILATOR), ROLE_BIT(ROLE_CLIENT) | ROLE_BIT(ROLE_WORKER) | ROLE_BIT(ROLE_VENTILATOR)},
    [ROLE_WORKER]     = {ROLE_BIT(ROLE_VENTILATOR) | ROLE_BIT(ROLE_SINK), 0},
    [ROLE_CLIENT]     = {ROLE_BIT(ROLE_VENTILATOR) | ROLE_BIT(ROLE_SINK), 0},
};

struct entry {
    UT_hash_handle hh;
    char handle[1 + NET_KEY_TEXT];   /* the role as a letter, the key */
    struct net_identity who;
    bool seen;                       /* in the reading that goes on */
};

struct list {                        /* the folder of an allow-list */
    char path[PATH_MAX];
    struct timespec changed;
    ino_t inode;
    bool settled, said;
    size_t n;
};

struct net_keys {
    char dir[PATH_MAX - 64];
    enum net_role role;
    struct net_pair own;
    char known[NET_ROLES][NET_KEY_TEXT];
    struct list lists[NET_ROLES];
    struct entry *entries;
};

/* ---- identities ---- */

static void handle_of(enum net_role role, const char *key, char ret[1 + NET_KEY_TEXT])
{
    ret[0] = (char)('a' + role);
    snprintf(ret + 1, NET_KEY_TEXT, "%s", key);
}

static struct entry *find(const struct net_keys *self, enum net_role role, const char *key)
{
    char handle[1 + NET_KEY_TEXT];
    struct entry *entry;
    handle_of(role, key, handle);
    HASH_FIND_STR(self->entries, handle, entry);
    return entry;
}

static struct entry *add(struct net_keys *self, enum net_role role, const char *name, const char *key)
{
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->who.role = role;
    snprintf(entry->who.key, sizeof entry->who.key, "%s", key);
    snprintf(entry->who.name, sizeof entry->who.name, "%s", name);
    handle_of(role, key, entry->handle);
    HASH_ADD_STR(self->entries, handle, entry);
    if (entry->hh.tbl)
        return entry;
    free(entry);
    return NULL;
}

const struct net_identity *net_keys_find(const struct net_keys *self, unsigned roles, const char *key)
{
    for (int role = 0; role < NET_ROLES; role++) {
        struct entry *entry = roles & ROLE_BIT(role) ? find(self, (enum net_role)role, key) : NULL;
        if (entry && entry->who.allowed)
            return &entry->who;
    }
    return NULL;
}

/* ---- allow-lists ---- */

struct teller {
    void (*revoked)(void *arg, const struct net_identity *who);
    void (*complain)(void *arg, const char *sentence);
    void *arg;
};

/* "NAME.pub" into out; false for other files, such as one that is being written. */
static bool name_of(const char *file, char out[NET_KEY_NAME + 1])
{
    size_t len = strlen(file);
    if (len <= strlen(PUB) || len - strlen(PUB) > NET_KEY_NAME || strcmp(file + len - strlen(PUB), PUB) != 0)
        return false;
    snprintf(out, NET_KEY_NAME + 1, "%.*s", (int)(len - strlen(PUB)), file);
    return net_key_name_ok(out);
}

/* What a file said. UNSURE: it may well be there and good, but we can't tell now. */
enum taken { TAKEN, BAD, UNSURE };

static enum taken not_taken(int error)
{
    switch (error) {
    case EMFILE: case ENFILE: case ENOMEM: case EIO: case EINTR:
        return UNSURE;
    case ENOENT:
        return TAKEN;                /* gone since the folder was read: that is an answer too */
    default:
        return BAD;
    }
}

static enum taken take_file(struct net_keys *self, enum net_role role, const char *file, const struct teller *tell)
{
    char path[PATH_MAX + NAME_MAX + 2], name[NET_KEY_NAME + 1];
    struct net_cert cert;
    struct why why;
    if (!name_of(file, name))
        return TAKEN;
    snprintf(path, sizeof path, "%s/%s", self->lists[role].path, file);
    if (net_cert_read(path, false, &cert, &why) < 0) {
        enum taken taken = not_taken(errno);
        if (taken != TAKEN)
            tell->complain(tell->arg, why.text);
        return taken;
    }
    struct entry *entry = find(self, role, cert.pair.public_key);
    if (!entry && !(entry = add(self, role, name, cert.pair.public_key))) {
        tell->complain(tell->arg, "there is no memory for another key of an allow-list");
        return UNSURE;
    }
    entry->seen = entry->who.allowed = true;
    self->lists[role].n++;
    return TAKEN;
}

static void sweep(struct net_keys *self, enum net_role role, const struct teller *tell)
{
    for (struct entry *entry = self->entries; entry; entry = entry->hh.next) {
        if (entry->who.role != role || entry->seen || !entry->who.allowed)
            continue;
        entry->who.allowed = false;
        tell->revoked(tell->arg, &entry->who);
    }
}

/* Whether each file could be read. A folder that can't be read has nothing to say about who is in it, and nobody is
 * revoked because descriptors or memory have run out. */
static bool read_list(struct net_keys *self, enum net_role role, const struct teller *tell, struct why *why)
{
    struct list *list = &self->lists[role];
    const struct dirent *file;
    unsigned most = FILES_MOST;
    bool good = true, sure = true;
    DIR *dir = opendir(list->path);
    if (!dir) {
        why_set(why, "%.200s: the list of %ss that may connect can't be read: %s; 'ventilator keygen' makes it", list->path, net_role_name(role),
                strerror(errno));
        return false;
    }
    for (struct entry *entry = self->entries; entry; entry = entry->hh.next)
        entry->seen = false;
    list->n = 0;
    while ((file = readdir(dir)) && most-- > 0) {
        enum taken taken = take_file(self, role, file->d_name, tell);
        good = good && taken == TAKEN;
        sure = sure && taken != UNSURE;
    }
    closedir(dir);
    why->text[0] = '\0';
    if (sure)
        sweep(self, role, tell);
    return good;
}

static bool has_changed(struct list *list)
{
    struct stat st;
    if (stat(list->path, &st) < 0)
        return true;                 /* reading it will say why */
    if (list->settled && st.st_ino == list->inode && st.st_mtim.tv_sec == list->changed.tv_sec && st.st_mtim.tv_nsec == list->changed.tv_nsec)
        return false;
    list->inode = st.st_ino;
    list->changed = st.st_mtim;
    return true;
}

void net_keys_reread(struct net_keys *self, void (*revoked)(void *arg, const struct net_identity *who),
                     void (*complain)(void *arg, const char *sentence), void *arg)
{
    struct teller tell = {revoked, complain, arg};
    struct why why;
    for (int role = 0; role < NET_ROLES; role++) {
        struct list *list = &self->lists[role];
        if (!(needs[self->role].admits & ROLE_BIT(role)) || !has_changed(list))
            continue;
        bool good = read_list(self, (enum net_role)role, &tell, &why);
        if (why.text[0] != '\0' && !list->said)
            complain(arg, why.text);
        list->said = why.text[0] != '\0';
        int64_t age = (int64_t)time(NULL) - (int64_t)list->changed.tv_sec;
        list->settled = good && (age > SETTLED_S || age < -SETTLED_S);
    }
}

/* ---- the folder ---- */

static int read_own(struct net_keys *self, struct why *why)
{
    char path[PATH_MAX];
    struct net_cert cert;
    enum net_role role;
    snprintf(path, sizeof path, "%s/own.key", self->dir);
    if (net_cert_read(path, true, &cert, why) < 0)
        return -1;
    if (net_role_parse(cert.role, &role) == 0 && role != self->role)
        return why_set(why, "--keys %.200s: these are the keys of a %s, and this is a %s: give the folder that 'ventilator keygen' made for it",
                       self->dir, cert.role, net_role_name(self->role));
    self->own = cert.pair;
    explicit_bzero(&cert, sizeof cert);
    return 0;
}

static int read_known(struct net_keys *self, struct why *why)
{
    char path[PATH_MAX];
    struct net_cert cert;
    for (int role = 0; role < NET_ROLES; role++) {
        if (!(needs[self->role].dials & ROLE_BIT(role)))
            continue;
        snprintf(path, sizeof path, "%s/known/%s" PUB, self->dir, net_role_name((enum net_role)role));
        if (net_cert_read(path, false, &cert, why) < 0)
            return -1;
        snprintf(self->known[role], sizeof self->known[role], "%s", cert.pair.public_key);
    }
    return 0;
}

/* The first reading: what it complains of is a reason not to start. */
static void keep_first(void *arg, const char *sentence)
{
    struct why *why = arg;
    if (why->text[0] == '\0')
        why_set(why, "%s", sentence);
}

static void nobody_yet(void *arg, const struct net_identity *who)
{
    (void)arg, (void)who;
}

static int read_lists(struct net_keys *self, struct why *why)
{
    struct why first = {""};
    char path[PATH_MAX];
    for (int role = 0; role < NET_ROLES; role++) {
        snprintf(path, sizeof path, "%s/allow/%ss", self->dir, net_role_name((enum net_role)role));
        memcpy(self->lists[role].path, path, sizeof path);
    }
    net_keys_reread(self, nobody_yet, keep_first, &first);
    return first.text[0] == '\0' ? 0 : why_set(why, "%s", first.text);
}

struct net_keys *net_keys_read(const char *dir, enum net_role role, struct why *why)
{
    struct net_keys *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "no memory for the keys");
        return NULL;
    }
    self->role = role;
    int error = 0;
    if (snprintf(self->dir, sizeof self->dir, "%s", dir) >= (int)sizeof self->dir)
        error = why_set(why, "--keys %.100s…: the path is too long", dir);
    if (error == 0)
        error = read_own(self, why);
    if (error == 0)
        error = read_known(self, why);
    if (error == 0)
        error = read_lists(self, why);
    if (error < 0)
        net_keys_destroy(&self);
    return self;
}

void net_keys_destroy(struct net_keys **self_p)
{
    struct net_keys *self = *self_p;
    struct entry *entry, *next;
    if (!self)
        return;
    HASH_ITER(hh, self->entries, entry, next) {
        HASH_DEL(self->entries, entry);
        free(entry);
    }
    explicit_bzero(&self->own, sizeof self->own);
    free(self);
    *self_p = NULL;
}

bool net_keys_listens(const struct net_keys *self) { return needs[self->role].admits != 0; }
const char *net_keys_dir(const struct net_keys *self) { return self->dir; }
const char *net_keys_public(const struct net_keys *self) { return self->own.public_key; }
const char *net_keys_secret(const struct net_keys *self) { return self->own.secret_key; }
size_t net_keys_allowed(const struct net_keys *self, enum net_role role) { return self->lists[role].n; }

const char *net_keys_known(const struct net_keys *self, enum net_role role)
{
    return role < NET_ROLES && self->known[role][0] != '\0' ? self->known[role] : NULL;
}
