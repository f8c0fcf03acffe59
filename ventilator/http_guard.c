#include "ventilator/http_guard.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1                 /* a failed HASH_ADD leaves the handle's tbl NULL */
#include <uthash.h>

#define TOKEN_LEAST 16u

/* ---- the token ---- */

static bool is_token(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && strchr("._~-", text[i]) == NULL)
            return false;
    return len >= TOKEN_LEAST && len < sizeof ((struct guard *)0)->token;
}

static int read_token(const char *path, char *out, size_t size, struct why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return why_set(why, "--http-token %s: can't read this file: %s", path, strerror(error));
    out[n] = '\0';
    out[strcspn(out, "\r\n")] = '\0';
    return 0;
}

int guard_set_token(struct guard *self, const char *text, struct why *why)
{
    char line[sizeof self->token + 1];
    bool is_path = strchr(text, '/') != NULL;
    if (is_path && read_token(text, line, sizeof line, why) < 0)
        return -1;
    const char *token = is_path ? line : text;
    if (!is_token(token))
        return why_set(why, "--http-token%s%s: a token has %u to %zu characters out of A-Z a-z 0-9 . _ ~ -; 'openssl rand -hex 24' makes one",
                       is_path ? " " : "", is_path ? text : "", TOKEN_LEAST, sizeof self->token - 1);
    memcpy(self->token, token, strlen(token) + 1);
    self->needs_token = true;
    return 0;
}

/* Its time tells nothing of where they differ, nor of the length of ours. */
static bool same_token(const struct guard *self, const char *given, size_t len)
{
    size_t own = strlen(self->token);
    unsigned differ = own != len;
    for (size_t i = 0; i < len; i++)
        differ |= (unsigned char)(given[i] ^ self->token[i % own]);
    return differ == 0;
}

static bool same_text(const struct guard *self, const char *given)
{
    return given != NULL && strlen(given) < sizeof self->token && same_token(self, given, strlen(given));
}

bool guard_token_ok(const struct guard *self, const char *authorization, const char *cookie, const char *query)
{
    if (!self->needs_token)
        return true;
    if (authorization != NULL && strncasecmp(authorization, "Bearer ", 7) == 0 && same_text(self, authorization + 7))
        return true;
    return same_text(self, cookie) || same_text(self, query);
}

/* ---- hosts ---- */

/* The host without its port, and without the brackets of an IPv6 address. */
static bool split_host(const char *text, char *out, size_t size)
{
    const char *from = text, *end;
    if (*from == '[') {
        from++;
        end = strchr(from, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
    } else {
        end = from + strcspn(from, ":");
    }
    size_t len = (size_t)(end - from);
    if (len == 0 || len >= size)
        return false;
    memcpy(out, from, len);
    out[len] = '\0';
    return true;
}

static bool is_literal(const char *host)
{
    bool v6 = strchr(host, ':') != NULL;
    size_t n = strspn(host, v6 ? "0123456789abcdefABCDEF:.%" : "0123456789.");
    return host[n] == '\0';
}

static bool is_loopback(const char *host)
{
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 || (strncmp(host, "127.", 4) == 0 && is_literal(host));
}

bool guard_host_ok(const struct guard *self, const char *text)
{
    char host[256];
    if (text == NULL || !split_host(text, host, sizeof host))
        return false;
    if (is_loopback(host) || (self->needs_token && is_literal(host)))
        return true;
    for (size_t i = 0; self->names != NULL && i < self->names->n; i++)
        if (strcasecmp(host, self->names->items[i]) == 0)
            return true;
    return false;
}

/* ---- actions ---- */

bool guard_origin_ok(const char *host, const char *origin, const char *fetch_site, const char *custom)
{
    if (custom == NULL || strcmp(custom, "1") != 0 || host == NULL)
        return false;
    if (fetch_site != NULL && strcmp(fetch_site, "same-origin") != 0 && strcmp(fetch_site, "none") != 0)
        return false;
    if (origin == NULL)
        return true;
    const char *from = strstr(origin, "://");
    return from != NULL && strcasecmp(from + 3, host) == 0;
}

/* ---- buckets ---- */

struct guard_bucket {
    UT_hash_handle hh;
    char address[64];
    double left;
    mono_t filled;
};

static void refill(struct guard_bucket *b, mono_t now)
{
    b->left += GUARD_PER_S * (double)mono_since(now, b->filled) / 1e9;
    b->left = b->left > GUARD_BURST ? GUARD_BURST : b->left;
    b->filled = now;
}

static void bucket_drop(struct guard *self, struct guard_bucket *b)
{
    HASH_DEL(self->buckets, b);
    free(b);
}

/* A full bucket says nothing; when all say something, the table is begun anew: it is bounded before it is just. */
static void forget_full(struct guard *self, mono_t now)
{
    struct guard_bucket *b, *next;
    HASH_ITER(hh, self->buckets, b, next) {
        refill(b, now);
        if (b->left >= GUARD_BURST)
            bucket_drop(self, b);
    }
    if (HASH_COUNT(self->buckets) >= GUARD_ADDRESSES)
        HASH_ITER(hh, self->buckets, b, next)
            bucket_drop(self, b);
}

static struct guard_bucket *bucket_of(struct guard *self, mono_t now, const char *address)
{
    struct guard_bucket *b;
    size_t len = strlen(address);
    if (len >= sizeof b->address)
        return NULL;
    HASH_FIND(hh, self->buckets, address, len, b);
    if (b != NULL)
        return b;
    if (HASH_COUNT(self->buckets) >= GUARD_ADDRESSES)
        forget_full(self, now);
    b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    memcpy(b->address, address, len + 1);
    b->left = GUARD_BURST;
    b->filled = now;
    HASH_ADD(hh, self->buckets, address[0], len, b);
    if (b->hh.tbl != NULL)
        return b;
    free(b);
    return NULL;
}

bool guard_take(struct guard *self, mono_t now, const char *address, double cost)
{
    struct guard_bucket *b = bucket_of(self, now, address);
    if (b == NULL)
        return false;
    refill(b, now);
    b->left -= cost;
    if (b->left >= 0)
        return true;
    b->left = b->left < -GUARD_BURST ? -GUARD_BURST : b->left;
    return false;
}

void guard_release(struct guard *self)
{
    struct guard_bucket *b, *next;
    HASH_ITER(hh, self->buckets, b, next)
        bucket_drop(self, b);
}
