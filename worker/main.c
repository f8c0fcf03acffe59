#include "worker/keeper.h"
#include "worker/shell.h"

int main(int argc, char **argv)
{
    return keeper_is_asked_for(argc, argv) ? keeper_main(argc, argv) : worker_main(argc, argv);
}
