/* The sentence that goes with a refusal: what, where, and what would be right. Functions that can
 * be refused by what a person typed, configured or sent take a `struct why *` (never NULL), leave
 * it alone on success, and fill it when they return a failure. */
#ifndef COMMON_WHY_H
#define COMMON_WHY_H

struct why {
    char text[400];
};

/* Sets the sentence (cut at the size) and returns -1, so that `return why_set(why, …)` reads well. */
int why_set(struct why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
