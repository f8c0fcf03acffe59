/* Control groups of a worker and its slots.
 *
 * What can go wrong, and the answer: a worker that is killed leaves its folder behind. It held a lock on it, which the
 * kernel has taken away, so the next worker beside it sees that nobody owns the folder, ends what is in it, and removes it. */
#include "worker/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/spawn.h"

#define CGROUP2_MAGIC 0x63677270
#define PREFIX "tarmac-"
#define SLOT "slot-"
#define SLOT_NAME 32               /* room for it behind the home's path */
#define TRIES 8
#define DEPTH 16                   /* of groups below a slot's that are looked into */

/* ---- small files ---- */

static bool put_path(char *to, size_t size, const char *path)
{
    int n = snprintf(to, size, "%s", path);
    return n >= 0 && (size_t)n < size;
}

int cgroup_write(int dir, const char *name, const char *word)
{
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t put = write(fd, word, strlen(word));
    int result = put < 0 ? -errno : 0;
    close(fd);
    return result;
}

static int open_folder(int at, const char *path) { return openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

static bool is_cgroup2(int fd)
{
    struct statfs about;
    return fstatfs(fd, &about) == 0 && about.f_type == CGROUP2_MAGIC;
}

/* ---- everything below a folder ---- */

struct below {
    void (*each)(void *arg, pid_t pid);
    void *arg;
    bool remove;
};

static void read_pids(int dir, const struct below *below)
{
    int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    pid_t pid = 0;
    if (!file) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (int c; (c = getc(file)) != EOF;) {
        if (c >= '0' && c <= '9') {
            pid = pid * 10 + (c - '0');
        } else {
            if (pid > 0)           /* 0: of another pid namespace, not to be named here */
                below->each(below->arg, pid);
            pid = 0;
        }
    }
    fclose(file);
}

/* Takes the descriptor. */
static void walk(int dir, const struct below *below, int depth)
{
    if (below->each)
        read_pids(dir, below);
    DIR *folder = depth < DEPTH ? fdopendir(dir) : NULL;
    if (!folder) {
        close(dir);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        int inner = entry->d_type == DT_DIR && entry->d_name[0] != '.' ? open_folder(dirfd(folder), entry->d_name) : -1;
        if (inner < 0)
            continue;
        walk(inner, below, depth + 1);
        if (below->remove)
            unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
    }
    closedir(folder);
}

static void walk_below(int dir, const struct below *below)
{
    int copy = open_folder(dir, ".");
    if (copy >= 0)
        walk(copy, below, 0);
}

static void kill_one(void *arg, pid_t pid)
{
    (void)arg;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return;
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    close(pidfd);
}

/* Ends what is in the folder and tries to remove it; what is not gone yet is left to the next worker. */
static void clear_away(int parent, const char *name, int dir)
{
    const struct below killing = {.each = kill_one}, removing = {.remove = true};
    if (cgroup_write(dir, "cgroup.kill", "1") < 0)
        walk_below(dir, &killing);
    walk_below(dir, &removing);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* Only the slots: a folder that was named by a person may hold other groups too. */
static void clear_slots(int home)
{
    int copy = open_folder(home, ".");
    DIR *folder = copy >= 0 ? fdopendir(copy) : NULL;
    if (!folder && copy >= 0)
        close(copy);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        int dir = strncmp(entry->d_name, SLOT, sizeof SLOT - 1) == 0 ? open_folder(home, entry->d_name) : -1;
        if (dir < 0)
            continue;
        clear_away(home, entry->d_name, dir);
        close(dir);
    }
    if (folder)
        closedir(folder);
}

/* ---- where we are ---- */

/* Is it one of the words between commas? */
static bool lists(const char *list, size_t len, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = list; at + size <= list + len; at++) {
        bool begins = at == list || at[-1] == ',';
        if (begins && strncmp(at, word, size) == 0 && (at + size == list + len || at[size] == ',' || at[size] == '\n'))
            return true;
        at = memchr(at, ',', (size_t)(list + len - at));
        if (!at)
            break;
    }
    return false;
}

