/* Replays a record onto a disk that keeps apart what is durable and what is not yet.
 *
 * A file is its durable bytes and the operations since; a folder is its durable names and the makings
 * and removals since. A sync of a file moves what was done before the sync began to its durable bytes;
 * its name is durable only when the folder was synced too: POSIX promises no more. */
#include "tests/support/powercut.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NAME_MOST 64
#define NAMES_MOST 32
#define FDS 4096
#define PROCESSES 64

/* ---- what lies on the disk ---- */

struct op {
    STAILQ_ENTRY(op) link;
    size_t at;                               /* of its entry */
    enum powercut_kind kind;
    uint64_t offset;
    const uint8_t *data;                     /* in the record */
    size_t len;
};
STAILQ_HEAD(ops, op);

struct bytes {
    uint8_t *data;
    size_t len, room;
};

struct file {
    SLIST_ENTRY(file) link;
    struct bytes durable;
    struct ops pending;
};

struct names {
    struct { char name[NAME_MOST]; struct file *file; } list[NAMES_MOST];
    size_t n;
};

struct name_op {
    STAILQ_ENTRY(name_op) link;
    size_t at;
    enum powercut_kind kind;
    char name[NAME_MOST], other[NAME_MOST];  /* rename: from, to */
    struct file *file;
};

struct folder {
    SLIST_ENTRY(folder) link;
    char label[NAME_MOST];
    struct names durable, present;
    STAILQ_HEAD(, name_op) pending;
};

struct process {
    int32_t pid;
    struct folder *folder;                   /* a process has one */
    struct file *files[FDS];                 /* NULL: the folder */
};

struct sync {
    LIST_ENTRY(sync) link;
    int32_t pid, tid;
    struct file *file;
    struct folder *folder;
    size_t at;
};

struct powercut {
    const uint8_t *record;
    size_t record_len;
    size_t *starts;                          /* of each entry */
    size_t n, next;
    enum powercut_lie lie;
    SLIST_HEAD(, file) files;
    SLIST_HEAD(, folder) folders;
    LIST_HEAD(, sync) syncs;
    struct process *processes[PROCESSES];
    size_t last_write;                       /* entry of the last write so far */
    uint64_t chance;
};

static void *demand(void *memory)
{
    if (!memory) {
        fputs("powercut: no memory\n", stderr);
        abort();
    }
    return memory;
}

static void fail(const char *what, const char *about)
{
    fprintf(stderr, "powercut: %s: %s\n", what, about);
    abort();
}

/* ---- the record ---- */

int powercut_mark(const char *path, const char *text, size_t len)
{
    struct powercut_entry entry = {.magic = POWERCUT_MAGIC, .kind = POWERCUT_MARK, .pid = (int32_t)getpid(), .fd = -1, .len = (uint32_t)len};
    struct iovec parts[2] = {{&entry, sizeof entry}, {(void *)(uintptr_t)text, len}};
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    ssize_t n = writev(fd, parts, 2);
    int error = n < 0 ? errno : EIO;
    close(fd);
    return n == (ssize_t)(sizeof entry + len) ? 0 : -error;
}

static struct powercut_entry entry_at(const struct powercut *self, size_t at)
{
    struct powercut_entry entry;
    memcpy(&entry, self->record + self->starts[at], sizeof entry);
    return entry;
}

static const uint8_t *data_at(const struct powercut *self, size_t at)
{
    return self->record + self->starts[at] + sizeof(struct powercut_entry);
}

static int index_entries(struct powercut *self)
{
    size_t room = 0;
    for (size_t at = 0; at < self->record_len;) {
        struct powercut_entry entry;
        if (self->record_len - at < sizeof entry)
            return -1;
        memcpy(&entry, self->record + at, sizeof entry);
        if (entry.magic != POWERCUT_MAGIC || self->record_len - at - sizeof entry < entry.len)
            return -1;
        if (self->n == room)
            self->starts = demand(reallocarray(self->starts, room = room ? 2 * room : 1024, sizeof *self->starts));
        self->starts[self->n++] = at;
        at += sizeof entry + entry.len;
    }
    return 0;
}

