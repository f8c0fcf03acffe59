/* Faults: the plan, the calls that can fail, and the blocks of memory in use.
 *
 * `__real_…` are weak: a program that is linked without --wrap has none of them and calls nothing here. */
#include "tests/support/fail.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <protobuf-c/protobuf-c.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

#define REAL(type, name, ...) extern type __real_##name(__VA_ARGS__) __attribute__((weak))
#define WRAPS(type, name, ...) REAL(type, name, __VA_ARGS__); type __wrap_##name(__VA_ARGS__); type __wrap_##name(__VA_ARGS__)
#define PLAN_VARIABLE "TARMAC_TEST_FAULT"

/* ---- the plan ---- */

static struct fail_plan plan;
static atomic_uint armed;                    /* its kinds, while it is armed */
static atomic_long calls, hits;
static atomic_long since[32];                /* calls of each kind since the first that failed */
static _Atomic(long) *shared_hits;           /* of a process that a test has started; else NULL */

void fail_arm(const struct fail_plan *wanted)
{
    atomic_store(&armed, 0);
    plan = *wanted;
    atomic_store(&calls, 0);
    atomic_store(&hits, 0);
    for (int i = 0; i < 32; i++)
        atomic_store(&since[i], 0);
    atomic_store(&armed, plan.kinds);
}

long fail_disarm(void)
{
    atomic_store(&armed, 0);
    plan.kinds = 0;          /* for fail_resume */
    return atomic_load(&hits);
}

void fail_pause(void) { atomic_store(&armed, 0); }
void fail_resume(void) { atomic_store(&armed, plan.kinds); }

long fail_hits(void) { return atomic_load(&hits); }

long fail_calls_since(unsigned kinds)
{
    long n = 0;
    for (int i = 0; i < 32; i++)
        n += kinds >> i & 1 ? atomic_load(&since[i]) : 0;
    return n;
}

bool fail_due(unsigned kind, int *ret_error)
{
    unsigned kinds = atomic_load(&armed);
    if (kinds && atomic_load(&hits) > 0)
        atomic_fetch_add(&since[__builtin_ctz(kind)], 1);
    if (!(kinds & kind))
        return false;
    long n = atomic_fetch_add(&calls, 1);
    if (n < plan.after || (plan.times >= 0 && n >= plan.after + plan.times))
        return false;
    bool first = atomic_fetch_add(&hits, 1) == 0;
    if (shared_hits)
        atomic_fetch_add(shared_hits, 1);
    *ret_error = first && plan.torn ? FAIL_SHORT : plan.error;
    return true;
}

/* Whether a call that transfers nothing fails, with errno set: being short is nothing for it. */
static bool refused(unsigned kind)
{
    int error;
    if (!fail_due(kind, &error) || error == FAIL_SHORT)
        return false;
    errno = error;
    return true;
}

/* ---- sweeps ---- */

bool fail_is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#endif
#endif
    return false;
}

void fail_again(const struct fail_sweep *self)
{
    fail_arm(&(struct fail_plan){
        .kinds = self->kinds, .after = self->n, .times = self->times, .error = self->error, .torn = self->torn,
    });
}

bool fail_next(struct fail_sweep *self)
{
    if (self->begun) {
        if (fail_disarm() == 0)
            return false;
        self->points++;
        self->n += self->stride;
    } else {
        self->begun = true;
        self->times = self->times ? self->times : 1;
        if (self->stride == 0)
            self->stride = fail_is_sanitized() ? 5 : 1;
        if (getenv("FAULT_ALL"))
            self->stride = 1;
    }
    if (getenv("FAULT_TRACE"))
        printf("# kinds %#x, error %d, after %ld\n", self->kinds, self->error, self->n), fflush(stdout);
    fail_again(self);
    return true;
}

void fail_said(const char *what, long points)
{
    printf("# %ld points: %s\n", points, what);
    fflush(stdout);
}

void fail_export(const struct fail_plan *wanted, const char *file)
{
    char text[300];
    unlink(file);
    if (!wanted) {
        unsetenv(PLAN_VARIABLE);
        return;
    }
    snprintf(text, sizeof text, "%u %ld %ld %d %s", wanted->kinds, wanted->after, wanted->times, wanted->error, file);
    setenv(PLAN_VARIABLE, text, 1);
}