/* The path of this process's group in the hierarchy that has the controller; "": in cgroup2. */
static int own_path(const char *controller, char *ret, size_t size)
{
    char *line = NULL;
    size_t room = 0;
    int result = -ENOENT;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && result == -ENOENT && getline(&line, &room, file) > 0) {
        /* number:controllers:path */
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        line[strcspn(line, "\n")] = '\0';
        if (!path)
            continue;
        size_t len = (size_t)(path - list - 1);
        if (controller[0] == '\0' ? len == 0 : lists(list + 1, len, controller))
            result = put_path(ret, size, path + 1) ? 0 : -ENAMETOOLONG;
    }
    free(line);
    if (file)
        fclose(file);
    return result;
}

/* mountinfo writes blanks and such as \040. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at; at++) {
        if (at[0] == '\\' && at[1] && at[2] && at[3]) {
            *to++ = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
            at += 3;
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
}

/* The end of a line of mountinfo is "- type source options". */
static bool is_hierarchy(const char *type, const char *controller)
{
    const char *options = strrchr(type, ' ');
    if (controller[0] == '\0')
        return strncmp(type, "cgroup2 ", 8) == 0;
    return strncmp(type, "cgroup ", 7) == 0 && options && lists(options + 1, strlen(options + 1), controller);
}

/* From one line of mountinfo to the folder of our group on that mount; false when it is another file system, or doesn't show it. */
static bool folder_on_mount(char *line, const char *controller, const char *own, char *ret, size_t size)
{
    char *save = NULL, *field[5] = {NULL};
    char *type = strstr(line, " - ");
    if (!type || !is_hierarchy(type + 3, controller))
        return false;
    *type = '\0';
    char *word = strtok_r(line, " ", &save);
    for (int i = 0; i < 5 && word; i++, word = strtok_r(NULL, " ", &save))
        field[i] = word;
    char *root = field[3], *mount = field[4];
    if (!mount)
        return false;
    unescape(root);
    unescape(mount);
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(own, root, len) != 0 || (own[len] != '/' && own[len] != '\0'))
        return false;
    int n = snprintf(ret, size, "%s%s", mount, own + len);
    if (n < 0 || (size_t)n >= size)
        return false;
    while (n > 1 && ret[n - 1] == '/')
        ret[--n] = '\0';
    return true;
}

/* ---- the home ---- */

/* Can a process be started in a group below this one? It is tried with a program that can't exist. */
static bool takes_processes(int dir)
{
    char name[] = "none";
    char *argv[] = {name, NULL}, *env[] = {NULL};
    pid_t pid;
    bool made = mkdirat(dir, "probe", 0755) == 0;
    int procs = openat(dir, "probe/cgroup.procs", O_WRONLY | O_CLOEXEC);
    struct spawn_request request = {
        .argv = argv, .env = env, .file = "/dev/null/none", .in = SPAWN_NULL, .out = SPAWN_NULL, .err = SPAWN_NULL,
        .keep_fd = SPAWN_NOTHING, .cgroups = &procs, .n_cgroups = 1,
    };
    bool works = procs >= 0 && spawn_process(&request, &pid, NULL) == -ENOTDIR;
    if (procs >= 0)
        close(procs);
    if (made)
        unlinkat(dir, "probe", AT_REMOVEDIR);
    return works;
}

/* The lock is on the folder itself. False when somebody has it, or the folder was removed meanwhile. */
static bool lock_folder(int dir, const char *path)
{
    struct stat ours, named;
    return flock(dir, LOCK_EX | LOCK_NB) == 0 && fstat(dir, &ours) == 0 && stat(path, &named) == 0
        && ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

static void clear_abandoned(const char *parent)
{
    DIR *folder = opendir(parent);
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) != 0)
            continue;
        int dir = open_folder(dirfd(folder), entry->d_name);
        if (dir < 0)
            continue;
        if (flock(dir, LOCK_EX | LOCK_NB) == 0)
            clear_away(dirfd(folder), entry->d_name, dir);
        close(dir);
    }
    closedir(folder);
}

