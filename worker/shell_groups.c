/* The worker's groups: see the header. */
#include "worker/shell_groups.h"

#include "common/log.h"

static bool is_limited(const struct handlers *handlers, enum limit_kind kind)
{
    bool limited = handlers->defaults.of[kind] != 0;
    for (size_t i = 0; i < handlers->n; i++)
        limited |= handlers->setups[i].limits.of[kind] != 0;
    return limited;
}

/* What can't be enforced is refused now, not when the first attempt runs over it. */
static int find_controls(struct cgroup_home *groups, const struct handlers *handlers, struct why *why)
{
    static const enum limit_kind of_control[CONTROLS] = {[CONTROL_MEMORY] = LIMIT_MEMORY, [CONTROL_PIDS] = LIMIT_PROCESSES};
    struct why detail;
    for (int i = 0; i < CONTROLS; i++)
        if (is_limited(handlers, of_control[i]) && cgroup_home_control(groups, (enum cgroup_control)i, &detail) < 0)
            return why_set(why, "--limit %s: %s", limit_name(of_control[i]), detail.text);
    return 0;
}

/* The kernel counts a process from its start to its end, not from task to task. */
static int check_persistent_cpu(const struct cgroup_home *groups, const struct handlers *handlers, struct why *why)
{
    for (size_t i = 0; i < handlers->n; i++)
        if (handlers->list[i].kind != AGENT_COMMAND && handlers->setups[i].limits.of[LIMIT_CPU] != 0 && groups->folder[0] == '\0')
            return why_set(why, "--limit cpu of handler %s, a process for many tasks: only the clock of a cgroup2 group can tell its tasks apart, and there is "
                           "none here; leave that limit out, or see --cgroup", handlers->list[i].name);
    return 0;
}

int shell_groups_open(struct cgroup_home *groups, const struct worker_config *config, struct why *why)
{
    const char *where = config->cgroup[0] != '\0' ? config->cgroup : "off";
    if (cgroup_home_open(groups, where, why) < 0)
        return -1;
    if (find_controls(groups, &config->handlers, why) < 0 || check_persistent_cpu(groups, &config->handlers, why) < 0)
        return -1;
    log_event(LOG_DEBUG, "slots_end", "by", groups->folder[0] != '\0' ? groups->folder : "session and /proc", NULL);
    return 0;
}