static void *map_hits(const char *file, int flags)
{
    int fd = open(file, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    void *at = ftruncate(fd, sizeof(long)) == 0 ? mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

void fail_import(void)
{
    const char *text = getenv(PLAN_VARIABLE);
    struct fail_plan wanted = {0};
    char file[200];
    if (!text || sscanf(text, "%u %ld %ld %d %199s", &wanted.kinds, &wanted.after, &wanted.times, &wanted.error, file) != 5)
        return;
    shared_hits = map_hits(file, O_RDWR | O_CREAT);
    /* One that takes the place of another starts without the fault that the other has had. */
    if (!shared_hits || wanted.times < 0 || atomic_load(shared_hits) < wanted.times)
        fail_arm(&wanted);
}

long fail_exported_hits(const char *file)
{
    _Atomic(long) *at = map_hits(file, O_RDWR);
    long n = at ? atomic_load(at) : 0;
    if (at)
        munmap((void *)(uintptr_t)at, sizeof(long));
    return n;
}

/* ---- blocks of memory ---- */

#define PLACES ((size_t)1 << 18)             /* of a hash table with linear probing; never more than half full */

struct block { void *at; void *caller; };

static struct block blocks[PLACES];
static size_t n_blocks;
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;

static size_t home_of(const void *at)
{
    return (size_t)(((uintptr_t)at >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 40) % PLACES;
}

static void *block_in(void *at, void *caller)
{
    if (!at)
        return NULL;
    pthread_mutex_lock(&blocks_lock);
    size_t i = home_of(at);
    while (blocks[i].at)
        i = (i + 1) % PLACES;
    blocks[i] = (struct block){at, caller};
    if (++n_blocks > PLACES / 2)
        abort();
    pthread_mutex_unlock(&blocks_lock);
    return at;
}

/* Whoever comes from elsewhere (getline, a library) is not here, and nothing happens. */
static void block_out(const void *at)
{
    pthread_mutex_lock(&blocks_lock);
    size_t i = home_of(at);
    while (blocks[i].at && blocks[i].at != at)
        i = (i + 1) % PLACES;
    bool found = at && blocks[i].at;
    n_blocks -= found;
    /* Those behind move up, where that brings them nearer to their home. */
    for (size_t hole = i, k = (i + 1) % PLACES; found; k = (k + 1) % PLACES) {
        blocks[hole].at = NULL;
        if (!blocks[k].at)
            break;
        size_t home = home_of(blocks[k].at);
        if ((k + PLACES - home) % PLACES >= (k + PLACES - hole) % PLACES) {
            blocks[hole] = blocks[k];
            hole = k;
        }
    }
    pthread_mutex_unlock(&blocks_lock);
}

size_t fail_blocks(void)
{
    pthread_mutex_lock(&blocks_lock);
    size_t n = n_blocks;
    pthread_mutex_unlock(&blocks_lock);
    return n;
}

void fail_tell_blocks(size_t more_than)
{
    size_t n = fail_blocks(), told = 0;
    printf("# %zu blocks where %zu were; some of them were made at:\n", n, more_than);
    for (size_t i = 0; i < PLACES && told < 20; i++) {
        if (!blocks[i].at)
            continue;
        char **names = backtrace_symbols(&blocks[i].caller, 1);
        printf("#   %s\n", names ? names[0] : "?");
        told++;
    }
    fflush(stdout);
}

#define CALLER __builtin_return_address(0)

WRAPS(void *, malloc, size_t size) { return refused(FAIL_MEMORY) ? NULL : block_in(__real_malloc(size), CALLER); }
WRAPS(void *, calloc, size_t n, size_t size) { return refused(FAIL_MEMORY) ? NULL : block_in(__real_calloc(n, size), CALLER); }
WRAPS(char *, strdup, const char *text) { return refused(FAIL_MEMORY) ? NULL : block_in(__real_strdup(text), CALLER); }
WRAPS(char *, strndup, const char *text, size_t most) { return refused(FAIL_MEMORY) ? NULL : block_in(__real_strndup(text, most), CALLER); }

WRAPS(void, free, void *p)
{
    block_out(p);
    __real_free(p);
}

/* The old block is taken out first: once it is freed, another thread may get the same one. */
WRAPS(void *, realloc, void *p, size_t size)
{
    if (refused(FAIL_MEMORY))
        return NULL;
    block_out(p);
    void *grown = __real_realloc(p, size);
    block_in(grown ? grown : p, CALLER);
    return grown;
}

WRAPS(void *, reallocarray, void *p, size_t n, size_t size)
{
    if (refused(FAIL_MEMORY))
        return NULL;
    block_out(p);
    void *grown = __real_reallocarray(p, n, size);
    block_in(grown ? grown : p, CALLER);
    return grown;
}

int __wrap_asprintf(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret_text, const char *format, ...)
{
    va_list args;
    if (refused(FAIL_MEMORY))
        return -1;           /* glibc leaves the pointer undefined then: so do we */
    va_start(args, format);
    int n = vasprintf(ret_text, format, args);
    va_end(args);
    if (n >= 0)
        block_in(*ret_text, CALLER);
    return n;
}

/* Blocks of libraries aren't counted: they have their own ways of keeping some. */
void *fail_library_malloc(size_t size) { return refused(FAIL_LIBRARY) ? NULL : __real_malloc(size); }
void *fail_library_realloc(void *p, size_t size) { return refused(FAIL_LIBRARY) ? NULL : __real_realloc(p, size); }

/* protobuf-c's default allocator is inside of its library: ours stands in for it, on both sides. */
static void *message_alloc(void *arg, size_t size)
{
    (void)arg;
    return refused(FAIL_MEMORY) ? NULL : block_in(__real_malloc(size), CALLER);
}

static void message_free(void *arg, void *p)
{
    (void)arg;
    block_out(p);
    __real_free(p);
}

static ProtobufCAllocator message_memory = {message_alloc, message_free, NULL};

WRAPS(ProtobufCMessage *, protobuf_c_message_unpack, const ProtobufCMessageDescriptor *type, ProtobufCAllocator *from, size_t len,
      const uint8_t *bytes)
{
    return __real_protobuf_c_message_unpack(type, from ? from : &message_memory, len, bytes);
}

WRAPS(void, protobuf_c_message_free_unpacked, ProtobufCMessage *message, ProtobufCAllocator *to)
{
    __real_protobuf_c_message_free_unpacked(message, to ? to : &message_memory);
}

/* ---- time ---- */

static _Atomic(int64_t) skipped;

void fail_skip_time(int64_t ns) { atomic_fetch_add(&skipped, ns); }

WRAPS(mono_t, mono_now, void) { return mono_add(__real_mono_now(), atomic_load(&skipped)); }

/* ---- descriptors and processes ---- */

int fail_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int n = -1;              /* the one that reads the folder */
    if (!folder)
        return -1;
    for (const struct dirent *entry; (entry = readdir(folder)); )
        n += entry->d_name[0] != '.';
    closedir(folder);
    return n;
}

bool fail_has_children(void)
{
    siginfo_t info = {0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

#define FAILS(kind) (refused(kind) ? -1 : 0)

REAL(int, open, const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    return FAILS(FAIL_OPEN) ?: __real_open(path, flags, mode);
}

REAL(int, fcntl, int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...)
{
    va_list args;
    va_start(args, what);
    long value = va_arg(args, long);
    va_end(args);
    return FAILS(FAIL_CONTROL) ?: __real_fcntl(fd, what, value);
}

REAL(int, prctl, int what, ...);
int __wrap_prctl(int what, ...);
int __wrap_prctl(int what, ...)
{
    va_list args;
    va_start(args, what);
    unsigned long value = va_arg(args, unsigned long);
    va_end(args);
    return FAILS(FAIL_CONTROL) ?: __real_prctl(what, value, 0, 0, 0);
}

WRAPS(int, pipe2, int *ends, int flags) { return FAILS(FAIL_OPEN) ?: __real_pipe2(ends, flags); }
WRAPS(int, socketpair, int domain, int type, int protocol, int *ends)
{
    return FAILS(FAIL_OPEN) ?: __real_socketpair(domain, type, protocol, ends);
}
WRAPS(int, eventfd, unsigned value, int flags) { return FAILS(FAIL_OPEN) ?: __real_eventfd(value, flags); }
WRAPS(int, memfd_create, const char *name, unsigned flags) { return FAILS(FAIL_OPEN) ?: __real_memfd_create(name, flags); }
WRAPS(int, epoll_create1, int flags) { return FAILS(FAIL_OPEN) ?: __real_epoll_create1(flags); }
WRAPS(int, timerfd_create, int clock, int flags) { return FAILS(FAIL_OPEN) ?: __real_timerfd_create(clock, flags); }
WRAPS(int, signalfd, int fd, const sigset_t *set, int flags) { return FAILS(FAIL_OPEN) ?: __real_signalfd(fd, set, flags); }

/* Only a new watch needs anything of the kernel: changing one, and taking it back, can't fail. */
WRAPS(int, epoll_ctl, int epoll, int what, int fd, struct epoll_event *event)
{
    return (what == EPOLL_CTL_ADD && refused(FAIL_CONTROL)) ? -1 : __real_epoll_ctl(epoll, what, fd, event);
}

REAL(int, clone, int (*run)(void *), void *stack, int flags, void *arg, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *arg, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
    va_list args;
    va_start(args, arg);
    pid_t *parent = va_arg(args, pid_t *);
    va_end(args);
    return FAILS(FAIL_PROCESS) ?: __real_clone(run, stack, flags, arg, parent);
}

/* This one returns its error. */
WRAPS(int, pthread_create, pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *arg)
{
    return refused(FAIL_PROCESS) ? errno : __real_pthread_create(thread, how, run, arg);
}

/* ---- what transfers ---- */

/* -1: fails, with errno set; else how much of `len` may be transferred. */
static ssize_t allowed(unsigned kind, size_t len)
{
    int error;
    if (!fail_due(kind, &error))
        return (ssize_t)len;
    if (error == FAIL_SHORT)
        return (ssize_t)(len > 1 ? len / 2 : len);
    errno = error;
    return -1;
}

/* What a signalfd has comes whole. */
WRAPS(ssize_t, read, int fd, void *to, size_t len)
{
    ssize_t n = len == sizeof(struct signalfd_siginfo) && plan.error == FAIL_SHORT ? (ssize_t)len : allowed(FAIL_READ, len);
    return n < 0 ? n : __real_read(fd, to, (size_t)n);
}

WRAPS(ssize_t, recv, int fd, void *to, size_t len, int flags)
{
    ssize_t n = allowed(FAIL_READ, len);
    return n < 0 ? n : __real_recv(fd, to, (size_t)n, flags);
}

WRAPS(ssize_t, write, int fd, const void *from, size_t len)
{
    ssize_t n = allowed(FAIL_WRITE, len);
    return n < 0 ? n : __real_write(fd, from, (size_t)n);
}

WRAPS(ssize_t, send, int fd, const void *from, size_t len, int flags)
{
    ssize_t n = allowed(FAIL_WRITE, len);
    return n < 0 ? n : __real_send(fd, from, (size_t)n, flags);
}

/* A short one sends half of the first part. */
WRAPS(ssize_t, sendmsg, int fd, const struct msghdr *message, int flags)
{
    size_t first = message->msg_iovlen > 0 ? message->msg_iov[0].iov_len : 0;
    ssize_t n = allowed(FAIL_WRITE, first);
    if (n < 0)
        return n;
    if ((size_t)n == first)
        return __real_sendmsg(fd, message, flags);
    struct iovec part = {.iov_base = message->msg_iov[0].iov_base, .iov_len = (size_t)n};
    return __real_sendmsg(fd, &(struct msghdr){.msg_iov = &part, .msg_iovlen = 1}, flags);
}

WRAPS(int, ppoll, struct pollfd *fds, nfds_t n, const struct timespec *wait, const sigset_t *mask)
{
    return FAILS(FAIL_READ) ?: __real_ppoll(fds, n, wait, mask);
}

/* ---- ZeroMQ ---- */

WRAPS(void *, zmq_ctx_new, void) { return refused(FAIL_ZMQ) ? NULL : __real_zmq_ctx_new(); }
WRAPS(int, zmq_ctx_set, void *context, int option, int value) { return FAILS(FAIL_ZMQ) ?: __real_zmq_ctx_set(context, option, value); }
WRAPS(void *, zmq_socket, void *context, int type) { return refused(FAIL_ZMQ) ? NULL : __real_zmq_socket(context, type); }
WRAPS(int, zmq_bind, void *socket, const char *where) { return FAILS(FAIL_ZMQ) ?: __real_zmq_bind(socket, where); }
WRAPS(int, zmq_connect, void *socket, const char *where) { return FAILS(FAIL_ZMQ) ?: __real_zmq_connect(socket, where); }
WRAPS(int, zmq_setsockopt, void *socket, int option, const void *value, size_t len)
{
    return FAILS(FAIL_ZMQ) ?: __real_zmq_setsockopt(socket, option, value, len);
}
WRAPS(int, zmq_getsockopt, void *socket, int option, void *value, size_t *len)
{
    return FAILS(FAIL_ZMQ) ?: __real_zmq_getsockopt(socket, option, value, len);
}
WRAPS(int, zmq_msg_init_size, void *message, size_t len) { return FAILS(FAIL_SEND) ?: __real_zmq_msg_init_size(message, len); }
WRAPS(int, zmq_msg_init_data, void *message, void *data, size_t len, void (*done)(void *, void *), void *hint)
{
    return FAILS(FAIL_SEND) ?: __real_zmq_msg_init_data(message, data, len, done, hint);
}
/* Behind the first part of a message libzmq refuses nothing but by an interruption: it takes the rest, or drops the whole. */
WRAPS(int, zmq_msg_send, void *message, void *socket, int flags)
{
    static _Thread_local void *in_message;
    enum { MORE = 2 };           /* ZMQ_SNDMORE */
    if ((in_message != socket || plan.error == EINTR) && refused(FAIL_SEND))
        return -1;
    int n = __real_zmq_msg_send(message, socket, flags);
    if (n >= 0)
        in_message = flags & MORE ? socket : NULL;
    return n;
}