/* Makes a folder of our own name in the parent, and locks it: -1 when it can't be made. */
static int make_own(const char *parent, char *ret, size_t size)
{
    for (int i = 0; i < TRIES; i++) {
        uint32_t number = 0;
        if (getrandom(&number, sizeof number, 0) != sizeof number)
            return -1;
        int n = snprintf(ret, size, "%s/" PREFIX "%08" PRIx32, parent, number);
        if (n < 0 || (size_t)n >= size - SLOT_NAME || (mkdir(ret, 0755) < 0 && errno != EEXIST))
            return -1;
        int dir = open_folder(AT_FDCWD, ret);
        if (dir < 0)
            continue;              /* another worker took it for abandoned before the lock was on it */
        if (lock_folder(dir, ret))
            return dir;
        close(dir);
    }
    return -1;
}

static bool find_parent(const char *controller, FILE *mounts, char *ret, size_t size)
{
    char own[PATH_MAX], *line = NULL;
    size_t room = 0;
    bool found = false;
    while (own_path(controller, own, sizeof own) == 0 && !found && getline(&line, &room, mounts) > 0)
        found = folder_on_mount(line, controller, own, ret, size);
    free(line);
    return found;
}

/* In the group that we are in, in the hierarchy that has the controller. Returns the lock, or -1. */
static int make_below_us(const char *controller, char *ret, size_t size)
{
    char parent[PATH_MAX];
    int lock = -1;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts && lock < 0 && find_parent(controller, mounts, parent, sizeof parent)) {
        clear_abandoned(parent);
        lock = make_own(parent, ret, size);
    }
    if (mounts)
        fclose(mounts);
    if (lock < 0)
        ret[0] = '\0';
    return lock;
}

static void find_home(struct cgroup_home *self)
{
    self->lock = make_below_us("", self->folder, sizeof self->folder);
    self->made = self->lock >= 0;
    if (self->lock >= 0 && !takes_processes(self->lock))
        cgroup_home_close(self);
}

static int use_folder(struct cgroup_home *self, const char *path, struct why *why)
{
    if (!put_path(self->folder, sizeof self->folder - SLOT_NAME, path))
        return why_set(why, "--cgroup: a path of %zu bytes is too long", strlen(path));
    self->made = mkdir(path, 0755) == 0;
    if (!self->made && errno != EEXIST)
        return why_set(why, "--cgroup %s: it can't be made: %s; give a folder in a cgroup2 file system where this user may make "
                       "groups, or auto, or off", path, strerror(errno));
    self->lock = open_folder(AT_FDCWD, path);
    if (self->lock < 0 || !is_cgroup2(self->lock))
        return why_set(why, "--cgroup %s: not a folder in a cgroup2 file system; mount one (mount -t cgroup2 none FOLDER) and give a "
                       "folder in it, or give auto, or off", path);
    if (!lock_folder(self->lock, path))
        return why_set(why, "--cgroup %s: another worker uses it; give each worker a folder of its own", path);
    if (!takes_processes(self->lock))
        return why_set(why, "--cgroup %s: no process can be put into a group below it; the folder, and what it has in common with the "
                       "group of the worker, must be writable for this user", path);
    clear_slots(self->lock);
    return 0;
}

int cgroup_home_open(struct cgroup_home *self, const char *where, struct why *why)
{
    *self = (struct cgroup_home){.lock = -1, .control_lock = {-1, -1}, .off = strcmp(where, "off") == 0};
    if (strcmp(where, "auto") == 0)
        find_home(self);
    else if (!self->off && use_folder(self, where, why) < 0) {
        cgroup_home_close(self);
        return -1;
    }
    return 0;
}

/* A controller of cgroup2 is handed down from group to group; ours has it when the one above us hands it down. */
static bool control_in_home(const struct cgroup_home *self, const char *name)
{
    char word[32], parent[PATH_MAX];
    if (self->lock < 0)
        return false;
    snprintf(word, sizeof word, "+%s", name);
    if (cgroup_write(self->lock, "cgroup.subtree_control", word) == 0)
        return true;
    snprintf(parent, sizeof parent, "%s", self->folder);
    *strrchr(parent, '/') = '\0';
    int above = self->made ? open_folder(AT_FDCWD, parent) : -1;
    bool works = above >= 0 && cgroup_write(above, "cgroup.subtree_control", word) == 0
              && cgroup_write(self->lock, "cgroup.subtree_control", word) == 0;
    if (above >= 0)
        close(above);
    return works;
}

