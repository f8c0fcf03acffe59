/* What malloc does with memory that is given back. It belongs to the whole process: for the programs, not for libtarmac. */
#ifndef COMMON_MEMORY_H
#define COMMON_MEMORY_H

/* Before the first thread: the last MEMORY_KEPT bytes that each of malloc's heaps has free stay with the process. What was taken
 * once is not more for that; an idle process keeps what its largest bodies needed. */
#define MEMORY_KEPT (32 << 20)
void memory_keep(void);

#endif
