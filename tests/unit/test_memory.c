/* Memory of long blocks stays with the process when they are given back, and what nobody has use for goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

#include "common/memory.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC true      /* a sanitizer's, which has other ways */
#else
#define OWN_MALLOC false
#endif

#define BLOCK ((size_t)1 << 20)
#define MOST 64

/* Takes so many blocks and gives them back; how much of that malloc still has. */
static size_t kept_of(size_t n)
{
    void *blocks[MOST];
    for (size_t i = 0; i < n; i++) {
        assert_non_null(blocks[i] = malloc(BLOCK));
        memset(blocks[i], 1, BLOCK);
    }
    for (size_t i = n; i > 0; i--)
        free(blocks[i - 1]);
    return OWN_MALLOC ? 0 : mallinfo2().keepcost;
}

static void long_blocks_stay(void **state)
{
    (void)state;
    memory_keep();
    size_t kept = kept_of(16);
    assert_true(OWN_MALLOC || kept >= 16 * BLOCK);
}

static void no_more_than_promised_stays(void **state)
{
    (void)state;
    memory_keep();
    assert_true(kept_of(MOST) <= MEMORY_KEPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_blocks_stay),
        cmocka_unit_test(no_more_than_promised_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