int cgroup_home_control(struct cgroup_home *self, enum cgroup_control control, struct why *why)
{
    static const char *const names[CONTROLS] = {[CONTROL_MEMORY] = "memory", [CONTROL_PIDS] = "pids"};
    char *folder = self->control[control];
    if (folder[0] != '\0')
        return 0;
    if (self->off)
        return why_set(why, "it needs the %s controller of a control group, and with --cgroup off there are none; give auto or a folder",
                       names[control]);
    if (control_in_home(self, names[control])) {
        memcpy(folder, self->folder, sizeof self->folder);
        return 0;
    }
    self->control_lock[control] = make_below_us(names[control], folder, sizeof self->control[control]);
    if (self->control_lock[control] >= 0)
        return 0;
    return why_set(why, "no control group here gives this worker the %s controller, neither in cgroup2 nor in a hierarchy of its own; run "
                   "it as root, or in a systemd unit with Delegate=yes and --cgroup, or leave that limit out", names[control]);
}

static void close_home(const char *folder, int lock, bool remove)
{
    if (lock >= 0)
        clear_slots(lock);
    if (remove)
        rmdir(folder);
    if (lock >= 0)
        close(lock);
}

void cgroup_home_close(struct cgroup_home *self)
{
    close_home(self->folder, self->lock, self->made);
    for (int i = 0; i < CONTROLS; i++)
        if (self->control_lock[i] >= 0)
            close_home(self->control[i], self->control_lock[i], true);
    *self = (struct cgroup_home){.lock = -1, .control_lock = {-1, -1}};
}

/* ---- a slot's ---- */

int cgroup_slot_open(struct cgroup_slot *self, const char *folder)
{
    *self = (struct cgroup_slot){.dir = -1, .procs = -1, .events = -1};
    if (!put_path(self->folder, sizeof self->folder, folder))
        return -ENAMETOOLONG;
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return -errno;
    self->dir = open_folder(AT_FDCWD, folder);
    if (self->dir >= 0)
        self->procs = openat(self->dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (self->procs >= 0)
        self->events = openat(self->dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (self->events >= 0)
        return 0;
    int error = errno;
    cgroup_slot_close(self, true);
    return -error;
}

/* One word of cgroup.events; false when it can't be read: the group is gone, and so is what was in it. */
static bool event_says(const struct cgroup_slot *self, const char *line)
{
    char text[256];
    ssize_t len = self->events >= 0 ? pread(self->events, text, sizeof text - 1, 0) : -1;
    text[len > 0 ? len : 0] = '\0';
    return strstr(text, line) != NULL;
}

bool cgroup_slot_lives(struct cgroup_slot *self) { return event_says(self, "populated 1"); }

uint64_t cgroup_slot_cpu(const struct cgroup_slot *self) { return cgroup_number(self->dir, "cpu.stat", "usage_usec") * 1000; }

void cgroup_slot_each(const struct cgroup_slot *self, void (*each)(void *arg, pid_t pid), void *arg)
{
    const struct below below = {.each = each, .arg = arg};
    if (self->dir >= 0)
        walk_below(self->dir, &below);
}

void cgroup_slot_kill(struct cgroup_slot *self)
{
    if (self->dir < 0)
        return;
    if (!self->no_kill_file && cgroup_write(self->dir, "cgroup.kill", "1") == 0)
        return;
    self->no_kill_file = true;
    /* A frozen group forks no more, and its processes can still be killed. It takes a moment to freeze: hence again and again. */
    if (!self->freezing)
        self->freezing = cgroup_write(self->dir, "cgroup.freeze", "1") == 0;
    cgroup_slot_each(self, kill_one, NULL);
}

void cgroup_slot_tidy(struct cgroup_slot *self)
{
    const struct below removing = {.remove = true};
    struct stat about;
    if (self->dir < 0)
        return;
    if (self->freezing || event_says(self, "frozen 1"))
        cgroup_write(self->dir, "cgroup.freeze", "0");
    self->freezing = false;
    if (fstat(self->dir, &about) == 0 && about.st_nlink > 2)
        walk_below(self->dir, &removing);
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void cgroup_slot_close(struct cgroup_slot *self, bool remove)
{
    close_one(&self->events);
    close_one(&self->procs);
    close_one(&self->dir);
    if (remove && self->folder[0] != '\0')
        rmdir(self->folder);
    self->folder[0] = '\0';
}