struct powercut *powercut_open(const char *path)
{
    struct powercut *self = demand(calloc(1, sizeof *self));
    struct stat found = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &found) < 0 || found.st_size == 0) {
        fprintf(stderr, "powercut: %s has no record: %s\n", path, fd < 0 ? strerror(errno) : "it is empty");
        if (fd >= 0)
            close(fd);
        free(self);
        return NULL;
    }
    self->record_len = (size_t)found.st_size;
    void *map = mmap(NULL, self->record_len, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        fail("mmap", path);
    self->record = map;
    if (index_entries(self) < 0) {
        fprintf(stderr, "powercut: %s is not a record after entry %zu\n", path, self->n);
        powercut_close(&self);
    }
    return self;
}

static void drop_ops(struct file *file)
{
    struct op *op;
    while ((op = STAILQ_FIRST(&file->pending))) {
        STAILQ_REMOVE_HEAD(&file->pending, link);
        free(op);
    }
}

void powercut_close(struct powercut **self_p)
{
    struct powercut *self = *self_p;
    struct file *file;
    struct folder *folder;
    struct sync *sync;
    while ((file = SLIST_FIRST(&self->files))) {
        SLIST_REMOVE_HEAD(&self->files, link);
        drop_ops(file);
        free(file->durable.data);
        free(file);
    }
    while ((folder = SLIST_FIRST(&self->folders))) {
        struct name_op *op;
        SLIST_REMOVE_HEAD(&self->folders, link);
        while ((op = STAILQ_FIRST(&folder->pending))) {
            STAILQ_REMOVE_HEAD(&folder->pending, link);
            free(op);
        }
        free(folder);
    }
    while ((sync = LIST_FIRST(&self->syncs))) {
        LIST_REMOVE(sync, link);
        free(sync);
    }
    for (size_t i = 0; i < PROCESSES; i++)
        free(self->processes[i]);
    munmap((void *)(uintptr_t)self->record, self->record_len);
    free(self->starts);
    free(self);
    *self_p = NULL;
}

size_t powercut_entries(const struct powercut *self) { return self->n; }
enum powercut_kind powercut_kind(const struct powercut *self, size_t at) { return (enum powercut_kind)entry_at(self, at).kind; }
void powercut_lie(struct powercut *self, enum powercut_lie lie) { self->lie = lie; }

const char *powercut_text(const struct powercut *self, size_t at, size_t *ret_len)
{
    *ret_len = entry_at(self, at).len;
    return (const char *)data_at(self, at);
}

/* ---- names ---- */

static struct file **find_name(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->list[i].name, name) == 0)
            return &names->list[i].file;
    return NULL;
}

static void set_name(struct names *names, const char *name, struct file *file)
{
    struct file **place = find_name(names, name);
    if (place) {
        *place = file;
        return;
    }
    if (names->n == NAMES_MOST)
        fail("too many names in one folder", name);
    snprintf(names->list[names->n].name, NAME_MOST, "%s", name);
    names->list[names->n++].file = file;
}

static void drop_name(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->list[i].name, name) == 0) {
            names->list[i] = names->list[--names->n];
            return;
        }
}

static void apply_name_op(struct names *names, const struct name_op *op)
{
    struct file **from;
    if (op->kind == POWERCUT_OPEN) {
        set_name(names, op->name, op->file);
    } else if (op->kind == POWERCUT_UNLINK) {
        drop_name(names, op->name);
    } else if ((from = find_name(names, op->name))) {
        set_name(names, op->other, *from);
        drop_name(names, op->name);
    }
}

