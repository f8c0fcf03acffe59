/* What the worker sends to a keeper, and how a command starts: its words, its environment, its input. */
#include "worker/keeper_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/spawn.h"

#define PIPE_SURE 4096                         /* what an empty pipe takes under any limit, without blocking */
#define KEPT_ROOM (1024 * 1024)                /* memory that is not given back */

/* ---- receiving ---- */

bool keeper_reserve(struct process *self, size_t wanted)
{
    if (wanted <= self->in_room)
        return true;
    uint8_t *in = realloc(self->in, wanted);
    if (!in)
        return false;
    self->in = in;
    self->in_room = wanted;
    return true;
}

/* The descriptor that came along, if any. */
static void take_descriptor(struct process *self, struct msghdr *message)
{
    struct cmsghdr *head = CMSG_FIRSTHDR(message);
    if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int)))
        return;
    memcpy(&self->bundle_fd, CMSG_DATA(head), sizeof(int));
    self->bundle = bundle_map(self->bundle_fd);
}

static ssize_t receive_some(struct process *self, int flags)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {self->in + self->in_len, self->in_room - self->in_len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(self->sock, &message, flags | MSG_CMSG_CLOEXEC);
    if (got > 0 && message.msg_controllen > 0)
        take_descriptor(self, &message);
    return got;
}

bool keeper_receive(struct process *self, int flags)
{
    if (self->in_at > 0) {
        memmove(self->in, self->in + self->in_at, self->in_len - self->in_at);
        self->in_len -= self->in_at;
        self->in_at = 0;
    }
    ssize_t got;
    do
        got = receive_some(self, flags);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        self->in_len += (size_t)got;
    return got > 0 || (got < 0 && errno == EAGAIN);
}

const uint8_t *keeper_need(struct process *self, size_t wanted)
{
    if (!keeper_reserve(self, wanted))
        keeper_leave(self, KEEPER_NO_MEMORY);                      /* the worker sees that its keeper died, and starts another one */
    while (self->in_len - self->in_at < wanted) {
        if (!keeper_receive(self, 0))
            keeper_orphaned(self);
    }
    return self->in + self->in_at;
}

/* ---- the start of a run ---- */

static size_t count(char *const *list)
{
    size_t n = 0;
    while (list[n])
        n++;
    return n;
}

static bool overrides(char *const *added, size_t n, const char *inherited)
{
    size_t name = strcspn(inherited, "=");
    for (size_t i = 0; i < n; i++) {
        if (strncmp(added[i], inherited, name) == 0 && added[i][name] == '=')
            return true;
    }
    return false;
}

static char **split(char **to, char **text, const char *end, size_t n)
{
    for (; n > 0; n--) {
        size_t len = strnlen(*text, (size_t)(end - *text));
        BUG_IF(*text + len >= end);
        *to++ = *text;
        *text += len + 1;
    }
    return to;
}

/* argv, NULL, the run's variables, the keeper's own that they don't replace, NULL. */
int keeper_make_words(struct process *self, char *strings, char ***ret_env)
{
    const struct keeper_wire_run *run = &self->run;
    size_t room = (size_t)run->argc + run->envc + count(environ) + 2;
    if (room > self->words_room) {
        char **words = reallocarray(self->words, room, sizeof(char *));
        if (!words)
            return -ENOMEM;
        self->words = words;
        self->words_room = room;
    }
    const char *end = strings + run->strings_len;
    char **at = split(self->words, &strings, end, run->argc);
    *at++ = NULL;
    char **env = at;
    at = split(at, &strings, end, run->envc);
    for (char **own = environ; *own; own++) {
        if (!overrides(env, run->envc, *own))
            *at++ = *own;
    }
    *at = NULL;
    *ret_env = env;
    return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t put = write(fd, data, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        data += put;
        len -= (size_t)put;
    }
    return 0;
}

/* A pipe that holds all of the input, its other end closed already; -EAGAIN when it doesn't fit. */
static int input_by_pipe(const uint8_t *data, size_t len)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int result = 0;
    if (len > PIPE_SURE && fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0)
        result = -errno;
    if (result == 0)
        result = write_all(ends[1], data, len);
    close(ends[1]);
    if (result < 0)
        close(ends[0]);
    return result < 0 ? result : ends[0];
}

/* Sealed, so that the command can't grow what we pay for, and opened anew, so that it starts at the
 * front and can only be read. */
