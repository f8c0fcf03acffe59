/* A histogram of durations with fixed bounds, from 100 µs to an hour: small enough to be kept per handler and batch,
 * and sent along with a heartbeat; fine enough for a percentile on a plot. Pure. */
#ifndef COMMON_HISTOGRAM_H
#define COMMON_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 26u
#define HISTOGRAM_BUCKETS (HISTOGRAM_BOUNDS + 1u)      /* the last one: longer than all bounds */

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];               /* each counts its own durations only */
    uint64_t sum_us;
};

/* The upper bound of a bucket, in microseconds; it is inclusive. UINT64_MAX for the last one. */
uint64_t histogram_bound(size_t bucket);
void histogram_add(struct histogram *self, uint64_t us, uint64_t n);
void histogram_merge(struct histogram *self, const struct histogram *other);
/* What `later` has more than `earlier`; all of it when the counts went back, since then it was begun anew. */
struct histogram histogram_since(const struct histogram *later, const struct histogram *earlier);
uint64_t histogram_count(const struct histogram *self);
/* An estimate in microseconds; share from 0 to 1. false: the histogram is empty. */
bool histogram_quantile(const struct histogram *self, double share, double *ret_us);

#endif