static void note_name_op(struct folder *folder, size_t at, enum powercut_kind kind, const char *name, const char *other, struct file *file)
{
    struct name_op *op = demand(calloc(1, sizeof *op));
    op->at = at;
    op->kind = kind;
    op->file = file;
    snprintf(op->name, sizeof op->name, "%s", name);
    snprintf(op->other, sizeof op->other, "%s", other);
    apply_name_op(&folder->present, op);
    STAILQ_INSERT_TAIL(&folder->pending, op, link);
}

/* ---- bytes ---- */

static void set_len(struct bytes *bytes, size_t len)
{
    if (len > bytes->room) {
        bytes->room = len + len / 2;
        bytes->data = demand(realloc(bytes->data, bytes->room));
    }
    if (len > bytes->len)
        memset(bytes->data + bytes->len, 0, len - bytes->len);
    bytes->len = len;
}

static void put(struct bytes *bytes, uint64_t offset, const uint8_t *data, size_t len)
{
    if (offset + len > bytes->len)
        set_len(bytes, (size_t)offset + len);
    if (len > 0)
        memcpy(bytes->data + offset, data, len);
}

static void apply_op(struct bytes *bytes, const struct op *op)
{
    if (op->kind == POWERCUT_WRITE)
        put(bytes, op->offset, op->data, op->len);
    else if (op->kind == POWERCUT_TRUNCATE || op->offset > bytes->len)
        set_len(bytes, (size_t)op->offset);
}

/* ---- the replay ---- */

static struct process *process_of(struct powercut *self, int32_t pid)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        if (!self->processes[i]) {
            self->processes[i] = demand(calloc(1, sizeof **self->processes));
            self->processes[i]->pid = pid;
        }
        if (self->processes[i]->pid == pid)
            return self->processes[i];
    }
    fail("too many processes", "in one record");
    return NULL;
}

static struct folder *folder_of(struct powercut *self, const char *label)
{
    struct folder *folder;
    SLIST_FOREACH(folder, &self->folders, link)
        if (strcmp(folder->label, label) == 0)
            return folder;
    folder = demand(calloc(1, sizeof *folder));
    snprintf(folder->label, sizeof folder->label, "%s", label);
    STAILQ_INIT(&folder->pending);
    SLIST_INSERT_HEAD(&self->folders, folder, link);
    return folder;
}

static struct file *new_file(struct powercut *self)
{
    struct file *file = demand(calloc(1, sizeof *file));
    STAILQ_INIT(&file->pending);
    SLIST_INSERT_HEAD(&self->files, file, link);
    return file;
}

static void copy_text(char *out, const uint8_t *data, size_t len)
{
    if (len >= NAME_MOST)
        fail("too long a name in the record", "64 bytes are the most");
    memcpy(out, data, len);
    out[len] = '\0';
}

static void replay_open(struct powercut *self, size_t at, const struct powercut_entry *entry)
{
    struct process *process = process_of(self, entry->pid);
    char name[NAME_MOST];
    copy_text(name, data_at(self, at), entry->len);
    char *slash = strchr(name, '/');
    if (!slash)
        fail("a name without a label", name);
    *slash = '\0';
    process->folder = folder_of(self, name);
    if (entry->kind == POWERCUT_OPEN_FOLDER) {
        process->files[entry->fd] = NULL;
        return;
    }
    struct file **found = find_name(&process->folder->present, slash + 1);
    struct file *file = found ? *found : new_file(self);
    if (!found)
        note_name_op(process->folder, at, POWERCUT_OPEN, slash + 1, "", file);
    process->files[entry->fd] = file;
}

static void replay_names(struct powercut *self, size_t at, const struct powercut_entry *entry)
{
    char name[NAME_MOST], other[NAME_MOST] = "";
    const uint8_t *data = data_at(self, at), *end = memchr(data, '\0', entry->len);
    size_t len = end ? (size_t)(end - data) : entry->len;
    copy_text(name, data, len);
    if (end)
        copy_text(other, end + 1, entry->len - len - 1);
    char *slash = strchr(name, '/'), *other_slash = strchr(other, '/');
    if (!slash || (end && !other_slash))
        fail("a name without a label", name);
    *slash = '\0';
    note_name_op(folder_of(self, name), at, (enum powercut_kind)entry->kind, slash + 1, end ? other_slash + 1 : "", NULL);
}

