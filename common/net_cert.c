/* One certificate, in the format of czmq's zcert: sections at the margin, `key = "value"` indented below. Its own reader
 * (zconfig) prints what it dislikes to standard output, where our results are, and looks at no permissions. */
#include "common/net_keys.h"

#include <czmq.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#define CERT_BYTES 16384             /* ours have some hundred */
#define REMEDY "; make keys with 'ventilator keygen', or copy the whole folder again"

static const char *const roles[] = {
    [ROLE_VENTILATOR] = "ventilator", [ROLE_SINK] = "sink", [ROLE_WORKER] = "worker", [ROLE_CLIENT] = "client",
};
_Static_assert(sizeof roles / sizeof *roles == NET_ROLES, "a role has no name");

const char *net_role_name(enum net_role role) { return roles[role]; }

int net_role_parse(const char *text, enum net_role *ret)
{
    for (int i = 0; i < NET_ROLES; i++)
        if (strcmp(text, roles[i]) == 0)
            return *ret = (enum net_role)i, 0;
    return -1;
}

bool net_key_name_ok(const char *name)
{
    size_t len = strlen(name);
    if (len < 1 || len > NET_KEY_NAME || *name == '.' || *name == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("_.-", name[i]))
            return false;
    return true;
}

void net_key_text(const uint8_t bytes[32], char ret[NET_KEY_TEXT])
{
    zmq_z85_encode(ret, bytes, 32);
}

/* ---- reading ---- */

static int check_secret_file(const char *path, const struct stat *st, struct why *why)
{
    if (st->st_mode & 077)
        return why_set(why, "%.200s: others may read or change this secret key (mode %04o); chmod 600 it, and if others had a chance to read "
                       "it, make new keys", path, (unsigned)st->st_mode & 07777);
    if (st->st_uid != geteuid() && st->st_uid != 0)
        return why_set(why, "%.200s: this secret key belongs to user %u, and this process is of user %u; chown it", path, (unsigned)st->st_uid,
                       (unsigned)geteuid());
    return 0;
}

/* The file's text, NUL-terminated, or NULL with why and errno. */
static char *slurp(const char *path, bool secret, struct why *why)
{
    struct stat st;
    char *text = NULL;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), error = errno;
    if (fd < 0) {
        why_set(why, "%.200s: can't be read: %s" REMEDY, path, strerror(error));
    } else if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size >= CERT_BYTES) {
        why_set(why, "%.200s: is no certificate, which is a file of some hundred bytes" REMEDY, path);
        error = EINVAL;
    } else if (secret && check_secret_file(path, &st, why) < 0) {
        error = EACCES;
    } else if (!(text = calloc(1, CERT_BYTES)) || (n = read(fd, text, CERT_BYTES - 1)) < 0) {
        error = text ? errno : ENOMEM;
        why_set(why, "%.200s: can't be read: %s", path, strerror(error));
        free(text);
        text = NULL;
    }
    if (fd >= 0)
        close(fd);
    errno = error;
    return text;
}

