#include "common/histogram.h"

static const uint64_t bounds[HISTOGRAM_BOUNDS] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 17500, 25000, 50000, 75000, 100000, 175000, 250000, 500000, 750000, 1000000, 2500000,
    5000000, 10000000, 30000000, 60000000, 300000000, 600000000, 1800000000, 3600000000,
};

uint64_t histogram_bound(size_t bucket)
{
    return bucket < HISTOGRAM_BOUNDS ? bounds[bucket] : UINT64_MAX;
}

void histogram_add(struct histogram *self, uint64_t us, uint64_t n)
{
    size_t low = 0, high = HISTOGRAM_BOUNDS;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bounds[middle] < us)
            low = middle + 1;
        else
            high = middle;
    }
    self->buckets[low] += n;
    self->sum_us += us * n;
}

void histogram_merge(struct histogram *self, const struct histogram *other)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        self->buckets[i] += other->buckets[i];
    self->sum_us += other->sum_us;
}

struct histogram histogram_since(const struct histogram *later, const struct histogram *earlier)
{
    struct histogram more = *later;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (later->buckets[i] < earlier->buckets[i])
            return *later;
        more.buckets[i] -= earlier->buckets[i];
    }
    more.sum_us = later->sum_us >= earlier->sum_us ? later->sum_us - earlier->sum_us : later->sum_us;
    return more;
}

uint64_t histogram_count(const struct histogram *self)
{
    uint64_t n = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        n += self->buckets[i];
    return n;
}

bool histogram_quantile(const struct histogram *self, double share, double *ret_us)
{
    uint64_t n = histogram_count(self), before = 0;
    if (n == 0)
        return false;
    double rank = share * (double)n;
    size_t i = 0;
    while (i < HISTOGRAM_BOUNDS && (double)(before + self->buckets[i]) < rank)
        before += self->buckets[i++];
    double low = i == 0 ? 0 : (double)bounds[i - 1];
    double high = i < HISTOGRAM_BOUNDS ? (double)bounds[i] : low;
    double inside = self->buckets[i] == 0 ? 0 : (rank - (double)before) / (double)self->buckets[i];
    *ret_us = low + (high - low) * (inside < 0 ? 0 : inside);
    return true;
}