static void replay_bytes(struct powercut *self, size_t at, const struct powercut_entry *entry)
{
    struct file *file = process_of(self, entry->pid)->files[entry->fd];
    if (!file)
        fail("bytes for a file that was not opened", "see the shim");
    struct op *op = demand(calloc(1, sizeof *op));
    *op = (struct op){.at = at, .kind = (enum powercut_kind)entry->kind, .offset = entry->offset, .data = data_at(self, at), .len = entry->len};
    STAILQ_INSERT_TAIL(&file->pending, op, link);
    if (op->kind == POWERCUT_WRITE)
        self->last_write = at;
}

static void begin_sync(struct powercut *self, size_t at, const struct powercut_entry *entry)
{
    struct process *process = process_of(self, entry->pid);
    struct sync *sync = demand(calloc(1, sizeof *sync));
    *sync = (struct sync){.pid = entry->pid, .tid = entry->tid, .file = process->files[entry->fd], .folder = process->folder, .at = at};
    LIST_INSERT_HEAD(&self->syncs, sync, link);
}

static void settle(struct sync *sync)
{
    struct op *op;
    struct name_op *name_op;
    while (sync->file && (op = STAILQ_FIRST(&sync->file->pending)) && op->at < sync->at) {
        apply_op(&sync->file->durable, op);
        STAILQ_REMOVE_HEAD(&sync->file->pending, link);
        free(op);
    }
    while (!sync->file && (name_op = STAILQ_FIRST(&sync->folder->pending)) && name_op->at < sync->at) {
        apply_name_op(&sync->folder->durable, name_op);
        STAILQ_REMOVE_HEAD(&sync->folder->pending, link);
        free(name_op);
    }
}

static void end_sync(struct powercut *self, const struct powercut_entry *entry)
{
    struct sync *sync;
    LIST_FOREACH(sync, &self->syncs, link)
        if (sync->pid == entry->pid && sync->tid == entry->tid)
            break;
    if (!sync)
        fail("a sync ended that had not begun", "see the shim");
    if (self->lie == POWERCUT_HONEST || (self->lie == POWERCUT_NO_FOLDER_SYNC && sync->file))
        settle(sync);
    LIST_REMOVE(sync, link);
    free(sync);
}

static void replay(struct powercut *self, size_t at)
{
    struct powercut_entry entry = entry_at(self, at);
    switch ((enum powercut_kind)entry.kind) {
    case POWERCUT_OPEN: case POWERCUT_OPEN_FOLDER:
        replay_open(self, at, &entry);
        break;
    case POWERCUT_WRITE: case POWERCUT_TRUNCATE: case POWERCUT_ALLOCATE:
        replay_bytes(self, at, &entry);
        break;
    case POWERCUT_UNLINK: case POWERCUT_RENAME:
        replay_names(self, at, &entry);
        break;
    case POWERCUT_SYNC:
        begin_sync(self, at, &entry);
        break;
    case POWERCUT_SYNCED:
        end_sync(self, &entry);
        break;
    case POWERCUT_MARK:
        break;
    }
}

void powercut_to(struct powercut *self, size_t at)
{
    while (self->next < at && self->next < self->n)
        replay(self, self->next++);
}

bool powercut_is_write(const struct powercut *self, size_t at, const char *name_end, uint64_t *ret_offset, size_t *ret_len)
{
    struct powercut_entry entry = entry_at(self, at);
    size_t end = strlen(name_end);
    if (entry.kind != POWERCUT_WRITE)
        return false;
    /* The last opening of this descriptor says which file it is. */
    for (size_t i = at; i-- > 0;) {
        struct powercut_entry open = entry_at(self, i);
        if (open.kind != POWERCUT_OPEN || open.pid != entry.pid || open.fd != entry.fd)
            continue;
        if (open.len < end || memcmp(data_at(self, i) + open.len - end, name_end, end) != 0)
            return false;
        *ret_offset = entry.offset;
        *ret_len = entry.len;
        return true;
    }
    return false;
}

