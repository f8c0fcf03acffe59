/* Keys: who we are, whom we dial, and who may come to us, as one folder of files that `ventilator keygen` makes.
 *
 *   own.key            our secret and public key (0600, ours or root's)       own.pub  the public one alone
 *   known/ROLE.pub     the public key of a listener that we dial: ventilator.pub, sink.pub
 *   allow/ROLEs/NAME.pub   listeners: the public keys that may connect, a file for each, named as it is known to people
 *
 * Each file is a certificate as czmq's zcert writes it. The allow-lists are read again while the process runs:
 * what appears is admitted, what disappears is revoked. docs/keys.md tells people the same. */
#ifndef COMMON_NET_KEYS_H
#define COMMON_NET_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/why.h"

#define NET_KEY_TEXT 41              /* a key in Z85, with its NUL */
#define NET_KEY_NAME 64              /* longest name of a key, without its NUL */

enum net_role { ROLE_VENTILATOR, ROLE_SINK, ROLE_WORKER, ROLE_CLIENT, NET_ROLES };
#define ROLE_BIT(role) (1u << (role))
const char *net_role_name(enum net_role role);                   /* "worker" */
int net_role_parse(const char *text, enum net_role *ret);        /* 0, or -1: no role */
bool net_key_name_ok(const char *name);                          /* letters, digits, _ - and dots inside, at most NET_KEY_NAME */

/* A public key that may connect, or might once: it stays where it is until the keys are destroyed. */
struct net_identity {
    enum net_role role;
    char name[NET_KEY_NAME + 1];
    char key[NET_KEY_TEXT];
    bool allowed;                    /* false: revoked since */
};

struct net_keys;

/* Reads and checks a folder for a process of this role. Blocks for as long as a few small files take. NULL: why says
 * which file, and what would be right. */
struct net_keys *net_keys_read(const char *dir, enum net_role role, struct why *why);
void net_keys_destroy(struct net_keys **self_p);

/* Reads the allow-lists again when they have changed on the disk, which is looked up by their folders' times. `revoked`
 * is told of each identity that was admitted and is no longer, `complain` of what can't be read (each sentence once).
 * A folder that can't be read changes nothing. */
void net_keys_reread(struct net_keys *self, void (*revoked)(void *arg, const struct net_identity *who),
                     void (*complain)(void *arg, const char *sentence), void *arg);
bool net_keys_listens(const struct net_keys *self);              /* there are allow-lists */

/* Who may connect by this key in one of these roles (bits), or NULL. Looks in memory only. */
const struct net_identity *net_keys_find(const struct net_keys *self, unsigned roles, const char *key);

const char *net_keys_dir(const struct net_keys *self);
const char *net_keys_public(const struct net_keys *self);        /* ours */
const char *net_keys_secret(const struct net_keys *self);
const char *net_keys_known(const struct net_keys *self, enum net_role role);     /* of whom we dial; NULL: not known */
size_t net_keys_allowed(const struct net_keys *self, enum net_role role);        /* how many */

/* ---- making and reading single certificates (net_cert.c); every call blocks for a moment ---- */

struct net_pair {
    char public_key[NET_KEY_TEXT], secret_key[NET_KEY_TEXT];
};
int net_pair_make(struct net_pair *ret, struct why *why);
/* Writes a certificate in one piece, in place of what was there: 0600 with the secret key, else 0644. 0 or why. */
int net_cert_write(const char *path, enum net_role role, const char *name, const struct net_pair *pair, bool secret, struct why *why);

/* Reads one. `secret`: also its secret key, and refuses a file that others may read or own. ENOENT stays in errno
 * when there is none. role and name are "" where the file doesn't tell. 0 or why. */
struct net_cert {
    struct net_pair pair;
    char role[16], name[NET_KEY_NAME + 1];
};
int net_cert_read(const char *path, bool secret, struct net_cert *ret, struct why *why);

/* Z85 of 32 bytes, as keys arrive on the wire. */
void net_key_text(const uint8_t bytes[32], char ret[NET_KEY_TEXT]);

#endif
