/* Takes a folder away with everything in it. */
#ifndef COMMON_REMOVE_TREE_H
#define COMMON_REMOVE_TREE_H

/* Blocks. Links are removed, not followed; what can't be removed stays. */
void remove_tree(const char *dir);

#endif
