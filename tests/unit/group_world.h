/* For tests that need control groups: a cgroup2 file system on a folder of its own, in a mount namespace of this process, so
 * that nothing of it is seen outside or left behind. Without the rights for that, the groups that a worker would find. */
#ifndef TESTS_UNIT_GROUP_WORLD_H
#define TESTS_UNIT_GROUP_WORLD_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/cgroup.h"

struct group_world {
    char folder[64], freezer[80], base[96];     /* folder: where cgroup2 is mounted; freezer: v1, or empty; base: a home's parent */
    struct cgroup_home home;
};

static struct group_world groups = {.home = {.lock = -1, .control_lock = {-1, -1}}};

static inline bool groups_mount(void)
{
    snprintf(groups.folder, sizeof groups.folder, "/tmp/test-groups-XXXXXX");
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(groups.folder))
        return false;
    if (mount("tarmac-test", groups.folder, "cgroup2", 0, NULL) < 0) {
        rmdir(groups.folder);
        return false;
    }
    /* Beside it, for processes that can't be killed for a while. */
    snprintf(groups.freezer, sizeof groups.freezer, "%s-freezer", groups.folder);
    if (mkdir(groups.freezer, 0700) < 0 || mount("tarmac-test", groups.freezer, "cgroup", 0, "freezer") < 0) {
        rmdir(groups.freezer);
        groups.freezer[0] = '\0';
    }
    return true;
}

/* False: this machine gives no groups to this user; what needs them can't be shown here. */
static inline bool groups_open(void)
{
    struct why why;
    if (groups_mount()) {
        snprintf(groups.base, sizeof groups.base, "%s/tarmac-test-%d", groups.folder, (int)getpid());
        if (cgroup_home_open(&groups.home, groups.base, &why) == 0)
            return true;
    }
    groups.folder[0] = '\0';
    cgroup_home_open(&groups.home, "auto", &why);
    return groups.home.folder[0] != '\0';
}

static inline void groups_close(void)
{
    cgroup_home_close(&groups.home);
    if (groups.freezer[0] != '\0') {
        umount2(groups.freezer, MNT_DETACH);
        rmdir(groups.freezer);
    }
    if (groups.folder[0] != '\0') {
        umount2(groups.folder, MNT_DETACH);
        rmdir(groups.folder);
    }
}

static inline bool groups_write(const char *folder, const char *name, const char *word)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    return file && fputs(word, file) >= 0 && fclose(file) == 0;
}

#endif