/* ---- the cut ---- */

/* splitmix64 */
static uint64_t chance(struct powercut *self)
{
    uint64_t z = self->chance += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool one_in(struct powercut *self, uint64_t n) { return chance(self) % n == 0; }

/* Each piece of the write that lies in one sector is there or not. */
static void tear(struct powercut *self, struct bytes *bytes, const struct op *op, size_t sector)
{
    for (size_t done = 0; done < op->len;) {
        size_t part = sector - (size_t)((op->offset + done) % sector);
        part = part < op->len - done ? part : op->len - done;
        if (one_in(self, 2))
            put(bytes, op->offset + done, op->data + done, part);
        done += part;
    }
}

static void apply_perhaps(struct powercut *self, struct bytes *bytes, const struct op *op, enum powercut_how how, size_t sector, bool long_files)
{
    bool whole = how == POWERCUT_ALL || (how == POWERCUT_TORN && op->at != self->last_write) || (how == POWERCUT_SOME && one_in(self, 2));
    if (whole)
        apply_op(bytes, op);
    else if (op->kind == POWERCUT_WRITE && how != POWERCUT_LOST && (how == POWERCUT_TORN || one_in(self, 2)))
        tear(self, bytes, op, sector);
    /* The length may be there before the bytes are. */
    if (op->kind == POWERCUT_WRITE && long_files && op->offset + op->len > bytes->len)
        set_len(bytes, (size_t)op->offset + op->len);
}

static void write_file(struct powercut *self, const struct file *file, const char *path, enum powercut_how how)
{
    struct bytes bytes = {0};
    const struct op *op;
    size_t sector = one_in(self, 2) ? 512 : 4096, done = 0;
    bool long_files = how == POWERCUT_SOME && one_in(self, 3);
    put(&bytes, 0, file->durable.data, file->durable.len);
    if (how != POWERCUT_LOST)
        STAILQ_FOREACH(op, &file->pending, link)
            apply_perhaps(self, &bytes, op, how, sector, long_files);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t filled = bytes.len;               /* the zeros at the end can stay a hole */
    while (filled > 0 && bytes.data[filled - 1] == 0)
        filled--;
    while (fd >= 0 && done < filled) {
        ssize_t n = write(fd, bytes.data + done, filled - done);
        if (n <= 0)
            fail("a file can't be written", path);
        done += (size_t)n;
    }
    if (fd < 0 || ftruncate(fd, (off_t)bytes.len) < 0 || close(fd) < 0)
        fail("a file can't be made", path);
    free(bytes.data);
}

int powercut_rebuild(struct powercut *self, const char *label, const char *dir, enum powercut_how how, uint64_t seed)
{
    struct folder *folder = folder_of(self, label);
    struct names names = folder->durable;
    const struct name_op *op;
    self->chance = seed;
    /* Most file systems keep the order of names; some don't. */
    bool in_order = one_in(self, 2), on = true;
    STAILQ_FOREACH(op, &folder->pending, link) {
        if (how == POWERCUT_SOME)
            on = (on || !in_order) && !one_in(self, in_order ? 4 : 2);
        if (how != POWERCUT_LOST && on)
            apply_name_op(&names, op);
        if (!in_order)
            on = true;
    }
    for (size_t i = 0; i < names.n; i++) {
        char path[512];
        if (snprintf(path, sizeof path, "%s/%s", dir, names.list[i].name) >= (int)sizeof path)
            return -ENAMETOOLONG;
        write_file(self, names.list[i].file, path, how);
    }
    return 0;
}
