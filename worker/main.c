#include "common/memory.h"
#include "worker/keeper.h"
#include "worker/plugin_host.h"
#include "worker/shell.h"

int main(int argc, char **argv)
{
    if (plugin_host_is_asked_for(argc, argv))
        return plugin_host_main(argc, argv);
    if (keeper_is_asked_for(argc, argv))
        return keeper_main(argc, argv);
    memory_keep();
    return worker_main(argc, argv);
}
