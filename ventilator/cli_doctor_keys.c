/* Folders of keys, as `ventilator keygen` makes them: each one's permissions and files, and, where the folders of several
 * roles are side by side, whether they know and admit each other. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/net_keys.h"
#include "ventilator/cli_doctor.h"

#define FOLDERS 256

struct folder {
    char path[PATH_MAX];
    enum net_role role;
    struct net_keys *keys;           /* NULL: something is wrong with it */
};

static bool has(const char *dir, const char *file)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", dir, file) < (int)sizeof path && access(path, F_OK) == 0;
}

/* What is in it says whose it is. */
static bool look_at_folder(struct doctor *self, const char *dir, struct folder *ret)
{
    char key[PATH_MAX];
    struct net_cert cert;
    struct why why;
    snprintf(ret->path, sizeof ret->path, "%s", dir);
    if (snprintf(key, sizeof key, "%s/own.key", dir) >= (int)sizeof key || net_cert_read(key, true, &cert, &why) < 0) {
        doctor_say(self, FINDING_FAIL, "%s", why.text);
        return false;
    }
    explicit_bzero(cert.pair.secret_key, sizeof cert.pair.secret_key);
    if (net_role_parse(cert.role, &ret->role) < 0) {
        doctor_say(self, FINDING_FAIL, "%s: doesn't say whose key it is (metadata, role = ventilator, sink, worker or client)", key);
        return false;
    }
    if (!(ret->keys = net_keys_read(dir, ret->role, &why))) {
        doctor_say(self, FINDING_FAIL, "%s", why.text);
        return false;
    }
    if (net_keys_listens(ret->keys))
        doctor_say(self, FINDING_OK, "%s: keys of a %s, which admits %zu workers and %zu clients", dir, cert.role, net_keys_allowed(ret->keys, ROLE_WORKER),
                   net_keys_allowed(ret->keys, ROLE_CLIENT));
    else
        doctor_say(self, FINDING_OK, "%s: keys of %s %s", dir, cert.role, cert.name);
    return true;
}

/* Whether one that dials and the listener that it dials know each other. */
static void look_at_pair(struct doctor *self, const struct folder *one, const struct folder *listener)
{
    const char *known = net_keys_known(one->keys, listener->role);
    if (!known)
        return;
    if (strcmp(known, net_keys_public(listener->keys)) != 0)
        doctor_say(self, FINDING_FAIL, "%s/known/%s.pub is not the public key in %s; copy its own.pub there", one->path, net_role_name(listener->role),
                   listener->path);
    if (!net_keys_find(listener->keys, ROLE_BIT(one->role), net_keys_public(one->keys)))
        doctor_say(self, has(one->path, "revoked") ? FINDING_OK : FINDING_FAIL, "%s/allow/%ss doesn't have the public key of %s%s", listener->path,
                   net_role_name(one->role), one->path, has(one->path, "revoked") ? ", which is revoked" : "; add it with 'ventilator keygen --add', or copy its own.pub there");
}

static size_t look_at_all(struct doctor *self, const char *dir, struct folder *folders)
{
    const struct dirent *entry;
    size_t n = 0;
    DIR *all = opendir(dir);
    while (all && n < FOLDERS && (entry = readdir(all))) {
        char path[PATH_MAX];
        if (entry->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", dir, entry->d_name) < (int)sizeof path && has(path, "own.key"))
            n += look_at_folder(self, path, &folders[n]);
    }
    if (all)
        closedir(all);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (i != j && net_keys_listens(folders[j].keys))
                look_at_pair(self, &folders[i], &folders[j]);
    return n;
}

/* Of several clients the one that is simply called so. */
static void choose_client(struct doctor *self, const struct folder *folders, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = strrchr(folders[i].path, '/');
        if (folders[i].role == ROLE_CLIENT && (self->client_keys[0] == '\0' || (name && strcmp(name, "/client") == 0)))
            snprintf(self->client_keys, sizeof self->client_keys, "%s", folders[i].path);
    }
}

bool doctor_look_at_keys(struct doctor *self)
{
    struct folder *folders = calloc(FOLDERS, sizeof *folders);
    size_t n = 0;
    unsigned before = self->failures;
    if (!folders)
        return false;
    if (has(self->keys, "own.key"))
        n = look_at_folder(self, self->keys, &folders[0]);
    else
        n = look_at_all(self, self->keys, folders);
    choose_client(self, folders, n);
    if (n == 0 && self->failures == before)
        doctor_say(self, FINDING_FAIL, "--keys %s: neither this folder nor one in it has an own.key; make keys with 'ventilator keygen'", self->keys);
    for (size_t i = 0; i < n; i++)
        net_keys_destroy(&folders[i].keys);
    free(folders);
    return self->failures == before;
}
