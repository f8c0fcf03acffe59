/* What a program prints on standard output with stdio, and whether it got there: a full disk shows when it is flushed, often only at
 * the end. Each main ends with output_end, so that nobody else has to look. */
#ifndef COMMON_OUTPUT_H
#define COMMON_OUTPUT_H

/* Flushes. 0, or the errno (-1: unknown) of the first write that failed. It is kept: nothing that is printed later makes the rest whole again. */
int output_flush(void);
/* What was lost until now is nobody's loss. */
void output_forget(void);
/* A program's exit code: `code`; instead of 0, when something was lost, EXIT_DISK, and a sentence says so. Whoever reads a pipe and has
 * seen enough is told nothing, and the code is 1. */
int output_end(const char *program, int code);

#endif