static int input_by_memory(int fd, int error)
{
    char path[32];
    int opened = -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (error == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        error = -errno;
    if (error == 0) {
        opened = open(path, O_RDONLY | O_CLOEXEC);
        error = opened < 0 ? -errno : 0;
    }
    close(fd);
    return error < 0 ? error : opened;
}

/* Takes `left` bytes from the stream into memory, in pieces. They are taken from the stream also when there
 * is no memory for them, since the next message lies behind. */
static int input_by_stream(struct process *self, uint64_t left)
{
    int error = 0, fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        error = -errno;
    while (left > 0) {
        size_t there = self->in_len - self->in_at;
        if (there == 0) {
            keeper_need(self, 1);
            continue;
        }
        size_t len = there < left ? there : (size_t)left;
        if (error == 0)
            error = write_all(fd, self->in + self->in_at, len);
        self->in_at += len;
        left -= len;
    }
    return fd < 0 ? error : input_by_memory(fd, error);
}

/* In a pipe if it holds all of it. */
static int input_in_pipe(const uint8_t *data, size_t len)
{
    int fd = input_by_pipe(data, len);
    if (fd != -EAGAIN)
        return fd;
    fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : input_by_memory(fd, write_all(fd, data, len));
}

/* What becomes the command's standard input, or -errno. Takes the input from the stream in any case. */
static int take_input(struct process *self, size_t strings_len, char **ret_strings)
{
    size_t len = (size_t)self->run.input_len;
    if (self->run.input_len > KEEPER_PIPE_ROOM) {
        /* The words stand in the buffer that the stream goes through, so they are copied out of it. */
        char *copy = malloc(strings_len);
        if (copy)
            memcpy(copy, self->in + self->in_at, strings_len);
        self->in_at += strings_len;
        int fd = input_by_stream(self, self->run.input_len);
        *ret_strings = copy;
        if (!copy && fd >= 0)
            close(fd);
        return copy ? fd : -ENOMEM;
    }
    keeper_need(self, strings_len + len);
    *ret_strings = (char *)self->in + self->in_at;
    const uint8_t *data = self->in + self->in_at + strings_len;
    self->in_at += strings_len + len;
    return self->run.has_input ? input_in_pipe(data, len) : self->null;
}

/* A pipe whose reading end never blocks us. */
static int open_capture(int ret_ends[2])
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
        int error = -errno;
        close(ends[0]);
        close(ends[1]);
        return error;
    }
    ret_ends[0] = ends[0];
    ret_ends[1] = ends[1];
    return 0;
}

static int spawn_command(struct process *self, char **env, int input)
{
    int out[2], err[2];
    struct keeper_limits limits;
    int result = keeper_limits_begin(self, &limits);
    if (result == 0)
        result = open_capture(out);
    if (result < 0)
        return result;
    result = open_capture(err);
    if (result < 0) {
        close(out[0]);
        close(out[1]);
        return result;
    }
    struct spawn_request request = {
        .argv = self->words, .env = env, .in = input, .out = out[1], .err = err[1], .keep_fd = SPAWN_NOTHING,
        .nice_by = KEEPER_NICE_BY, .new_session = true, .dies_with_caller = true, .signals_are_default = true,
        .cgroups = limits.groups, .n_cgroups = limits.n_groups, .limits = limits.limits, .n_limits = limits.n_limits,
    };
    self->started = mono_now();
    result = spawn_process(&request, &self->command, NULL);
    close(out[1]);
    close(err[1]);
    capture_begin(&self->output, out[0], self->run.max_output);
    capture_begin(&self->errors, err[0], self->run.max_errors);
    return result;
}

void keeper_shrink(struct process *self)
{
    if (self->in_at < self->in_len || self->in_room <= KEPT_ROOM)
        return;
    self->in_at = self->in_len = 0;
    uint8_t *in = realloc(self->in, KEEPER_PIPE_ROOM);
    if (!in)
        return;
    self->in = in;
    self->in_room = KEEPER_PIPE_ROOM;
}

/* Takes the input. */
static int start_command(struct process *self, char *strings, int input)
{
    char **env;
    int result = input < 0 ? input : keeper_make_words(self, strings, &env);
    if (result == 0)
        result = spawn_command(self, env, input);
    if (input >= 0 && input != self->null)
        close(input);
    return result;
}

int keeper_start_from(struct process *self, uint8_t *at)
{
    const uint8_t *data = at + self->run.strings_len;
    return start_command(self, (char *)at, self->run.has_input ? input_in_pipe(data, (size_t)self->run.input_len) : self->null);
}

int keeper_start(struct process *self)
{
    size_t strings_len = (size_t)self->run.strings_len;
    self->in_at += sizeof self->run;
    keeper_need(self, strings_len);

    char *strings = NULL;
    int input = take_input(self, strings_len, &strings);
    int result = start_command(self, strings, input);
    if (self->run.input_len > KEEPER_PIPE_ROOM)
        free(strings);
    return result;
}
