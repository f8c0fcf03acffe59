#include "common/memory.h"
#include "sink/shell.h"

int main(int argc, char **argv)
{
    memory_keep();
    return shell_main(argc, argv);
}
