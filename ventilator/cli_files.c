/* Results as files: each is written beside its place and renamed into it, so that a file that is there
 * is whole. Whatever the names are made of, they stay inside the folder, and no task writes over another one. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1                 /* a failed HASH_ADD leaves the handle's tbl NULL */
#include <uthash.h>

#include "tarmac/template.h"
#include "ventilator/cli_output.h"

#define NAME_MOST 240      /* with .err behind it, it is a name that file systems take */

/* A name that was given out, and to whom. */
struct taken {
    uint64_t index;
    UT_hash_handle hh;
    char name[];
};

struct out_files {
    char *dir;
    int fd;
    struct template *template;
    struct template_line line;
    bool numbered;                       /* the template makes each task a name of its own: nothing is kept */
    struct taken *taken;
};

/* mkdir -p */
static int make_folder(const char *dir, struct why *why)
{
    char *path = strdup(dir);
    if (!path)
        return why_set(why, "there is no memory left");
    for (char *at = path + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        mkdir(path, 0777);
        *at = '/';
    }
    int r = mkdir(path, 0777);
    free(path);
    if (r < 0 && errno != EEXIST)
        return why_set(why, "--out-dir %.300s: can't be made: %s", dir, strerror(errno));
    return 0;
}

struct out_files *out_files_new(const char *dir, const char *name_template, struct why *why)
{
    struct why inner;
    struct out_files *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "there is no memory left");
        return NULL;
    }
    self->fd = -1;
    self->numbered = strstr(name_template, "{#}") != NULL;
    self->dir = strdup(dir);
    if (!self->dir)
        why_set(why, "there is no memory left");
    else if (template_parse(&name_template, 1, true, &self->template, &inner) < 0)
        why_set(why, "--out-name %.100s: %.280s", name_template, inner.text);
    else if (make_folder(dir, why) == 0) {
        self->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (self->fd >= 0 && faccessat(self->fd, ".", W_OK, 0) == 0)
            return self;
        why_set(why, "--out-dir %.300s: can't be written to: %s", dir, strerror(errno));
    }
    out_files_destroy(&self);
    return NULL;
}

void out_files_destroy(struct out_files **self_p)
{
    struct out_files *self = *self_p;
    if (!self)
        return;
    if (self->fd >= 0)
        close(self->fd);
    struct taken *taken, *next;
    HASH_ITER(hh, self->taken, taken, next) {
        HASH_DEL(self->taken, taken);
        free(taken);
    }
    template_line_clear(&self->line);
    template_destroy(&self->template);
    free(self->dir);
    free(self);
    *self_p = NULL;
}

static const char *file_of(const struct stream_task *task)
{
    for (size_t i = 0; i < task->n_values; i++)
        if (strcmp(task->values[i]->key, "file") == 0)
            return task->values[i]->value;
    return NULL;
}

int out_files_name(struct out_files *self, const struct stream_task *task, char out[256], struct why *why)
{
    char number[24];
    const char *item = file_of(task);
    snprintf(number, sizeof number, "%" PRIu64, task->index + 1);
    if (!item)
        item = number;
    struct template_task t = {.item = item, .len = strlen(item), .index = task->index, .slot = 1};
    if (template_expand(self->template, &t, 0, &self->line, why) < 0)
        return -1;
    const char *name = self->line.argv[0];
    size_t len = strlen(name);
    if (len > NAME_MOST)    /* Cut, it might be the name of another one. */
        snprintf(out, 256, "%.200s-%s", name, number);
    else
        snprintf(out, 256, "%s", len ? name : number);
    for (char *at = out; *at; at++)
        if (*at == '/')
            *at = '_';
    if (strcmp(out, ".") == 0 || strcmp(out, "..") == 0)
        out[0] = '_';
    return 0;
}

/* The task's number before the extension: a.png becomes a-17.png. */
static void add_number(char name[256], uint64_t index)
{
    char number[24], whole[300];
    char *dot = strrchr(name, '.');
    size_t stem = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    int n = snprintf(number, sizeof number, "-%" PRIu64, index + 1);
    size_t room = 255 - (size_t)n - (strlen(name) - stem > 60 ? 60 : strlen(name) - stem);
    snprintf(whole, sizeof whole, "%.*s%s%.60s", (int)(stem < room ? stem : room), name, number, name + stem);
    snprintf(name, 256, "%.255s", whole);
}

/* Two files of one name in different folders, say: the task that comes later gets its number into the name. */
static int claim(struct out_files *self, uint64_t index, char name[256], struct why *why)
{
    struct taken *taken;
    for (int tries = 0; tries < 8; tries++) {
        HASH_FIND_STR(self->taken, name, taken);
        if (taken && taken->index == index)
            return 0;
        if (!taken)
            break;
        add_number(name, index);
    }
    size_t size = strlen(name) + 1;
    taken = calloc(1, sizeof *taken + size);
    if (!taken)
        return why_set(why, "there is no memory left");
    taken->index = index;
    memcpy(taken->name, name, size);
    HASH_ADD_STR(self->taken, name, taken);
    if (taken->hh.tbl != NULL)
        return 0;
    free(taken);
    return why_set(why, "there is no memory left");
}

static int write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int put(struct out_files *self, const char *name, const uint8_t *bytes, size_t len, struct why *why)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".tarmac-%jd.new", (intmax_t)getpid());
    int fd = openat(self->fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    int r = fd < 0 ? -1 : write_all(fd, bytes, len);
    int error = errno;
    if (fd >= 0 && close(fd) < 0 && r == 0) {
        r = -1;
        error = errno;
    }
    if (r == 0 && renameat(self->fd, temporary, self->fd, name) < 0) {
        r = -1;
        error = errno;
    }
    if (r == 0)
        return 0;
    if (fd >= 0)
        unlinkat(self->fd, temporary, 0);
    return why_set(why, "--out-dir: %.150s/%.100s can't be written: %s", self->dir, name, strerror(error));
}

int out_files_put(struct out_files *self, const struct stream_task *task, struct why *why)
{
    char name[256], errors[261];
    struct why inner;
    if (out_files_name(self, task, name, &inner) < 0)
        return why_set(why, "--out-name: task %" PRIu64 ": %.300s", task->index, inner.text);
    if (!self->numbered && claim(self, task->index, name, why) < 0)
        return -1;
    /* What failed without a word leaves no empty file that looks like a result. */
    if ((task->output_len > 0 || task->verdict == WIRE__VERDICT__OK) &&
        put(self, name, task->output, task->output_len, why) < 0)
        return -1;
    snprintf(errors, sizeof errors, "%s.err", name);
    return task->errors_len > 0 ? put(self, errors, task->errors, task->errors_len, why) : 0;
}