static char *trim(char *text)
{
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

/* `key = "value"` or `key = value`, cut in place; NULL when it is something else. */
static char *value_of(char *line)
{
    char *equals = strchr(line, '=');
    if (!equals)
        return NULL;
    *equals = '\0';
    trim(line);
    char *value = trim(equals + 1);
    size_t len = strlen(value);
    if (len >= 2 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
        value[len - 1] = '\0';
        value++;
    }
    return value;
}

static void take(const char *section, const char *key, const char *value, struct net_cert *ret)
{
    const struct { const char *section, *key; char *into; size_t size; } fields[] = {
        {"curve", "public-key", ret->pair.public_key, NET_KEY_TEXT}, {"curve", "secret-key", ret->pair.secret_key, NET_KEY_TEXT},
        {"metadata", "role", ret->role, sizeof ret->role}, {"metadata", "name", ret->name, sizeof ret->name},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(section, fields[i].section) == 0 && strcmp(key, fields[i].key) == 0 && strlen(value) < fields[i].size)
            memcpy(fields[i].into, value, strlen(value) + 1);
}

static void parse(char *text, struct net_cert *ret)
{
    char section[32] = "", *line;
    *ret = (struct net_cert){0};
    while ((line = strsep(&text, "\n"))) {
        bool inside = isspace((unsigned char)*line);
        char *word = trim(line);
        if (*word == '\0' || *word == '#')
            continue;
        if (!inside) {
            snprintf(section, sizeof section, "%s", word);
            continue;
        }
        char *value = value_of(word);
        if (value)
            take(section, word, value, ret);
    }
}

static bool is_key(const char *text)
{
    uint8_t bytes[32];
    char again[NET_KEY_TEXT];
    if (strlen(text) != NET_KEY_TEXT - 1 || !zmq_z85_decode(bytes, text))
        return false;
    net_key_text(bytes, again);      /* the decoder takes what no encoder makes */
    return strcmp(text, again) == 0;
}

static int check(const char *path, bool secret, const struct net_cert *cert, struct why *why)
{
    char derived[NET_KEY_TEXT];
    if (!is_key(cert->pair.public_key))
        return why_set(why, "%.200s: has no public key in it (curve, public-key = 40 characters)" REMEDY, path);
    if (!secret)
        return 0;
    if (!is_key(cert->pair.secret_key))
        return why_set(why, "%.200s: has no secret key in it (curve, secret-key = 40 characters)" REMEDY, path);
    if (zmq_curve_public(derived, cert->pair.secret_key) < 0 || strcmp(derived, cert->pair.public_key) != 0)
        return why_set(why, "%.200s: its public key is not that of its secret key" REMEDY, path);
    return 0;
}

int net_cert_read(const char *path, bool secret, struct net_cert *ret, struct why *why)
{
    struct net_cert cert;
    char *text = slurp(path, secret, why);
    if (!text)
        return -1;
    parse(text, &cert);
    explicit_bzero(text, CERT_BYTES);
    free(text);
    if (check(path, secret, &cert, why) < 0)
        return errno = EINVAL, -1;
    *ret = cert;
    return 0;
}

/* ---- making ---- */

int net_pair_make(struct net_pair *ret, struct why *why)
{
    if (zmq_curve_keypair(ret->public_key, ret->secret_key) < 0)
        return why_set(why, "no keys can be made: this libzmq was built without CURVE; install one that has it");
    return 0;
}

static int write_all(const char *path, const char *text, mode_t mode, struct why *why)
{
    size_t len = strlen(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    bool good = fd >= 0 && fchmod(fd, mode) == 0 && write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    return good ? 0 : why_set(why, "%.200s: can't be written: %s", path, strerror(error));
}

int net_cert_write(const char *path, enum net_role role, const char *name, const struct net_pair *pair, bool secret, struct why *why)
{
    char text[1024], new_path[4096];
    if (snprintf(new_path, sizeof new_path, "%s.new", path) >= (int)sizeof new_path)
        return why_set(why, "%.100s…: the path is too long", path);
    snprintf(text, sizeof text,
             "#   ZeroMQ CURVE %s certificate, made by 'ventilator keygen'\n%s\nmetadata\n    role = \"%s\"\n    name = \"%s\"\n"
             "curve\n    public-key = \"%s\"\n",
             secret ? "**secret**" : "public", secret ? "#   DO NOT GIVE THIS FILE TO ANYBODY\n" : "", net_role_name(role), name, pair->public_key);
    if (secret)
        snprintf(text + strlen(text), sizeof text - strlen(text), "    secret-key = \"%s\"\n", pair->secret_key);
    int r = write_all(new_path, text, secret ? 0600 : 0644, why);
    explicit_bzero(text, sizeof text);
    if (r == 0 && rename(new_path, path) < 0)
        r = why_set(why, "%.200s: can't be written: %s", path, strerror(errno));
    if (r < 0)
        unlink(new_path);
    return r;
}
