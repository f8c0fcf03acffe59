/* What the tests of keys share: folders of all roles. */
#ifndef TESTS_UNIT_KEYS_WORLD_H
#define TESTS_UNIT_KEYS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/net_keys.h"

/* ---- folders ---- */

static inline int remove_key_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* Good for the next 500 calls. */
static inline const char *at(const char *dir, const char *file)
{
    static char paths[500][256];
    static unsigned turn;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    return memcpy(paths[turn++ % 500], path, sizeof path);
}

static inline void put_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* One folder of all roles, as keygen makes it: DIR/ventilator and so on, everybody admitted. */
struct folders {
    char dir[64];
    struct net_pair pairs[NET_ROLES];
};

static inline void write_cert(const char *path, enum net_role role, const char *name, const struct net_pair *pair, bool secret)
{
    struct why why = {""};
    if (net_cert_write(path, role, name, pair, secret, &why) < 0)
        fail_msg("%s", why.text);
}

static inline void make_folder(struct folders *f, enum net_role role)
{
    const char *dir = at(f->dir, net_role_name(role));
    char path[200];
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mkdir(at(dir, "known"), 0755), 0);
    assert_int_equal(mkdir(at(dir, "allow"), 0755), 0);
    write_cert(at(dir, "own.key"), role, "own", &f->pairs[role], true);
    for (int other = 0; other < NET_ROLES; other++) {
        snprintf(path, sizeof path, "known/%s.pub", net_role_name((enum net_role)other));
        write_cert(at(dir, path), (enum net_role)other, "x", &f->pairs[other], false);
        snprintf(path, sizeof path, "allow/%ss", net_role_name((enum net_role)other));
        assert_int_equal(mkdir(at(dir, path), 0755), 0);
        snprintf(path, sizeof path, "allow/%ss/first.pub", net_role_name((enum net_role)other));
        write_cert(at(dir, path), (enum net_role)other, "x", &f->pairs[other], false);
    }
}

static inline void folders_make(struct folders *f)
{
    struct why why = {""};
    *f = (struct folders){.dir = "/tmp/test_keys.XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    for (int role = 0; role < NET_ROLES; role++)
        assert_int_equal(net_pair_make(&f->pairs[role], &why), 0);
    for (int role = 0; role < NET_ROLES; role++)
        make_folder(f, (enum net_role)role);
}

static inline void folders_remove(struct folders *f)
{
    assert_int_equal(nftw(f->dir, remove_key_file, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline struct net_keys *read_keys(const struct folders *f, enum net_role role)
{
    struct why why = {""};
    struct net_keys *keys = net_keys_read(at(f->dir, net_role_name(role)), role, &why);
    if (!keys)
        fail_msg("%s", why.text);
    return keys;
}

#endif
