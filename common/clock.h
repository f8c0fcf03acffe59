/* Clocks. Boot time (CLOCK_BOOTTIME, counts while suspended) rules everything inside;
 * wall time is for people and for the journal's reboot rule only. They are two types,
 * so that they can't be mixed; durations are plain int64_t nanoseconds. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct { int64_t ns; } mono_t;   /* CLOCK_BOOTTIME */
typedef struct { int64_t ns; } wall_t;   /* CLOCK_REALTIME, since 1970 */

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

/* "At no time": later than every other mono_t. */
#define MONO_NEVER ((mono_t){INT64_MAX})

mono_t mono_now(void);
wall_t wall_now(void);

/* "2026-03-01 12:00:05 UTC", for people. Returns out. */
const char *wall_text(wall_t t, char out[32]);

/* t + ns, saturating: MONO_NEVER stays MONO_NEVER, and an overflow becomes it. ns may be negative. */
mono_t mono_add(mono_t t, int64_t ns);

static inline int64_t mono_since(mono_t later, mono_t earlier) { return later.ns - earlier.ns; }
static inline bool mono_before(mono_t a, mono_t b) { return a.ns < b.ns; }
static inline bool mono_reached(mono_t now, mono_t at) { return now.ns >= at.ns; }
static inline bool mono_is_never(mono_t t) { return t.ns == INT64_MAX; }
static inline mono_t mono_min(mono_t a, mono_t b) { return a.ns <= b.ns ? a : b; }

/* The kernel's boot id (36 characters and a NUL); an empty string when it can't be read. */
void boot_id(char out[37]);

#endif
